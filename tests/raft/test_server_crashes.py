"""Servers on disks that lose power at any call: what was acknowledged is there, exactly once."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import msgpack
import pytest

from streambus_raft import FileLogStorage, SessionRequest
from streambus_raft.errors import RaftError
from streambus_raft.testing import PowerCut, SimulatedFileSystem
from tests.raft.servers import Cluster, Register, innermost, run, running, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CLIENTS = 3
SECONDS = 1.5


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


class Trial:
    """One cluster, its disks, its clients and the one who pulls the plugs."""

    def __init__(self, seed: int, cluster: Cluster) -> None:
        self.random = Random(seed)
        self.cluster = cluster
        self.disks = {node: SimulatedFileSystem(Random(seed * 10 + node)) for node in (1, 2, 3)}
        self.acknowledged: list[bytes] = []
        self.cuts = 0
        cluster.make_machine = lambda _node: Journal()
        cluster.make_storage = lambda node: FileLogStorage(
            "/log", node_id=node, segment_bytes=4096, files=self.disks[node]
        )

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
        while True:
            await anyio.sleep(self.random.uniform(0.05, 0.3))
            node = self.random.choice((1, 2, 3))
            disk = self.disks[node]
            disk.cut_at = disk.calls + self.random.randint(1, 15)
            with anyio.move_on_after(0.5):
                await self.cluster.servers[node].wait_failed()
            with anyio.CancelScope(shield=True):
                await self.restart(node)

    async def restart(self, node: int) -> None:
        await self.cluster.stop(node)
        self.disks[node].power_cut()
        self.cuts += 1
        await self.cluster.start(node)


class CrashingCluster(Cluster):
    """Closing a storage without power fails, which is no news."""

    async def _run(self, node: int, server: Any, *, task_status: Any) -> None:
        try:
            await super()._run(node, server, task_status=task_status)
        except BaseException as exc:
            if not isinstance(innermost(exc), PowerCut):
                raise


@pytest.mark.parametrize("seed", range(3))
def test_power_cuts_lose_nothing_that_was_acknowledged(seed: int) -> None:
    async def test() -> None:
        async with anyio.create_task_group() as outer:
            cluster = CrashingCluster(
                outer, forward=True, snapshot_log_bytes=3000, keep_entries=3, patience_ticks=20
            )
            trial = Trial(seed, cluster)
            for node in (1, 2, 3):
                await cluster.start(node)
            async with anyio.create_task_group() as group:
                for name in range(CLIENTS):
                    group.start_soon(trial.client, name)
                with anyio.CancelScope() as plugs:
                    plugs.deadline = anyio.current_time() + SECONDS
                    await trial.pull_plugs()
                group.cancel_scope.cancel()
            for node in (1, 2, 3):  # all come back, whatever state the plugs left them in
                await trial.restart(node)
            await agree(cluster, trial)
            assert trial.cuts > 1
            assert len(trial.acknowledged) > 10
            outer.cancel_scope.cancel()

    try:
        run(test, seconds=40)
    except BaseException as exc:
        exc.add_note(f"seed {seed}")
        raise


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
    assert all(machine.journal == journal for machine in machines)
    commands = [command for command in journal if command != b"last"]
    assert len(commands) == len(set(commands)), "a command was applied twice"
    assert set(trial.acknowledged) <= set(commands), "an acknowledged command is gone"


def test_the_trial_notices_a_command_that_is_applied_twice() -> None:
    async def test() -> None:
        async with running(0) as cluster:
            trial = Trial(0, cluster)
            await cluster.start(1, (1,))
            server = await cluster.leader()
            for _ in range(2):
                await server.propose(b"twice")  # without a session
            with pytest.raises(AssertionError, match="applied twice"):
                await agree(cluster, trial)

    run(test)
