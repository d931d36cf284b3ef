"""A node whose storage has no room stands still, others lead, and it goes on by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from streambus_raft import MemoryLogStorage
from streambus_raft.errors import (
    NotLeaderError,
    ProposalUnknownError,
    RaftError,
    StorageFullError,
)
from tests.raft.servers import BACKENDS, Cluster, put, run, running, until

if TYPE_CHECKING:
    from streambus_raft import RaftServer, Write


class Small(MemoryLogStorage):
    """Takes writes as long as it is not full."""

    full = False
    refused = 0

    def write(self, write: Write) -> None:
        if self.full:
            self.refused += 1
            raise StorageFullError("not a byte is left")
        super().write(write)


async def started(cluster: Cluster) -> dict[int, Small]:
    """Start three servers with storages that may be filled."""
    disks = {node: Small(100 + node) for node in (1, 2, 3)}
    cluster.make_storage = lambda node: disks[node]
    for node in (1, 2, 3):
        await cluster.start(node)
    return disks


def stands_still(server: RaftServer) -> bool:
    return server.metrics().full is not None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_leader_without_room_leads_no_more_and_goes_on_when_there_is(backend: str) -> None:
    async def test() -> None:
        async with running(0) as cluster:
            disks = await started(cluster)
            leader = await cluster.leader()
            await leader.propose(put("a", 1))
            disk = disks[leader.node_id]
            disk.full = True
            with pytest.raises(ProposalUnknownError, match="not a byte is left"):
                await leader.propose(put("a", 2))
            assert stands_still(leader)
            assert (leader.leadership.leader, leader.leadership.is_leader) == (None, False)
            with pytest.raises(StorageFullError) as caught:
                await leader.propose(put("a", 3))
            assert caught.value.retriable
            with pytest.raises(StorageFullError):
                await leader.read("a")
            others = [each for each in cluster.servers.values() if each is not leader]
            await until(lambda: any(each.leadership.is_leader for each in others))
            successor = next(each for each in others if each.leadership.is_leader)
            await successor.propose(put("a", 4))
            assert stands_still(leader)
            await until(lambda: disk.refused > 3)
            disk.full = False
            machine = cluster.machines[leader.node_id]
            await until(lambda: machine.values["a"] == 4)
            assert not stands_still(leader)
            assert await leader.read("a") == 4
            await successor.propose(put("a", 5))
            await until(lambda: machine.values["a"] == 5)
            assert leader.metrics().failure is None

    run(test, backend)


def test_a_follower_without_room_catches_up_later() -> None:
    async def test() -> None:
        async with running(0, keep_entries=0) as cluster:
            disks = await started(cluster)
            leader = await cluster.leader()
            follower = await cluster.follower()
            disks[follower.node_id].full = True
            for number in range(20):
                await leader.propose(put("a", number))
            await until(lambda: stands_still(follower))
            with pytest.raises(StorageFullError):
                await follower.propose(put("a", 0))
            assert follower.leadership.leader is None
            await leader.take_snapshot()  # what it lacks is in no log any more
            disks[follower.node_id].full = False
            machine = cluster.machines[follower.node_id]
            await until(lambda: machine.values.get("a") == 19)
            assert follower.leadership.leader is not None

    run(test)


def test_without_room_anywhere_nothing_is_lost() -> None:
    async def test() -> None:
        async with running(0) as cluster:
            disks = await started(cluster)
            leader = await cluster.leader()
            await leader.propose(put("a", 1))
            for disk in disks.values():
                disk.full = True
            with pytest.raises(ProposalUnknownError):
                await leader.propose(put("a", 2))
            await until(lambda: all(map(stands_still, cluster.servers.values())))
            for disk in disks.values():
                disk.full = False
            with anyio.fail_after(20):
                while True:
                    try:
                        await (await cluster.leader()).propose(put("b", 1))
                        break
                    except (NotLeaderError, StorageFullError, ProposalUnknownError):
                        await anyio.sleep(0.01)
            values = [machine.values for machine in cluster.machines.values()]
            await until(lambda: all(each.get("b") == 1 for each in values))
            assert len({each["a"] for each in values}) == 1

    run(test)


def test_a_failure_while_there_is_no_room_is_final() -> None:
    async def test() -> None:
        async with running(0) as cluster:
            disks = await started(cluster)
            leader = await cluster.leader()
            disks[leader.node_id].full = True
            with pytest.raises(ProposalUnknownError):
                await leader.propose(put("a", 2))
            leader._engine.driver.fail(RaftError("the disk has gone"))
            disks[leader.node_id].full = False
            assert "the disk has gone" in str(await leader.wait_failed())
            with pytest.raises(RaftError, match="the disk has gone"):
                await leader.propose(put("a", 3))

    run(test)
