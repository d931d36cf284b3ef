"""Simulated doors: test your own crash safety without a disk, a thread or a clock.

Start here: `SimulatedWorld` puts the four doors together from one seed.

    from streambus_storage import LSMTree
    from streambus_storage.testing import SimulatedWorld

    world = SimulatedWorld(seed=1)
    tree = LSMTree.open("/db", world.options())
    tree.put(b"safe", b"1", sync=True)
    tree.put(b"lost", b"2")
    after = world.power_cut("drop")          # another world: the disk as it is after the cut
    assert dict(LSMTree.open("/db", after.options()).scan()) == {b"safe": b"1"}

The doors one by one: `SimulatedFileSystem` loses, reorders and tears what was not synced, fills
up, fails any call on request and damages bytes; `SimulatedScheduler` runs background work inline
and in a chosen order; `SimulatedClock` moves only when told; `random_source` derives independent
random streams from one seed. The same seed gives the same trace, always.
"""

from streambus_storage.testing._clock import SimulatedClock
from streambus_storage.testing._disk import CUT_MODES, PowerCut, SimulatedFileSystem
from streambus_storage.testing._faults import Call, Fault
from streambus_storage.testing._random import random_source
from streambus_storage.testing._scheduler import DeadlockError, SimulatedScheduler
from streambus_storage.testing._world import SimulatedWorld

__all__ = [
    "CUT_MODES",
    "Call",
    "DeadlockError",
    "Fault",
    "PowerCut",
    "SimulatedClock",
    "SimulatedFileSystem",
    "SimulatedScheduler",
    "SimulatedWorld",
    "random_source",
]
