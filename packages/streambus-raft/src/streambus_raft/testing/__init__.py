"""Testing what is built on this package: a deterministic simulation of a whole cluster."""

from streambus_raft._simulated_files import PowerCut, SimulatedFileSystem
from streambus_raft.testing._disk import SimulatedDisk
from streambus_raft.testing._kernel import Kernel
from streambus_raft.testing._linearizability import FOREVER, Operation, find_violation
from streambus_raft.testing._oracle import BreachError
from streambus_raft.testing._plan import Plan, plan_of
from streambus_raft.testing._simulation import Report, Simulation, StuckError
from streambus_raft.testing._trace import TraceLine, format_message, format_trace

__all__ = [
    "FOREVER",
    "BreachError",
    "Kernel",
    "Operation",
    "Plan",
    "PowerCut",
    "Report",
    "SimulatedDisk",
    "SimulatedFileSystem",
    "Simulation",
    "StuckError",
    "TraceLine",
    "find_violation",
    "format_message",
    "format_trace",
    "plan_of",
]
