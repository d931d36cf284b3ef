"""The four doors from one seed, and what is left of them after a power cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streambus_storage import Options
from streambus_storage.testing._clock import SimulatedClock
from streambus_storage.testing._disk import CutMode, SimulatedFileSystem
from streambus_storage.testing._random import random_source
from streambus_storage.testing._scheduler import SimulatedScheduler

if TYPE_CHECKING:
    import random


class SimulatedWorld:
    """One machine: a disk, a scheduler, a clock and a source of randomness.

    Args:
        seed: everything random in this world derives from it.
        disk: a disk to start from; by default an empty one.
        eagerness: see `SimulatedScheduler`.
    """

    def __init__(
        self, seed: int = 0, *, disk: SimulatedFileSystem | None = None, eagerness: float = 1.0
    ) -> None:
        self.seed = seed
        self.disk = disk if disk is not None else SimulatedFileSystem()
        self.clock = SimulatedClock()
        self.scheduler = SimulatedScheduler(seed, clock=self.clock, eagerness=eagerness)
        self.random: random.Random = random_source(seed, "world")
        self._salts = random_source(seed, "storage")

    def options(self, **others: Any) -> Options:
        """Options with this world's doors; ``others`` are passed on to `Options`."""
        return Options(
            file_system=self.disk, scheduler=self.scheduler, randomness=self._salts, **others
        )

    def power_cut(self, mode: CutMode = "random", *, seed: int | None = None) -> SimulatedWorld:
        """The same machine after the power went and came back: no process, no lock, a new clock.

        This world is not changed, so one run can be cut at every call.

        Args:
            mode: what happens to what was not synced; see `SimulatedFileSystem.power_cut`.
            seed: draws the fate of each block and name; by default from this world's source.
        """
        seed = self.random.getrandbits(32) if seed is None else seed
        disk = self.disk.power_cut(random_source(seed, "cut"), mode)
        return SimulatedWorld(seed, disk=disk, eagerness=self.scheduler.eagerness)

    def process_kill(self) -> SimulatedWorld:
        """The same machine after the process alone has died; see the disk's `process_kill`."""
        return SimulatedWorld(
            self.random.getrandbits(32),
            disk=self.disk.process_kill(),
            eagerness=self.scheduler.eagerness,
        )
