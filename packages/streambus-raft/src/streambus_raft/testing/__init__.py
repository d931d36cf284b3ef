"""Testing what is built on this package: a deterministic simulation of a whole cluster."""

from streambus_raft.testing._disk import SimulatedDisk

__all__ = ["SimulatedDisk"]
