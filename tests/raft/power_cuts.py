"""Whole servers on disks that lose power at any call: what was acknowledged is there, once.

Everything but the disks is the real thing: server, session, forwarding, file storage, snapshots.
``hatch run simulate raft --servers`` plays it under virtual time, seed after seed; there a sync
takes a while, and is heard of a while later.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import msgpack

from streambus_raft import FileLogStorage, SessionRequest
from streambus_raft.errors import RaftError, StorageError
from streambus_raft.testing import PowerCut, SimulatedFileSystem
from tests.raft.servers import Cluster, Register, innermost, until
from tests.support.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CLIENTS = 3
NODES = (1, 2, 3)
MORE_ACKNOWLEDGED = 20
"""So much has to be done when all have their power back, however slow the machine."""
SYNC_SECONDS_MAX = 0.01
HEARD_SECONDS_MAX = 0.005
REST_SECONDS_MAX = 600.0
"""Virtual; beyond this a cluster that has power again is stuck."""


class Journal(Register):
    """Keeps every command in the order in which it was applied."""

    def __init__(self) -> None:
        super().__init__()
        self.journal: list[bytes] = []

    def apply(self, index: int, commands: Sequence[bytes]) -> list[Any]:
        assert not self.indexes or index > self.indexes[-1]
        self.indexes.append(index)
        self.journal += commands
        return [len(self.journal)] * len(commands)

    def query(self, query: Any) -> Any:
        return len(self.journal)

    def snapshot(self) -> Iterable[bytes]:
        return [msgpack.packb(self.journal)]

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.journal = msgpack.unpackb(b"".join(chunks))


class SlowlySynced(FileLogStorage):
    """Syncs on the event loop, after a while, and tells so another while later."""

    def __init__(self, random: Random, **options: Any) -> None:
        super().__init__("/log", **options)
        self._random = random
        self._loop = asyncio.get_running_loop()
        self._asked: list[Callable[[StorageError | None], None]] = []
        self._at_it = False

    def sync_soon(self, done: Callable[[StorageError | None], None]) -> None:
        """See ``SelfSyncing``."""
        self._asked.append(done)
        if not self._at_it:
            self._begin()

    def _begin(self) -> None:
        self._at_it = bool(self._asked)
        if self._at_it:
            self._loop.call_later(self._random.uniform(0, SYNC_SECONDS_MAX), self._sync_now)

    def _sync_now(self) -> None:
        asked, self._asked = self._asked, []
        failure: StorageError | None = None
        try:
            self.sync()
        except StorageError as exc:
            failure = exc
        except PowerCut as exc:
            failure = StorageError(f"sync failed: {exc!r}")
        delay = self._random.uniform(0, HEARD_SECONDS_MAX)
        self._loop.call_later(delay, self._tell, asked, failure)

    def _tell(
        self, asked: list[Callable[[StorageError | None], None]], failure: StorageError | None
    ) -> None:
        for done in asked:
            done(failure)
        self._begin()


class CrashingCluster(Cluster):
    """Closing a storage without power fails, which is no news."""

    async def _run(self, node: int, server: Any, *, task_status: Any) -> None:
        try:
            await super()._run(node, server, task_status=task_status)
        except BaseException as exc:
            if not isinstance(innermost(exc), PowerCut):
                raise


class Trial:
    """One cluster, its disks, its clients and the one who pulls the plugs."""

    def __init__(self, seed: int, cluster: Cluster, *, virtual: bool) -> None:
        self.random = Random(seed)
        self.cluster = cluster
        self.disks = {node: SimulatedFileSystem(Random(seed * 10 + node)) for node in NODES}
        self.acknowledged: list[bytes] = []
        self.cuts = 0
        cluster.make_machine = lambda _node: Journal()
        cluster.make_storage = self._open_slowly if virtual else self._open

    def _open(self, node: int) -> FileLogStorage:
        disk = self.disks[node]
        return FileLogStorage("/log", node_id=node, segment_bytes=4096, files=disk)

    def _open_slowly(self, node: int) -> FileLogStorage:
        random = Random(self.random.getrandbits(60))
        disk = self.disks[node]
        return SlowlySynced(random, node_id=node, segment_bytes=4096, files=disk)

    async def ask(self, command: bytes, request: SessionRequest) -> Any:
        """Ask one server after the other until there is an answer."""
        while True:
            servers = list(self.cluster.servers.values())
            if servers:
                server = self.random.choice(servers)
                with suppress(RaftError), anyio.move_on_after(0.5):
                    return await server.propose(command, request=request)
            await anyio.sleep(0.01)

    async def client(self, name: int) -> None:
        session = await self.ask(b"", SessionRequest(0, 1_000_000, 0))
        sequence = 0
        while True:
            sequence += 1
            command = b"%d-%d" % (name, sequence)
            await self.ask(command, SessionRequest(session, sequence, sequence))
            self.acknowledged.append(command)

    async def pull_plugs(self) -> None:
        """Cut the power of one machine, or now and then of all, soon; then put it back.

        Meanwhile another one, or the same, may be cut off from the others.
        """
        while True:
            self.cluster.network.heal()
            if self.random.random() < 0.3:
                self.cluster.network.isolate(self.random.choice(NODES))
            await anyio.sleep(self.random.uniform(0.05, 0.3))
            nodes = NODES if self.random.random() < 0.2 else (self.random.choice(NODES),)
            for node in nodes:
                disk = self.disks[node]
                disk.cut_at = disk.calls + self.random.randint(1, 15)
            for node in nodes:
                with anyio.move_on_after(0.5):
                    await self.cluster.servers[node].wait_failed()
            with anyio.CancelScope(shield=True):
                for node in nodes:
                    await self.restart(node)

    async def restart(self, node: int) -> None:
        await self.cluster.stop(node)
        self.disks[node].power_cut()
        self.cuts += 1
        await self.cluster.start(node)

    async def run(self, seconds: float) -> None:
        """Work under power cuts for a while, then without, and then see what is there.

        Raises:
            AssertionError: something acknowledged is gone, or something was applied twice.
        """
        for node in NODES:
            await self.cluster.start(node)
        async with anyio.create_task_group() as group:
            for name in range(CLIENTS):
                group.start_soon(self.client, name)
            with anyio.CancelScope() as plugs:
                plugs.deadline = anyio.current_time() + seconds
                await self.pull_plugs()
            self.cluster.network.heal()
            for node in NODES:  # all come back, whatever state the plugs left them in
                await self.restart(node)
            goal = len(self.acknowledged) + MORE_ACKNOWLEDGED
            await until(lambda: len(self.acknowledged) >= goal)
            group.cancel_scope.cancel()
        await agree(self.cluster, self)


async def agree(cluster: Cluster, trial: Trial) -> None:
    """All nodes applied the same, everything acknowledged is there, and nothing is there twice."""
    leader = await cluster.leader()
    while True:
        with suppress(RaftError):
            last = await leader.propose(b"last")
            break
        leader = await cluster.leader()
    machines = [machine for machine in cluster.machines.values() if isinstance(machine, Journal)]
    await until(lambda: all(len(machine.journal) >= last for machine in machines))
    journal = machines[0].journal
    assert all(machine.journal == journal for machine in machines), "the nodes disagree"
    commands = [command for command in journal if command != b"last"]
    assert len(commands) == len(set(commands)), "a command was applied twice"
    gone = set(trial.acknowledged) - set(commands)
    assert not gone, f"acknowledged and gone: {sorted(gone)}"


async def play(seed: int, seconds: float, *, virtual: bool) -> Trial:
    """One trial on the event loop that runs."""
    async with anyio.create_task_group() as outer:
        cluster = CrashingCluster(
            outer, forward=True, snapshot_log_bytes=3000, keep_entries=3, patience_ticks=20
        )
        trial = Trial(seed, cluster, virtual=virtual)
        await trial.run(seconds)
        outer.cancel_scope.cancel()
    return trial


class PowerReport(NamedTuple):
    """What happened in a trial that held."""

    seconds: float
    """Virtual."""
    cuts: int
    acknowledged: int


def simulate(seed: int, seconds: float = 4.0) -> PowerReport:
    """One trial under virtual time; the same seed gives the same trial.

    Raises:
        AssertionError: something acknowledged is gone, or something was applied twice.
        TimeoutError: the cluster does not come to rest with all power back.
    """
    simulation = Simulation(seed)

    async def main() -> Trial:
        return await play(seed, seconds, virtual=True)

    trial = simulation.run(main, limit_s=seconds + REST_SECONDS_MAX)
    return PowerReport(simulation.loop.time(), trial.cuts, len(trial.acknowledged))
