"""A whole cluster in one process, under virtual time: loop, network, processes and clocks.

Start here: `Simulation` owns one seeded source of randomness, a `SimulatedLoop` whose time advances
only when nothing is left to do, a `SimulatedNetwork` behind ``create_server`` and
``create_connection``, and the `SimulatedProcess`es that can be killed at any point. Code on anyio
or asyncio runs on it unchanged; the same seed gives the same trace. The simulated file system
belongs to ``streambus_storage.testing``.
"""

from tests.support.simulation.loop import SimulatedLoop, SimulationError
from tests.support.simulation.network import Faults, SimulatedNetwork
from tests.support.simulation.process import SimulatedProcess, current_process
from tests.support.simulation.world import Simulation

__all__ = [
    "Faults",
    "SimulatedLoop",
    "SimulatedNetwork",
    "SimulatedProcess",
    "Simulation",
    "SimulationError",
    "current_process",
]
