"""Move from Apache Kafka to StreamBus: convert configurations, and say what became of each key."""

from streambus_migrate._version import __version__

__all__ = ["__version__"]
