"""What runs while a server runs: one task that drives, one that ticks, and what is begun by them.

Callers put what they want into bookkeeping and wait; one task, woken at most once per loop turn,
runs ``Driver.turn``, which does everything that does not block. Beside it run a clock that ticks,
the transport's tasks, a thread that syncs the storage (if the storage needs one), and now and then
a thread that writes or restores a snapshot. Everything else is on the loop's thread, so nothing
here is locked.
"""

from __future__ import annotations

import random as random_module
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from streambus_raft._core import RaftCore
from streambus_raft._driver import Driver
from streambus_raft._event_loop import Signal, run_blocking, running_event_loop
from streambus_raft._persister import Persister
from streambus_raft._proposals import Proposals
from streambus_raft._replica import Replica
from streambus_raft._snapshotting import Snapshotting
from streambus_raft._types import NUMBER_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from random import Random

    from anyio.abc import TaskGroup

    from streambus_raft._config import Config
    from streambus_raft._state_machine import StateMachine
    from streambus_raft._storage import LogStorage, SnapshotMeta
    from streambus_raft._transport import Transport
    from streambus_raft._watch import Watch

TICKS_AT_ONCE_MAX = 2
"""After a pause of the whole process only so many ticks are made up for: a node must not campaign,
or give up its office, before it has read what arrived while it slept."""


class Engine:
    """One life of one node; made on the event loop that it will run on.

    Args:
        config: The core's settings.
        state_machine: What is replicated.
        storage: The log, begun.
        transport: The network.
        watch: Who is to be woken by changes.
        random: Where this life draws its own randomness from.
        forward: Whether proposals are sent on to the leader.
        snapshot_log_bytes: A snapshot is taken when so much was applied; 0 for never.
        keep_entries: How many entries before a snapshot stay in the log.
        patience_ticks: How long a forwarded proposal, and a read without a leader, may wait.
        clock: What leases are measured by; None for the event loop's time.

    Attributes:
        loop: The event loop.
        clock: What leases are measured by, seconds.
        signal: To be set when there is something to do for the driver.
        driver: The core and everything around it.
        proposals: Who waits for what.
        replica: The state.
        snapshotting: The snapshots.
    """

    def __init__(
        self,
        config: Config,
        state_machine: StateMachine,
        storage: LogStorage,
        transport: Transport,
        watch: Watch,
        random: Random,
        *,
        forward: bool,
        snapshot_log_bytes: int,
        keep_entries: int,
        patience_ticks: int,
        clock: Callable[[], float] | None,
    ) -> None:
        # No two lives of a node may draw alike, even from one seed: an entry or an answer that was
        # meant for the earlier life would find a caller of this one.
        life = f"{random.getrandbits(64)} {anyio.current_time()}"
        chance = random_module.Random(life)  # noqa: S311 - election timeouts and tickets, no secret
        self.loop = running_event_loop()
        self.clock = clock or self.loop.time
        self.signal = Signal(self.loop)
        self.replica = Replica(state_machine)
        self.proposals = Proposals(config.node_id, chance.randrange(1, NUMBER_MAX // 2))
        self.driver = Driver(
            RaftCore(config, storage, chance),
            storage,
            transport,
            self.replica,
            self.proposals,
            self.signal,
            forward=forward,
            patience_ticks=patience_ticks,
            sent_on_bytes_max=config.uncommitted_bytes_max,
            on_standing=watch.note,
            on_restore=self._begin_restore,
        )
        self.snapshotting = Snapshotting(self.driver, self.replica, storage, keep_entries)
        self._storage = storage
        self._transport = transport
        self._watch = watch
        self._tick_seconds = config.tick_seconds
        self._snapshot_log_bytes = snapshot_log_bytes
        self._group: TaskGroup

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run until the context is left; whoever still waits then is told."""
        persister = Persister(self._storage, self.loop, self.driver.persisted)
        self.driver.persister = persister
        try:
            carrying = self._transport.running(self.driver)
            async with carrying, anyio.create_task_group() as group:
                self._group = group
                group.start_soon(self._drive)
                group.start_soon(self._tick)
                try:
                    yield
                finally:
                    self.driver.release_all("it was stopped")
                    self._watch.wake()
                    group.cancel_scope.cancel()
        finally:
            await run_blocking(persister.stop)

    async def _drive(self) -> None:
        """The one task that drives everything."""
        driver, signal, snapshotting = self.driver, self.signal, self.snapshotting
        limit = self._snapshot_log_bytes
        while True:
            driver.turn()
            if driver.failure is not None:  # whatever it changed of this node's standing, or not
                self._watch.wake()
            if limit and driver.applied_bytes >= limit and not snapshotting.is_busy:
                self._group.start_soon(snapshotting.save_quietly)
            await signal.wait()

    async def _tick(self) -> None:
        length, time, sleep = self._tick_seconds, self.loop.time, self.loop.sleep
        due = time() + length
        while True:
            await sleep(max(0.0, due - time()))
            now = time()
            missed = max(0, int((now - due) / length))
            self.driver.tick(self.clock(), min(1 + missed, TICKS_AT_ONCE_MAX))
            due += (1 + missed) * length

    def _begin_restore(self, meta: SnapshotMeta) -> None:
        self._group.start_soon(self.snapshotting.restore, meta)
