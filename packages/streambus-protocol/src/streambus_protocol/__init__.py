"""The StreamBus wire protocol: frames, messages and record batches, without I/O."""

from streambus_protocol._version import __version__

__all__ = ["__version__"]
