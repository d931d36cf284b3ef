"""An embedded, ordered, crash-safe LSM key-value store in pure Python."""

from streambus_storage._version import __version__

__all__ = ["__version__"]
