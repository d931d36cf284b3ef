"""Scenarios 2, 4, 5, 6, 24: what is appended, acknowledged and committed."""

from __future__ import annotations

import pytest

from streambus_raft import (
    AppendReply,
    AppendRequest,
    Change,
    ChangeKind,
    Entry,
    EntryKind,
    Heartbeat,
    NodeId,
    ProgressState,
    Role,
    Term,
)
from streambus_raft.errors import BusyError, NotLeaderError, ProposalTooLargeError
from tests.raft.cluster import Box, Cluster


def entry(index: int, term: int, data: bytes = b"x") -> Entry:
    return Entry(index, Term(term), EntryKind.COMMAND, data)


def append(
    to: int, term: int, prev: int, prev_term: int, entries: list[Entry], commit: int = 0
) -> AppendRequest:
    return AppendRequest(
        NodeId(1), NodeId(to), Term(term), 1, prev, Term(prev_term), commit, entries
    )


def test_02_entry_of_an_earlier_term_waits_for_one_of_the_present() -> None:
    """Figure 8 of the paper, with five nodes."""
    cluster = Cluster([1, 2, 3, 4, 5], append_bytes_max=1)
    first = cluster.elect(1)
    cluster.isolate(1, 2)
    first.core.propose(b"old")
    cluster.settle()  # on 1 and 2 only
    for box in cluster.boxes.values():
        box.crash()
    cluster.heal()
    cluster.tick(10)
    # A later leader: the old entry reaches everybody, its own entry nobody.
    cluster.drop = lambda message: (
        isinstance(message, AppendRequest)
        and any(each.term > 1 for each in message.entries)
        and cluster[message.to].core.status().last >= 2
    )
    cluster[2].core.campaign()
    cluster.settle()
    leader = cluster[2]
    assert leader.role == Role.LEADER
    assert [box.core.status().last for box in cluster.boxes.values()] == [2, 3, 2, 2, 2]
    assert leader.core.status().commit < 2, "an old entry was committed by counting"
    cluster.heal()
    cluster.tick(10)
    assert leader.core.status().commit >= 3
    assert leader.commands == [b"old"]


def _session(leader: Box, node: int) -> int:
    """The leader's session with a member, as its next heartbeat names it."""
    for _ in range(3):
        leader.core.tick(0.0)
    leader.work()
    sessions = [each.session for each in leader.take(Heartbeat) if each.to == node]
    return int(sessions[-1])


def test_04_late_short_and_repeated_appends_take_nothing_back() -> None:
    box = Cluster()[2]
    long = append(2, 1, 0, 0, [entry(1, 1), entry(2, 1), entry(3, 1), entry(4, 1)])
    box.step(long)
    box.work()
    for late in (
        append(2, 1, 0, 0, [entry(1, 1), entry(2, 1)]),
        append(2, 1, 2, 1, [entry(3, 1)]),
        append(2, 1, 1, 1, []),
        long,
    ):
        box.step(late)
        box.work()
        assert box.core.status().last == 4
    replies = [reply.index for reply in box.take(AppendReply)]
    assert replies == [4, 2, 3, 1, 4]


def test_04_only_a_contradicting_entry_and_what_follows_it_go() -> None:
    box = Cluster()[2]
    box.step(append(2, 1, 0, 0, [entry(1, 1), entry(2, 1), entry(3, 1)]))
    box.step(append(2, 2, 1, 1, [entry(2, 2, b"new")]))
    box.work()
    assert [each.term for each in box.disk.entries(1, 3, 1000)] == [1, 2]
    assert box.core.status().last == 2


def test_18_append_commits_only_what_it_verifies() -> None:
    box = Cluster()[2]
    box.step(append(2, 1, 0, 0, [entry(index, 1, b"divergent") for index in range(1, 6)]))
    box.step(append(2, 2, 1, 1, [entry(2, 1, b"divergent")], commit=5))
    box.work()
    assert box.core.status().commit == 2
    assert box.core.status().last == 5


def test_05_append_reply_of_an_older_term_does_not_count() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(1)
    cluster[1].core.propose(b"one")
    cluster[1].work()
    cluster.heal()
    reply = AppendReply(NodeId(2), NodeId(1), Term(0), 1, False, 2, 0, Term(0), 102)
    cluster[1].step(reply)
    assert cluster[1].core.status().commit == 1


def test_05_completion_of_a_replaced_entry_does_not_count() -> None:
    box = Cluster()[2]
    box.step(append(2, 1, 0, 0, [entry(1, 1), entry(2, 1), entry(3, 1)]))
    box.work(durable=False)
    box.step(append(2, 2, 1, 1, [entry(2, 2), entry(3, 2)]))
    box.work(durable=False)
    box.take()
    assert len(box.writes) == 2
    box.persist(1)  # the first write: entries 2 and 3 of term 1
    box.work(durable=False)
    assert box.core.status().stable == 1
    assert box.take(AppendReply) == []
    box.persist()
    box.work()
    assert box.core.status().stable == 3
    assert [reply.index for reply in box.take(AppendReply)] == [3]


def test_06_readded_node_ignores_late_replies() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.core.propose(b"one")
    cluster.settle()
    cluster[3].step(append(3, 1, 2, 1, [])._replace(session=_session(leader, 3)))
    cluster[3].work()
    late = cluster[3].take(AppendReply)
    assert late
    assert late[0].index == 2
    leader.core.propose_membership([Change(ChangeKind.REMOVE, NodeId(3))])
    cluster.settle()
    cluster.isolate(3)
    leader.core.propose_membership([Change(ChangeKind.VOTER, NodeId(3))])
    cluster.settle()
    assert leader.core.status().members[NodeId(3)].match == 0
    leader.step(late[0])
    assert leader.core.status().members[NodeId(3)].match == 0


def test_24_full_window_lost_answers_and_compaction_do_not_stall() -> None:
    cluster = Cluster(inflight_appends_max=2, append_bytes_max=20)
    leader = cluster.elect(1)
    cluster.drop = lambda message: isinstance(message, AppendReply)
    for number in range(30):
        leader.core.propose(b"%d" % number)
    cluster.settle()
    assert leader.core.status().uncommitted_bytes > 0
    assert leader.core.status().commit == 1
    cluster.heal()
    cluster.tick(200)
    assert leader.core.status().uncommitted_bytes == 0
    for box in cluster.boxes.values():
        assert box.commands == [b"%d" % number for number in range(30)]
    assert all(each.inflight_bytes == 0 for each in leader.core.status().members.values())


def test_24_uncommitted_bytes_are_bounded_and_return_to_zero() -> None:
    cluster = Cluster(uncommitted_bytes_max=1000)
    leader = cluster.elect(1)
    cluster.isolate(1)
    for _ in range(8):
        leader.core.propose(b"y" * 100)
    with pytest.raises(BusyError) as caught:
        leader.core.propose(b"y" * 100)
    assert caught.value.retriable
    assert 0 < caught.value.pending <= 1000
    last = leader.core.status().last
    with pytest.raises(BusyError):
        leader.core.propose_many([b"y" * 100] * 3)
    assert leader.core.status().last == last, "a refused proposal leaves nothing behind"
    cluster.heal()
    cluster.tick(20)
    assert leader.core.status().uncommitted_bytes == 0
    leader.core.propose(b"z" * 5000)  # a single large one passes where nothing waits
    cluster.settle()
    assert leader.core.status().uncommitted_bytes == 0
    cluster.isolate(1)
    leader.core.propose(b"lost")
    cluster.tick(60)
    assert cluster[1].role != Role.LEADER
    assert cluster[1].core.status().uncommitted_bytes == 0


def test_overtaking_appends_do_not_breed_more_of_them() -> None:
    """A network that reorders used to make the leader send its whole window for each rejection."""
    cluster = Cluster([1, 2], append_bytes_max=1, inflight_appends_max=64)
    leader = cluster.elect(1)
    leader.core.propose_many([b"%d" % number for number in range(200)])
    waiting = []
    delivered = 0
    for _ in range(100_000):
        for box in cluster.boxes.values():
            box.work()
            waiting += box.take()
        if not waiting:
            break
        delivered += 1
        message = waiting.pop(-1 if delivered % 3 else 0)  # mostly the youngest first
        cluster[message.to].step(message)
        if delivered % 50 == 0:
            cluster[1].core.tick(0.0)
    status = leader.core.status()
    assert status.commit == status.last
    assert delivered < 8000


def test_what_the_transport_lost_is_sent_anew_at_once_where_it_says_so() -> None:
    cluster = Cluster([1, 2])
    leader = cluster.elect(1)
    cluster.drop = lambda message: isinstance(message, AppendRequest)
    leader.core.propose_many([b"a", b"b"])
    cluster.settle()
    assert leader.core.status().members[NodeId(2)].next == 4
    cluster.heal()
    leader.core.report_unreachable(NodeId(9))  # a stranger
    cluster.settle()
    assert cluster[2].core.status().last == 1
    leader.core.report_unreachable(NodeId(2))
    cluster.settle()
    assert leader.commands == [b"a", b"b"]
    assert leader.core.status().members[NodeId(2)].state == ProgressState.REPLICATE


def test_proposals_are_refused_with_the_leader_s_name() -> None:
    cluster = Cluster(command_bytes_max=10)
    cluster.elect(1)
    with pytest.raises(NotLeaderError) as caught:
        cluster[2].core.propose(b"x")
    assert caught.value.leader == 1
    with pytest.raises(ProposalTooLargeError):
        cluster[1].core.propose(b"x" * 11)
    with pytest.raises(ValueError, match="no command"):
        cluster[1].core.propose_many([])


def test_follower_that_lags_is_sent_batches_within_the_limit() -> None:
    cluster = Cluster(append_bytes_max=200)
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.core.propose_many([b"x" * 50] * 40)
    cluster.settle()
    cluster.heal()
    sizes: list[int] = []

    def watch(message: object) -> bool:
        if isinstance(message, AppendRequest) and message.to == 3:
            sizes.append(sum(len(each.data) + 16 for each in message.entries))
        return False

    cluster.drop = watch
    cluster.tick(10)
    assert len(cluster[3].commands) == 40
    assert max(sizes) <= 200
    assert leader.core.status().members[NodeId(3)].state == ProgressState.REPLICATE


def test_divergent_tail_is_replaced_in_few_exchanges() -> None:
    """Paper, end of 5.3: a whole term is skipped at once."""
    cluster = Cluster()
    first = cluster.elect(1)
    cluster.isolate(1)
    first.core.propose_many([b"lost"] * 300)
    first.work()
    cluster.tick(40)
    second = cluster.tick_until_leader(among=(2, 3))
    second.core.propose_many([b"kept"] * 5)
    cluster.settle()
    cluster.heal()
    rejected = 0

    def count(message: object) -> bool:
        nonlocal rejected
        rejected += isinstance(message, AppendReply) and message.rejected
        return False

    cluster.drop = count
    cluster.tick(20)
    assert cluster[1].commands == [b"kept"] * 5
    assert rejected <= 4


def test_stranger_s_and_out_of_range_replies_have_no_effect() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    before = leader.core.status()
    session = _session(leader, 2)
    for reply in (
        AppendReply(NodeId(9), NodeId(1), Term(1), session, False, 1, 0, Term(0), 109),
        AppendReply(NodeId(2), NodeId(1), Term(1), session, False, 10**9, 0, Term(0), 102),
        AppendReply(NodeId(2), NodeId(1), Term(1), session, True, 10**9, 10**9, Term(5), 102),
    ):
        leader.step(reply)
        leader.work()
    after = leader.core.status()
    assert (after.commit, after.members[NodeId(2)].match) == (1, before.members[NodeId(2)].match)
    assert after.ignored >= 2
