"""Raft consensus for any Python program that has a state machine to replicate."""

from streambus_raft._version import __version__

__all__ = ["__version__"]
