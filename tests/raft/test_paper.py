"""What the paper and the thesis demand, section by section.

Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm* (extended version,
2014); Ongaro, *Consensus: Bridging Theory and Practice* (2014).
"""

from __future__ import annotations

import pytest

from streambus_raft import (
    AppendReply,
    AppendRequest,
    Entry,
    EntryKind,
    HardState,
    Heartbeat,
    NodeId,
    Role,
    Term,
    TimeoutNow,
    VoteReply,
    VoteRequest,
    Write,
)
from tests.raft.cluster import Box, Cluster


def entries(*terms: int) -> list[Entry]:
    return [
        Entry(index, Term(term), EntryKind.COMMAND, b"x") for index, term in enumerate(terms, 1)
    ]


def with_log(box: Box, term: int, *terms: int) -> Box:
    """Restart a node with a log of these terms."""
    box.disk.write(Write(1, HardState(Term(term), NodeId(0), 0), (), None, entries(*terms), True))
    box.disk.sync()
    box.start()
    return box


def append(to: int, term: int, prev: int, prev_term: int, items: list[Entry]) -> AppendRequest:
    return AppendRequest(NodeId(1), NodeId(to), Term(term), 1, prev, Term(prev_term), 0, items)


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.CANDIDATE, Role.LEADER])
def test_section_5_1_a_higher_term_makes_a_follower_of_anybody(role: Role) -> None:
    cluster = Cluster(pre_vote=False)
    box = cluster[1]
    if role != Role.FOLLOWER:
        box.core.campaign()
        box.work()
    if role == Role.LEADER:
        cluster.settle()
    assert box.role == role
    box.step(append(1, 7, 0, 0, [])._replace(sender=NodeId(2)))
    status = box.core.status()
    assert (status.role, status.term, status.leader) == (Role.FOLLOWER, 7, 2)


def test_section_5_1_requests_of_a_lower_term_are_rejected() -> None:
    box = with_log(Cluster()[2], 5)
    box.step(append(2, 4, 0, 0, entries(1)))
    box.work()
    (reply,) = box.take(AppendReply)
    assert (reply.rejected, reply.term) == (True, 5)
    assert box.core.status().last == 0


def test_section_5_2_a_node_begins_as_follower() -> None:
    assert {box.role for box in Cluster().boxes.values()} == {Role.FOLLOWER}


def test_section_5_2_a_leader_sends_heartbeats() -> None:
    cluster = Cluster(heartbeat_ticks=2)
    leader = cluster.elect(1)
    for _ in range(2):
        leader.core.tick(0.0)
    leader.work()
    assert sorted(each.to for each in leader.take(Heartbeat)) == [2, 3]


def test_section_5_2_a_follower_without_a_leader_begins_an_election() -> None:
    box = Cluster(pre_vote=False)[1]
    for _ in range(20):
        box.core.tick(0.0)
        box.work()
    requests = box.take(VoteRequest)
    assert {each.to for each in requests} == {2, 3}
    assert box.core.status().vote == 1


@pytest.mark.parametrize(
    ("size", "granted", "role"),
    [
        (1, [], Role.LEADER),
        (3, [2], Role.LEADER),
        (3, [], Role.CANDIDATE),
        (5, [2, 3], Role.LEADER),
        (5, [2], Role.CANDIDATE),
        (4, [2], Role.CANDIDATE),
        (4, [2, 3], Role.LEADER),
    ],
)
def test_section_5_2_a_majority_elects(size: int, granted: list[int], role: Role) -> None:
    box = Cluster(range(1, size + 1), pre_vote=False)[1]
    box.core.campaign()
    box.work()
    for voter in granted:
        box.step(VoteReply(NodeId(voter), box.id, Term(1), False, True, 100 + voter))
    assert box.role == role


def test_section_5_2_a_candidate_yields_to_a_leader_of_its_term() -> None:
    box = Cluster(pre_vote=False)[2]
    box.core.campaign()
    box.work()
    box.step(append(2, 1, 0, 0, []))
    assert box.role == Role.FOLLOWER
    assert box.core.status().leader == 1


def test_section_5_2_timeouts_are_random_and_within_their_range() -> None:
    seen = set()
    for node in range(1, 60):
        box = Cluster([node, 100], pre_vote=False)[node]
        ticks = 0
        while box.role == Role.FOLLOWER:
            box.core.tick(0.0)
            ticks += 1
        seen.add(ticks)
    assert min(seen) >= 10
    assert max(seen) <= 20
    assert len(seen) >= 6


def test_section_5_3_an_entry_is_committed_when_a_majority_holds_it() -> None:
    for acknowledging in (0, 1, 2, 3, 4):
        cluster = Cluster([1, 2, 3, 4, 5])
        leader = cluster.elect(1)
        cluster.drop = lambda message, limit=acknowledging: (  # type: ignore[misc]  # the default is bound on purpose
            isinstance(message, AppendRequest) and message.to > 1 + limit
        )
        leader.core.propose(b"x")
        cluster.settle()
        assert (leader.commands == [b"x"]) == (acknowledging >= 2)


def test_section_5_3_a_commit_takes_along_what_came_before() -> None:
    cluster = Cluster()
    with_log(cluster[1], 3, 1, 2, 2)
    with_log(cluster[2], 3, 1, 2, 2)
    cluster.isolate(3)
    leader = cluster.tick_until_leader(among=(1, 2))
    assert leader.core.status().commit == 4
    assert leader.commands == [b"x"] * 3


@pytest.mark.parametrize(
    ("log", "prev", "prev_term", "accepted"),
    [
        ((), 0, 0, True),
        ((1, 2), 2, 2, True),
        ((1, 2), 1, 1, True),
        ((1, 2), 2, 3, False),
        ((1, 2), 3, 2, False),
        ((1, 2), 1, 2, False),
    ],
)
def test_section_5_3_the_entry_before_has_to_match(
    log: tuple[int, ...], prev: int, prev_term: int, accepted: bool
) -> None:
    box = with_log(Cluster()[2], 3, *log)
    box.step(append(2, 4, prev, prev_term, []))
    box.work()
    (reply,) = box.take(AppendReply)
    assert reply.rejected == (not accepted)


@pytest.mark.parametrize(
    "log",
    [
        (1, 1, 1, 4, 4, 5, 5, 6, 6),
        (1, 1, 1, 4),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
        (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
        (1, 1, 1, 4, 4, 4, 4),
        (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
    ],
    ids="abcdef",
)
def test_section_5_3_figure_7_every_follower_is_brought_into_line(log: tuple[int, ...]) -> None:
    leader_log = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    cluster = Cluster()
    with_log(cluster[1], 7, *leader_log)
    with_log(cluster[2], 7, *leader_log)
    with_log(cluster[3], 7, *log)
    cluster.cut = {(1, 3), (3, 1), (2, 3), (3, 2)}
    leader = cluster.tick_until_leader(among=(1, 2))
    cluster.heal()
    cluster.tick(30)
    last = leader.core.status().last
    terms = [entry.term for entry in leader.disk.entries(1, last + 1, 1 << 20)]
    assert [entry.term for entry in cluster[3].disk.entries(1, last + 1, 1 << 20)] == terms
    assert cluster[3].core.status().last == last


@pytest.mark.parametrize(
    ("log", "last", "last_term", "granted"),
    [
        ((1,), 1, 1, True),
        ((1,), 2, 1, True),
        ((1, 1), 1, 1, False),
        ((1,), 1, 2, True),
        ((1, 1), 1, 2, True),
        ((2,), 2, 1, False),
        ((2,), 1, 1, False),
    ],
)
def test_section_5_4_1_a_vote_needs_a_log_as_complete(
    log: tuple[int, ...], last: int, last_term: int, granted: bool
) -> None:
    box = with_log(Cluster(check_quorum=False)[1], 2, *log)
    box.step(VoteRequest(NodeId(2), NodeId(1), Term(3), last, Term(last_term), False, False))
    box.work()
    assert [each.granted for each in box.take(VoteReply)] == [granted]


def test_section_5_5_repeated_requests_do_no_harm() -> None:
    box = Cluster()[2]
    request = append(2, 1, 0, 0, entries(1, 1))
    for _ in range(3):
        box.step(request)
        box.work()
    assert box.core.status().last == 2
    assert [each.index for each in box.take(AppendReply)] == [2, 2, 2]


def test_section_8_a_leader_opens_its_term_with_an_entry_of_its_own() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    (entry,) = leader.disk.entries(1, 2, 1000)
    assert (entry.kind, entry.term) == (EntryKind.NOOP, 1)


def test_thesis_3_10_transfer_needs_the_whole_log_and_skips_the_wait() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    seen: list[str] = []

    def watch(message: object) -> bool:
        seen.append(type(message).__name__)
        return False

    cluster.drop = watch
    leader.core.propose(b"x")
    leader.core.transfer_leadership(NodeId(3))
    cluster.settle()
    assert cluster.leaders() == [3]
    assert seen.index("AppendReply") < seen.index(TimeoutNow.__name__)


def test_thesis_6_2_a_leader_without_a_quorum_steps_down() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(1)
    cluster.tick(25)
    assert leader.role != Role.LEADER
    assert leader.term == 1


def test_thesis_10_2_1_a_leader_sends_while_its_own_disk_still_works() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.core.propose(b"x")
    leader.work(durable=False)
    assert leader.writes
    assert {each.to for each in leader.take(AppendRequest)} == {2, 3}
    for node in (2, 3):
        cluster[node].step(append(node, 1, 1, 1, [Entry(2, Term(1), EntryKind.COMMAND, b"x")]))
        cluster[node].work()
    assert leader.core.status().commit == 1
