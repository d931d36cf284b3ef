"""Configuration: one typed table of settings for the broker, one for topics.

Start with `streambus_broker.config.table` (what a setting is), then `broker` and `topics` (the two
tables), then `loading` (file, environment and flags, in growing strength).

Why not pydantic-settings: importing it takes about 0.45 s on the reference machine, and the whole
start, from exec to the first acknowledged record, may take 0.5 s. The tables here are plain
dataclasses whose fields carry range, unit and help; they load in a millisecond.
"""

from streambus_broker.config.broker import BrokerConfig
from streambus_broker.config.loading import LoadedConfig, load_config
from streambus_broker.config.topics import TopicSettings

__all__ = ["BrokerConfig", "LoadedConfig", "TopicSettings", "load_config"]
