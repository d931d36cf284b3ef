"""Convert Kafka configuration: what becomes of each key, and the StreamBus settings that result.

Start with `rules` (what can become of a key), then one of the tables (``topic_keys`` is the
shortest), then `conversion` (entries and a table in, findings out, without I/O). `properties` reads
files, `report` writes.
"""
