"""Scenarios 20, 21, 22: disks that lose, lag, hang or fail."""

from __future__ import annotations

import pytest

from streambus_raft import (
    AppendReply,
    AppendRequest,
    Change,
    ChangeKind,
    Entry,
    EntryKind,
    HardState,
    NodeId,
    Refusal,
    Role,
    Term,
    TimeoutNow,
    VoteReply,
    Write,
    bootstrap_snapshot,
)
from streambus_raft.errors import NotLeaderError, QuarantinedError
from streambus_raft.testing import SimulatedDisk
from tests.raft.cluster import Box, Cluster


def replace_disk(cluster: Cluster, node: int, storage_id: int = 900) -> Box:
    """The node comes back with an empty disk and the settings it was first started with."""
    first = bootstrap_snapshot(cluster[node].core.membership_at(0))
    box = cluster.boxes[node] = Box(node, SimulatedDisk(storage_id, first), **cluster.settings)
    return box


def test_20_lost_tail_is_noticed_from_the_commit_that_was_written_down() -> None:
    box = Cluster()[1]
    entries = [Entry(index, Term(1), EntryKind.COMMAND, b"x") for index in (1, 2, 3)]
    box.disk.write(Write(1, HardState(Term(1), NodeId(0), 3), (), None, entries, True))
    box.disk.sync()
    del box.disk.disk.entries[1:]
    box.crash()
    reason = box.core.status().quarantine
    assert reason is not None
    assert "committed" in reason
    for _ in range(50):
        box.core.tick(0.0)
    box.work()
    assert (box.role, box.term, box.writes) == (Role.FOLLOWER, 1, [])
    with pytest.raises(QuarantinedError):
        box.core.propose(b"x")
    with pytest.raises(QuarantinedError):
        box.core.read_index()


def test_20_lost_tail_is_noticed_from_what_the_leader_knows() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.core.propose_many([b"x"] * 5)
    cluster.settle()
    box = cluster[3]
    del box.disk.disk.entries[2:]
    box.disk.disk.hard_state = box.disk.disk.hard_state._replace(commit=0)
    box.crash()
    cluster.tick(5)
    assert box.core.status().quarantine is not None
    assert leader.core.status().members[NodeId(3)].refusal == box.core.status().quarantine
    assert leader.core.status().commit == 6
    box.crash()
    assert box.core.status().quarantine is not None, "a restart does not forget it"
    leader.core.propose(b"more")
    cluster.isolate(2)
    cluster.tick(20)
    assert leader.core.status().commit <= 7
    assert b"more" not in leader.commands or cluster[2].core.status().last == 7


@pytest.mark.parametrize(
    ("applied", "hard_state", "entries"),
    [(5, HardState(Term(1)), 3), (None, HardState(Term(0)), 3)],
)
def test_20_contradictions_at_the_start_are_reasons(
    applied: int | None, hard_state: HardState, entries: int
) -> None:
    box = Cluster()[1]
    log = [Entry(index, Term(1), EntryKind.COMMAND, b"x") for index in range(1, entries + 1)]
    box.disk.write(Write(1, hard_state, (), None, log, True))
    box.start(applied)
    assert box.core.status().quarantine is not None


def test_20_replaced_disk_does_not_count() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.core.propose(b"one")
    cluster.settle()
    replace_disk(cluster, 3)
    cluster.tick(5)
    assert leader.core.status().members[NodeId(3)].foreign
    cluster.isolate(2)
    leader.core.propose(b"two")
    cluster.tick(3)
    assert leader.commands == [b"one"], "a disk that has forgotten made a majority"
    cluster.heal()
    cluster.tick(5)
    assert leader.commands == [b"one", b"two"]


def test_20_vote_of_a_replaced_disk_does_not_count() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.tick(5)
    box = cluster[2]
    cluster.isolate(2)
    for _ in range(30):
        box.core.tick(0.0)
    box.work()
    term = Term(box.term + 1)
    box.step(VoteReply(NodeId(3), NodeId(2), term, True, True, 900))
    box.work()
    assert box.role == Role.PRE_CANDIDATE
    box.step(VoteReply(NodeId(3), NodeId(2), term, True, True, 103))
    box.work()
    assert box.core.status().role == Role.CANDIDATE


def test_20_replaced_disk_neither_counts_nor_campaigns_once_it_knows() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.tick(5)
    leader.core.propose(b"one")
    box = replace_disk(cluster, 3)
    cluster.tick(10)
    assert box.commands == [b"one"]
    cluster.isolate(1)
    cluster.tick(100)
    assert cluster.leaders() == [] or cluster.leaders() == [1]
    assert box.role == Role.FOLLOWER


def test_20_disk_that_is_gone_is_not_written_down_again() -> None:
    """Found by seed 1004746: the leader still knew the old disk, and registered it once more."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.tick(5)
    cluster.isolate(3)
    replace_disk(cluster, 3)
    leader.core.propose_membership([Change(ChangeKind.LEARNER, NodeId(3))])
    cluster.tick(30)  # time enough to register whoever is known
    cluster.heal()
    cluster.tick(30)
    assert leader.core.status().membership.storage_of(NodeId(3)) == 900
    assert not leader.core.status().members[NodeId(3)].foreign


def test_20_voter_taken_in_again_that_has_not_heard_of_it_votes() -> None:
    """Found by seed 1025058: its own log still called it a stranger, and its vote was needed."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    box = replace_disk(cluster, 3)
    for kind in (ChangeKind.LEARNER, ChangeKind.VOTER):
        leader.core.propose_membership([Change(kind, NodeId(3))])
        cluster.tick(3)
    cluster.heal()
    cluster.isolate(1)
    assert box.core.status().last == 0
    assert cluster.tick_until_leader(among=(2,)).id == 2
    assert box.commands == cluster[2].commands


def test_20_replaced_disk_is_taken_in_again_through_learner_and_voter() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.core.propose(b"one")
    cluster.settle()
    replace_disk(cluster, 3)
    cluster.tick(5)
    leader.core.propose_membership([Change(ChangeKind.LEARNER, NodeId(3))])
    cluster.tick(30)
    assert not leader.core.status().members[NodeId(3)].foreign
    assert leader.core.status().membership.storage_of(NodeId(3)) == 900
    leader.core.propose_membership([Change(ChangeKind.VOTER, NodeId(3))])
    cluster.tick(5)
    cluster.isolate(2)
    leader.core.propose(b"two")
    cluster.tick(3)
    assert leader.commands == [b"one", b"two"]


def test_20_identities_are_written_down_by_the_first_leader() -> None:
    cluster = Cluster(registered=False)
    leader = cluster.elect(1)
    cluster.tick(15)
    assert leader.core.status().membership.storages == ((1, 101), (2, 102), (3, 103))
    index = leader.core.status().membership_index
    cluster.tick(50)
    assert leader.core.status().membership_index == index, "once"


def test_21_nothing_is_applied_before_it_is_durable_here() -> None:
    box = Cluster()[2]
    entries = [Entry(1, Term(1), EntryKind.COMMAND, b"x")]
    box.step(AppendRequest(NodeId(1), NodeId(2), Term(1), 1, 0, Term(0), 1, entries))
    box.work(durable=False)
    assert box.core.status().commit == 1
    assert box.applied == []
    box.persist()
    box.work()
    assert box.commands == [b"x"]


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
@pytest.mark.parametrize("parts", [0, 1, 2, 3, 4])
def test_21_crash_between_any_two_writes_applies_everything_once(kept: int, parts: int) -> None:
    cluster = Cluster(snapshot_chunk_bytes=16)
    leader = cluster.elect(1)
    leader.core.propose_many([b"%d" % number for number in range(8)])
    cluster.isolate(3)
    cluster.settle()
    index = leader.core.status().applied
    leader.disk.save_snapshot(index, leader.core.membership_at(index), b"state of eight " * 4)
    leader.disk.compact(index)
    leader.core.propose_many([b"8", b"9"])
    cluster.settle()
    cluster.heal()
    box = cluster[3]
    durable_applied = 0
    for step in range(60):
        for other in (cluster[1], cluster[2]):
            other.work()
        box.work(durable=step % 3 == 0)
        for message in [each for other in cluster.boxes.values() for each in other.take()]:
            cluster[message.to].step(message)
        if step % 9 == 8:
            # The state machine is durable by itself, up to what it has applied.
            durable_applied = box.core.status().applied
            box.disk.crash(kept, parts, 1)
            box.sent = []
            box.start(durable_applied)
            assert box.core.status().quarantine is None
        if step % 4 == 0:
            for other in cluster.boxes.values():
                other.core.tick(step / 10)
    cluster.tick(30)
    assert [meta.index for meta in box.restored] == [index]
    assert box.commands == [b"8", b"9"]


def test_22_leader_whose_disk_hangs_hands_over_in_bounded_time() -> None:
    cluster = Cluster(storage_stall_ticks=15)
    leader = cluster.elect(1)
    cluster.tick(10)
    leader.core.propose(b"x")
    told = []
    for _ in range(25):
        cluster.now += 0.1
        leader.core.tick(cluster.now)
        leader.work(durable=False)
        for node in (2, 3):
            cluster[node].core.tick(cluster.now)
            cluster[node].work()
        for message in [each for box in cluster.boxes.values() for each in box.take()]:
            told += [message] if isinstance(message, TimeoutNow) else []
            cluster[message.to].step(message)
        others = [node for node in cluster.leaders() if node != 1]
        if others:
            break
    else:
        raise AssertionError("nobody took over")
    assert told
    assert leader.role == Role.FOLLOWER
    for _ in range(60):
        leader.core.tick(cluster.now)
    assert leader.role == Role.FOLLOWER, "it does not campaign while its disk hangs"


def test_22_leader_stays_where_the_disks_of_all_hang() -> None:
    """Seen with three brokers on one disk: one leader a second, and none that could commit."""
    cluster = Cluster(storage_stall_ticks=15)
    leader = cluster.elect(1)
    cluster.tick(10)
    term = leader.term
    leader.core.propose(b"x")
    for _ in range(60):
        cluster.now += 0.1
        for box in cluster.boxes.values():
            box.core.tick(cluster.now)
            box.work(durable=False)
        for message in [each for box in cluster.boxes.values() for each in box.take()]:
            cluster[message.to].step(message)
    assert cluster.leaders() == [1]
    assert leader.term == term
    for box in cluster.boxes.values():
        box.persist()
    cluster.tick(10)
    assert all(box.commands == [b"x"] for box in cluster.boxes.values())


def test_22_nothing_is_acknowledged_while_the_disk_hangs() -> None:
    box = Cluster()[2]
    entries = [Entry(1, Term(1), EntryKind.COMMAND, b"x")]
    box.step(AppendRequest(NodeId(1), NodeId(2), Term(1), 1, 0, Term(0), 0, entries))
    for _ in range(5):
        box.work(durable=False)
        box.core.tick(0.0)
    assert box.take(AppendReply) == []


def test_22_failed_disk_ends_leadership_and_acknowledges_nothing() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.core.propose(b"x")
    ready = leader.core.ready()
    assert ready.write is not None
    ticket = leader.core.read_index()
    leader.core.storage_failed("input/output error")
    leader.work()
    assert leader.role == Role.FOLLOWER
    assert leader.reads_failed == [ticket]
    with pytest.raises(QuarantinedError):
        leader.core.propose(b"y")
    with pytest.raises((QuarantinedError, NotLeaderError)):
        leader.core.transfer_leadership(NodeId(2))
    cluster.tick(60)
    second = cluster.tick_until_leader(among=(2, 3))
    assert second.core.status().members[NodeId(1)].refusal == "input/output error"
    leader.step(AppendRequest(second.id, NodeId(1), Term(second.term), 1, 0, Term(0), 0, []))
    leader.work()
    assert [type(each) for each in leader.take()] == [Refusal]
    assert leader.core.has_ready() is False


def test_22_single_voter_with_a_slow_disk_stays() -> None:
    cluster = Cluster([1], storage_stall_ticks=5)
    leader = cluster.elect(1)
    leader.core.propose(b"x")
    for _ in range(30):
        leader.core.tick(0.0)
        leader.work(durable=False)
    assert leader.role == Role.LEADER
    leader.persist()
    leader.work()
    assert leader.commands == [b"x"]
