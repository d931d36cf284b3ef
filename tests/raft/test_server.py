"""The server on real event loops: proposals, reads, leadership, membership, snapshots."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streambus_raft import (
    Change,
    ChangeKind,
    Config,
    MemoryLogStorage,
    MemoryNetwork,
    NodeId,
    RaftServer,
)
from streambus_raft._collector import Collector, Slot
from streambus_raft._proposals import Proposals
from streambus_raft.errors import (
    BusyError,
    ConfigError,
    MembershipError,
    NotLeaderError,
    ProposalDroppedError,
    ProposalTooLargeError,
    ProposalUnknownError,
    StoppedError,
    TransferError,
)
from tests.raft.servers import BACKENDS, Register, put, run, running, until

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.mark.parametrize("backend", BACKENDS)
def test_propose_and_read_on_every_event_loop(backend: str) -> None:
    async def test() -> None:
        async with running(forward=True) as cluster:
            leader, follower = await cluster.leader(), await cluster.follower()
            assert await leader.propose(put("a", 1)) == [0, None]
            assert await follower.propose(put("a", 2)) == [1, 1]
            assert await leader.read("a") == await follower.read("a") == 2
            assert await leader.read("a", lease=True) == 2
            assert await leader.propose_many([put("a", n) for n in range(5)]) == [
                [2, 2], [3, 0], [4, 1], [5, 2], [6, 3]
            ]  # fmt: skip
            assert await leader.propose_many([]) == []
            await until(lambda: all(m.count == 7 for m in cluster.machines.values()))
            assert follower.read_local("a") == 4

    run(test, backend)


def test_a_proposal_for_a_term_goes_to_no_other_leader() -> None:
    async def test() -> None:
        async with running(forward=True) as cluster:
            leader, follower = await cluster.leader(), await cluster.follower()
            first = leader.leadership.term
            assert await leader.propose_in_term(put("a", 1), first) == [0, None]
            with pytest.raises(NotLeaderError):
                await follower.propose_in_term(put("a", 2), first)
            cut_off = leader.propose_in_term(put("a", 3), first)
            await leader.transfer_leadership(follower.node_id)
            with pytest.raises(NotLeaderError):
                await cut_off
            await follower.transfer_leadership(leader.node_id)
            with pytest.raises(NotLeaderError):
                await leader.propose_in_term(put("a", 4), first)
            assert await leader.propose_in_term(put("a", 5), leader.leadership.term) == [1, 1]

    run(test)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_callers_at_once_share_entries(backend: str) -> None:
    async def test() -> None:
        async with running() as cluster:
            leader = await cluster.leader()
            await leader.propose(put("warm", 0))
            before = leader.metrics().status.last
            answers: list[int] = []

            async def caller(number: int) -> None:
                answers.append((await leader.propose(put("k", number)))[0])

            async with anyio.create_task_group() as group:
                for number in range(500):
                    group.start_soon(caller, number)
            assert sorted(answers) == list(range(1, 501))
            assert leader.metrics().status.last - before < 20

    run(test, backend)


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_other_sizes_of_cluster(nodes: int) -> None:
    async def test() -> None:
        async with running(nodes) as cluster:
            leader = await cluster.leader()
            assert await leader.propose(put("a", 1)) == [0, None]
            assert await leader.read("a") == 1

    run(test)


def test_a_node_that_does_not_lead_says_who_does() -> None:
    async def test() -> None:
        async with running() as cluster:
            leader, follower = await cluster.leader(), await cluster.follower()
            with pytest.raises(NotLeaderError) as caught:
                await follower.propose(put("a", 1))
            assert caught.value.leader == leader.node_id
            with pytest.raises(NotLeaderError):
                await follower.remove(1)

    run(test)


def test_forwarding_without_a_leader_gives_up_in_time() -> None:
    async def test() -> None:
        async with running(forward=True, patience_ticks=20) as cluster:
            follower = await cluster.follower()
            for node in [node for node in cluster.servers if node != follower.node_id]:
                await cluster.stop(node)
            with pytest.raises((NotLeaderError, ProposalUnknownError)):
                await follower.propose(put("a", 1))
            with pytest.raises(NotLeaderError, match="no leader"):
                await follower.read("a")

    run(test)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_leader_stops_and_another_goes_on(backend: str) -> None:
    async def test() -> None:
        async with running() as cluster:
            leader = await cluster.leader()
            await leader.propose(put("a", 1))
            await cluster.stop(leader.node_id)
            successor = await cluster.leader()
            assert successor.node_id != leader.node_id
            assert await successor.propose(put("a", 2)) == [1, 1]
            again = await cluster.start(leader.node_id)
            assert await again.read("a") == 2
            with pytest.raises(StoppedError, match="stopped"):
                await leader.propose(put("a", 3))

    run(test, backend)


def test_a_cut_off_leader_answers_no_read_and_drops_its_proposals() -> None:
    async def test() -> None:
        async with running(patience_ticks=60) as cluster:
            leader = await cluster.leader()
            await leader.propose(put("a", 1))
            cluster.network.isolate(leader.node_id)
            outcomes: list[Exception] = []

            async def attempt(call: Any) -> None:
                try:
                    await call
                except Exception as exc:  # noqa: BLE001 - compared below
                    outcomes.append(exc)

            async with anyio.create_task_group() as group:
                group.start_soon(attempt, leader.propose(put("a", 99)))
                group.start_soon(attempt, leader.read("a"))
                others = [s for s in cluster.servers.values() if s is not leader]
                await until(lambda: any(s.leadership.is_leader for s in others))
                successor = next(s for s in others if s.leadership.is_leader)
                assert await successor.propose(put("a", 2)) == [1, 1]
                await until(lambda: not leader.leadership.is_leader)
                cluster.network.heal()
            assert {type(exc) for exc in outcomes} <= {ProposalDroppedError, NotLeaderError}
            assert any(isinstance(exc, ProposalDroppedError) for exc in outcomes)
            assert await successor.read("a") == 2

    run(test)


@pytest.mark.parametrize(
    ("by_snapshot", "outcome"), [(False, ProposalDroppedError), (True, ProposalUnknownError)]
)
def test_a_membership_change_of_a_cut_off_leader_has_an_end(
    by_snapshot: bool, outcome: type[Exception]
) -> None:
    """Found by reading: only a later change of the membership ended the waiting for it."""

    async def test() -> None:
        async with running(snapshot_log_bytes=20_000, keep_entries=0) as cluster:
            leader = await cluster.leader()
            await leader.propose(put("a", 1))
            cluster.network.isolate(leader.node_id)
            ended: list[Exception] = []

            async def change() -> None:
                try:
                    await leader.add_learner(4)
                except (ProposalDroppedError, ProposalUnknownError) as exc:
                    ended.append(exc)

            async with anyio.create_task_group() as group:
                group.start_soon(change)
                others = [s for s in cluster.servers.values() if s is not leader]
                await until(lambda: any(s.leadership.is_leader for s in others))
                successor = next(s for s in others if s.leadership.is_leader)
                for number in range(60 if by_snapshot else 1):
                    await successor.propose(put(f"k{number}", "x" * 1000))
                if by_snapshot:
                    await until(lambda: successor.metrics().status.first > 10)
                cluster.network.heal()
                await until(lambda: bool(ended))
            assert [type(exc) for exc in ended] == [outcome]
            assert leader.metrics().snapshots_restored == by_snapshot

    run(test)


def test_watching_leadership_yields_every_change_that_lasts() -> None:
    async def test() -> None:
        async with running() as cluster:
            leader, follower = await cluster.leader(), await cluster.follower()
            async with aclosing(follower.watch_leadership()) as watch:
                assert (await anext(watch)).leader == leader.node_id
                await leader.propose(put("a", 1))
                await leader.transfer_leadership(follower.node_id)
                while not (seen := await anext(watch)).is_leader:
                    pass
                assert seen.leader == follower.node_id
            assert await follower.propose(put("a", 2)) == [1, 1]
            with pytest.raises(TransferError):
                await follower.transfer_leadership(77)

    run(test)


def test_members_come_and_go() -> None:
    async def test() -> None:
        async with running() as cluster:
            leader = await cluster.leader()
            await leader.propose(put("a", 1))
            newcomer = await cluster.start(4, (), join=True)
            assert (await leader.add_learner(4)).learners == (4,)
            await until(lambda: newcomer.metrics().applied_index > 0)
            assert (await leader.promote(4)).voters == (1, 2, 3, 4)
            others = [node for node in (1, 2, 3) if node != leader.node_id]
            changes = [Change(ChangeKind.REMOVE, NodeId(node)) for node in others]
            after = await leader.change_membership(changes)  # two at once: joint consensus
            assert after.voters == tuple(sorted((leader.node_id, 4)))
            assert not after.is_joint
            assert await newcomer.read("a") == 1
            with pytest.raises(MembershipError):
                await leader.remove(77)
            await leader.remove(leader.node_id)
            await until(lambda: newcomer.leadership.is_leader)
            assert await newcomer.propose(put("a", 2)) == [1, 1]

    run(test)


def test_a_follower_catches_up_by_snapshot() -> None:
    async def test() -> None:
        async with running(snapshot_log_bytes=20_000, keep_entries=0) as cluster:
            leader, follower = await cluster.leader(), await cluster.follower()
            cluster.network.isolate(follower.node_id)
            for number in range(60):
                await leader.propose(put(f"k{number}", "x" * 1000))
            await until(lambda: leader.metrics().snapshots_saved > 0)
            await until(lambda: leader.metrics().status.first > 10)
            cluster.network.heal()
            machine = cluster.machines[follower.node_id]
            await until(lambda: machine.count == 60)
            assert machine.values == cluster.machines[leader.node_id].values
            assert follower.metrics().snapshots_restored == 1
            assert await leader.propose(put("after", 1)) == [60, None]
            await until(lambda: machine.count == 61)

    run(test)


def test_a_snapshot_by_hand_serves_a_restart() -> None:
    async def test() -> None:
        async with running(1, keep_entries=0) as cluster:
            server = await cluster.leader()
            for number in range(20):
                await server.propose(put("a", number))
            meta = await server.take_snapshot()
            assert await server.take_snapshot() == meta
            assert server.metrics().status.first == meta.index + 1
            await server.propose(put("a", 20))
            await cluster.stop(1)
            again = await cluster.start(1, (1,))
            assert await again.read("a") == 20
            assert cluster.machines[1].count == 21
            assert len(cluster.machines[1].indexes) == 1, "only what the snapshot lacks is applied"

    run(test)


def test_a_query_that_raises_is_the_readers_alone() -> None:
    async def test() -> None:
        async with running() as cluster:
            leader = await cluster.leader()
            with pytest.raises(KeyError):
                await leader.read("never written")
            assert await leader.propose(put("a", 1)) == [0, None]

    run(test)


def test_limits_are_typed_errors_and_pass() -> None:
    async def test() -> None:
        limits = {"command_bytes_max": 2000, "uncommitted_bytes_max": 6000}
        async with running(limits=limits) as cluster:
            leader = await cluster.leader()
            with pytest.raises(ProposalTooLargeError):
                await leader.propose(put("a", "x" * 3000))
            with pytest.raises(ProposalTooLargeError):
                await leader.propose_many([put("a", 1), put("a", "x" * 3000)])
            cluster.network.isolate(leader.node_id)
            busy: list[Exception] = []

            async def attempt() -> None:
                try:
                    with anyio.move_on_after(0.2):
                        await leader.propose(put("a", "x" * 1700))
                except BusyError as exc:
                    busy.append(exc)

            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(attempt)
                    await anyio.sleep(0)
                    await anyio.sleep(0)
            assert busy
            cluster.network.heal()
            assert await (await cluster.leader()).propose(put("b", 1))

    run(test)


def test_what_waits_for_a_leader_is_bounded() -> None:
    async def test() -> None:
        limits = {"command_bytes_max": 2000, "uncommitted_bytes_max": 6000}
        async with running(forward=True, limits=limits, patience_ticks=30) as cluster:
            follower = await cluster.follower()
            for node in [node for node in cluster.servers if node != follower.node_id]:
                await cluster.stop(node)
            refused: list[type[Exception]] = []

            async def attempt() -> None:
                try:
                    await follower.propose(put("a", "x" * 1700))
                except (BusyError, NotLeaderError, ProposalUnknownError) as exc:
                    refused.append(type(exc))

            async with anyio.create_task_group() as group:
                for _ in range(10):
                    group.start_soon(attempt)
                    await anyio.sleep(0.001)
            assert 0 < refused.count(BusyError) < 10
            assert len(refused) == 10

    run(test)


@pytest.mark.parametrize("backend", BACKENDS)
def test_cancelling_stops_the_waiting_not_the_proposal(backend: str) -> None:
    async def test() -> None:
        async with running() as cluster:
            leader = await cluster.leader()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await leader.propose(put("a", 1))
            assert scope.cancelled_caught
            assert await leader.propose(put("a", 2)) == [1, 1]

    run(test, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_in_the_body_comes_out_as_it_is(backend: str) -> None:
    async def test() -> None:
        transport = MemoryNetwork().transport(1)
        server = RaftServer(1, [1], Register(), MemoryLogStorage(1), transport, bootstrap=True)
        with pytest.raises(ZeroDivisionError):
            async with server:
                raise ZeroDivisionError
        with pytest.raises(StoppedError, match="runs once"):
            async with server:
                pass

    run(test, backend)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"peers": []}, "not among its peers"),
        ({"peers": [2, 3]}, "not among its peers"),
        ({"peers": [1, 1]}, "twice"),
        ({"peers": [1, 0]}, "node ids"),
        ({"peers": [1], "join": True}, "joins"),
        ({"peers": [], "join": True, "bootstrap": True}, "joins"),
        ({"peers": [1], "config": Config(node_id=NodeId(2))}, "config.node_id"),
        ({"peers": [1], "keep_entries": -1}, "keep_entries"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(
    arguments: dict[str, Any], complaint: str
) -> None:
    peers = arguments.pop("peers")
    transport = MemoryNetwork().transport(1)
    with pytest.raises(ConfigError, match=complaint):
        RaftServer(1, peers, Register(), MemoryLogStorage(1), transport, **arguments)


def test_timeouts_that_would_never_elect_are_refused() -> None:
    with pytest.raises(ConfigError, match="more than twice"):
        Config(node_id=NodeId(1), heartbeat_ticks=5, election_ticks=10)


class Nobody:
    """A waiter that nobody awaits."""

    def done(self) -> bool:
        return True

    def set_result(self, value: Any) -> None:
        raise AssertionError

    def set_exception(self, exception: BaseException) -> None:
        raise AssertionError

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError


def test_two_lives_of_a_node_with_one_seed_use_other_tickets() -> None:
    async def test() -> None:
        tickets = []
        async with running(1) as cluster:
            for _ in range(2):
                server = await cluster.leader()
                tickets.append(server._engine.proposals._next_ticket)
                await cluster.stop(1)
                await cluster.start(1, (1,))
        assert abs(tickets[0] - tickets[1]) > 1_000_000

    run(test)


def test_an_entry_of_an_earlier_life_answers_nobody_of_this_one() -> None:
    proposals = Proposals(1, 100)
    proposals.add(b"command", None, Slot(Collector(Nobody(), 1), 0))
    (group,) = proposals.take_groups()
    proposals.appended(group, index=7, term=3)
    assert proposals.applied(group.ticket, index=5, term=3) is None
    assert proposals.applied(group.ticket, index=7, term=2) is None
    assert proposals.applied(group.ticket, index=7, term=3) is group


def test_two_servers_of_one_node_are_refused() -> None:
    async def test() -> None:
        async with running(1) as cluster:
            transport = cluster.network.transport(1)
            twin = RaftServer(1, [1], Register(), MemoryLogStorage(2), transport, bootstrap=True)
            with pytest.raises(ConfigError, match="running already"):
                async with twin:
                    pass

    run(test)
