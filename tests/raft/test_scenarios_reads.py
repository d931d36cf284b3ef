"""Scenarios 7, 8, 9: no stale read, ever."""

from __future__ import annotations

import pytest

from streambus_raft import (
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    NodeId,
    ReadReply,
    ReadRequest,
    Role,
    TimeoutNow,
)
from streambus_raft.errors import BusyError
from tests.raft.cluster import Cluster


def test_07_read_before_the_first_commit_of_a_term_is_deferred() -> None:
    cluster = Cluster()
    cluster.drop = lambda message: isinstance(message, AppendReply)
    leader = cluster.elect(1)
    ticket = leader.core.read_index()
    cluster.tick(5)
    assert (leader.reads, leader.reads_failed) == ([], [])
    cluster.heal()
    cluster.tick(5)
    assert [(read.ticket, read.index) for read in leader.reads] == [(ticket, 1)]


def test_08_isolated_leader_answers_no_read() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(1)
    ticket = leader.core.read_index()
    cluster.tick(5)
    assert leader.reads == []
    cluster.tick(40)
    assert leader.role != Role.LEADER
    assert leader.reads == []
    assert leader.reads_failed == [ticket]


def test_08_answer_to_an_earlier_round_confirms_nothing_later() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.drop = lambda message: isinstance(message, HeartbeatReply)
    late: list[HeartbeatReply] = []

    def keep(message: object) -> bool:
        if isinstance(message, HeartbeatReply):
            late.append(message)
            return True
        return False

    cluster.drop = keep
    cluster.tick(4)
    assert late
    before = list(late)
    leader.core.read_index()
    leader.work()
    for message in before + before:
        leader.step(message)
    leader.work()
    assert leader.reads == []
    cluster.heal()
    cluster.tick(3)
    assert len(leader.reads) == 1


def test_08_every_read_is_answered_once() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    tickets = [leader.core.read_index() for _ in range(3)]
    tickets += [cluster[2].core.read_index() for _ in range(3)]
    cluster.settle()
    cluster.tick(5)
    assert [read.ticket for read in leader.reads] == tickets[:3]
    assert [read.ticket for read in cluster[2].reads] == tickets[3:]


def test_08_answer_to_a_read_of_an_earlier_life_answers_none_of_this() -> None:
    cluster = Cluster()
    cluster.elect(1)
    follower = cluster[2]
    cluster.tick(3)
    old = follower.core.read_index()
    follower.crash()
    cluster.tick(3)
    new = follower.core.read_index()
    follower.work()
    follower.take()
    follower.step(ReadReply(NodeId(1), NodeId(2), cluster[1].core.status().term, old, 1))
    follower.work()
    assert old != new
    assert follower.reads == []


def test_follower_without_a_leader_fails_reads_at_once() -> None:
    cluster = Cluster()
    ticket = cluster[2].core.read_index()
    cluster.settle()
    assert cluster[2].reads_failed == [ticket]


def test_forwarded_read_whose_answer_is_lost_fails_in_time() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.drop = lambda message: isinstance(message, ReadReply)
    ticket = cluster[2].core.read_index()
    cluster.tick(12)
    assert cluster[2].reads_failed == [ticket]


def test_read_request_to_a_node_that_does_not_lead_is_refused() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster[3].step(ReadRequest(NodeId(2), NodeId(3), cluster[1].core.status().term, 7))
    cluster[3].work()
    assert [each.index for each in cluster[3].take(ReadReply)] == [0]


def test_pending_reads_are_bounded() -> None:
    cluster = Cluster(pending_reads_max=3)
    leader = cluster.elect(1)
    cluster.isolate(1)
    for _ in range(3):
        leader.core.read_index()
    with pytest.raises(BusyError):
        leader.core.read_index()


def test_09_lease_holds_while_a_quorum_answers_and_ends_by_the_clock() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    assert leader.core.read_lease(cluster.now) is None, "no round was answered yet"
    cluster.tick(4)
    assert leader.core.read_lease(cluster.now) == 1
    assert leader.core.read_lease(cluster.now + 0.4) == 1
    assert leader.core.read_lease(cluster.now + 1.0) is None
    assert cluster[2].core.read_lease(cluster.now) is None


def test_09_lease_needs_an_answer() -> None:
    cluster = Cluster()
    cluster.drop = lambda message: isinstance(message, HeartbeatReply)
    leader = cluster.elect(1)
    cluster.tick(6)
    assert leader.core.read_lease(cluster.now) is None


def test_09_answered_heartbeats_tell_since_when_a_leader_is_known() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    term = leader.core.status().term
    assert leader.core.confirmed_at(term) is None, "no round was answered yet"
    cluster.tick(20)
    last = leader.core.confirmed_at(term)
    assert last is not None
    assert cluster.now - 0.3 < last <= cluster.now
    assert leader.core.confirmed_at(term - 1) is None
    assert cluster[2].core.confirmed_at(term) is None
    cluster.isolate(1)
    cluster.tick(3)
    assert leader.core.confirmed_at(term) == last, "nobody answers what is asked since"
    ticket = leader.core.read_index()
    cluster.heal()
    cluster.settle()
    assert [read.ticket for read in leader.reads] == [ticket]
    confirmed = leader.core.confirmed_at(term)
    assert confirmed is not None
    assert confirmed > last, "a read's round counts, too"


def test_09_lease_ends_before_anybody_else_can_lead() -> None:
    """A leader that is cut off, or paused, with the others' clocks as fast as is allowed."""
    cluster = Cluster(clock_drift_max=0.1)
    leader = cluster.elect(1)
    cluster.tick(20)
    cut_at = cluster.now
    cluster.isolate(1)
    for ticks in range(1, 60):
        cluster.now = cut_at + ticks * 0.1 / 1.1  # their ticks come faster than true time
        for node in (2, 3):
            cluster[node].core.tick(cluster.now)
        cluster.settle()
        others = [node for node in cluster.leaders() if node != 1]
        if others:
            assert leader.core.read_lease(cluster.now) is None
            return
    raise AssertionError("nobody took over")


def test_09_lease_fails_closed_on_a_clock_that_jumps() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.tick(20)
    assert leader.core.read_lease(cluster.now) is not None
    assert leader.core.read_lease(cluster.now - 5) is None
    leader.core.tick(cluster.now - 5)
    assert leader.core.read_lease(cluster.now - 5) is None, "earlier rounds prove nothing now"


def test_09_lease_is_forfeited_by_a_transfer_even_one_that_failed() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.tick(20)
    cluster.drop = lambda message: isinstance(message, TimeoutNow)
    leader.core.transfer_leadership(NodeId(2))
    cluster.tick(15)
    assert leader.core.status().transfer_target == 0
    cluster.heal()
    cluster.tick(10)
    assert leader.role == Role.LEADER
    assert leader.core.read_lease(cluster.now) is None, "the order may still be under way"
    ticket = leader.core.read_index()
    cluster.settle()
    assert [read.ticket for read in leader.reads] == [ticket]


def test_09_restarted_voter_keeps_protecting_the_lease() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.tick(20)
    cluster.isolate(1)
    for node in (2, 3):
        cluster[node].crash()
    cluster[2].core.campaign()
    cluster.settle()
    assert cluster[2].role != Role.LEADER
    assert leader.core.read_lease(cluster.now) is not None
    cluster.tick(40, only=[2, 3])
    assert leader.core.read_lease(cluster.now) is None


def test_09_read_during_a_transfer_is_answered_or_failed() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.core.transfer_leadership(NodeId(2))
    ticket = leader.core.read_index()
    cluster.tick(5)
    assert cluster.leaders() == [2]
    answered = [read.ticket for read in leader.reads]
    assert answered + leader.reads_failed == [ticket]


def test_read_with_a_single_voter_needs_nobody() -> None:
    cluster = Cluster([1])
    leader = cluster.elect(1)
    ticket = leader.core.read_index()
    cluster.settle()
    assert [read.ticket for read in leader.reads] == [ticket]
    cluster.tick(3)
    assert leader.core.read_lease(cluster.now) == 1


def test_heartbeat_of_round_zero_is_not_answered() -> None:
    cluster = Cluster()
    cluster.elect(1)
    term = cluster[1].core.status().term
    cluster[2].step(Heartbeat(NodeId(1), NodeId(2), term, 1, 1, 0, 102))
    cluster[2].work()
    assert cluster[2].take() == []
