"""The StreamBus broker: durable topics on an embedded storage engine, one node or a cluster."""

from streambus_broker._version import __version__

__all__ = ["__version__"]
