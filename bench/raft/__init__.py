"""The parts of ``hatch run bench raft``."""
