"""Producer, consumer and admin clients for StreamBus, blocking and async; the command line."""

from streambus_client._version import __version__

__all__ = ["__version__"]
