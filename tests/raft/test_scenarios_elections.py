"""Scenarios 1, 5, 10, 11, 12, 13: terms, votes and who may lead."""

from __future__ import annotations

from itertools import pairwise, permutations, product

import pytest

from streambus_raft import (
    AppendRequest,
    Change,
    ChangeKind,
    Entry,
    EntryKind,
    HardState,
    Heartbeat,
    NodeId,
    Role,
    Term,
    VoteReply,
    VoteRequest,
    Write,
    new_membership,
)
from tests.raft.cluster import Box, Cluster


def vote_request(
    sender: int, to: int, term: int, last: int = 0, last_term: int = 0, *, pre_vote: bool = False
) -> VoteRequest:
    return VoteRequest(
        NodeId(sender), NodeId(to), Term(term), last, Term(last_term), pre_vote, False
    )


def test_01_vote_is_sent_only_when_durable_and_never_given_twice() -> None:
    box = Cluster()[1]
    box.step(vote_request(2, 1, 1))
    box.work(durable=False)
    assert box.take() == []
    box.persist()
    box.work()
    assert [(each.to, each.granted) for each in box.take(VoteReply)] == [(2, True)]
    box.crash()
    box.core.tick(0.0)
    for _ in range(20):  # past the protection of a leader it may have promised
        box.core.tick(0.0)
    box.work()
    box.take()
    term = box.term
    box.step(vote_request(3, 1, 1))
    box.work()
    assert not any(each.granted for each in box.take(VoteReply) if each.to == 3)
    assert box.term == term


def test_01_crash_between_vote_and_disk_loses_the_vote_unheard() -> None:
    box = Cluster()[1]
    box.step(vote_request(2, 1, 1))
    box.work(durable=False)
    box.crash()
    assert box.take() == []
    box.step(vote_request(3, 1, 1))
    box.work()
    assert [(each.to, each.granted) for each in box.take(VoteReply)] == [(3, True)]


def test_01_vote_within_a_known_term_is_written_too() -> None:
    box = Cluster(check_quorum=False)[1]
    _grow(box, 1, 1, 3)
    box.step(vote_request(2, 1, 2, 1, 1))  # its log is too short, but its term counts
    box.work()
    assert [each.granted for each in box.take(VoteReply)] == [False]
    box.step(vote_request(3, 1, 2, 3, 1))
    box.work()
    assert [each.granted for each in box.take(VoteReply)] == [True]
    box.crash()
    box.step(vote_request(2, 1, 2, 9, 1))
    box.work()
    assert [each.granted for each in box.take(VoteReply)] == [False]


@pytest.mark.parametrize("pre_vote", [True, False])
def test_01_candidate_alone_waits_for_its_disk(pre_vote: bool) -> None:
    box = Cluster([1], pre_vote=pre_vote)[1]
    box.core.campaign()
    box.work(durable=False)
    assert box.role == Role.CANDIDATE
    box.persist()
    box.work()
    assert box.core.status().role == Role.LEADER


def test_01_terms_are_monotonic_over_a_restart_of_everything() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.tick(30)
    before = max(box.term for box in cluster.boxes.values())
    for box in cluster.boxes.values():
        box.crash()
    leader = cluster.tick_until_leader()
    assert leader.term > before


def test_05_vote_reply_of_an_older_term_does_not_count() -> None:
    cluster = Cluster(pre_vote=False)
    box = cluster[1]
    box.core.campaign()
    box.work()
    box.take()
    for _ in range(25):
        box.core.tick(0.0)
        box.work()
    assert (box.role, box.term) > (Role.CANDIDATE, 1)
    box.step(VoteReply(NodeId(2), box.id, Term(1), False, True, 102))
    box.work()
    assert box.role == Role.CANDIDATE


def test_10_partition_heals_with_pre_vote_and_changes_nothing() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.tick(100)
    assert cluster[3].role == Role.PRE_CANDIDATE
    term = leader.term
    cluster.heal()
    cluster.tick(60)
    assert cluster.leaders() == [1]
    assert {box.term for box in cluster.boxes.values()} == {term}


@pytest.mark.parametrize("check_quorum", [True, False])
def test_10_candidate_with_a_high_term_rejoins_without_pre_vote(check_quorum: bool) -> None:
    cluster = Cluster(pre_vote=False, check_quorum=check_quorum)
    cluster.elect(1)
    cluster.isolate(3)
    cluster.tick(100)
    cluster[1].core.propose(b"while it was away")
    cluster.settle()
    stuck = cluster[3].term
    assert stuck > cluster[1].term
    cluster.heal()
    cluster.tick(80)
    leader = cluster.tick_until_leader()
    assert leader.term >= stuck
    assert {box.term for box in cluster.boxes.values()} == {leader.term}
    assert cluster[3].commands == [b"while it was away"]


def test_10_leader_of_the_past_hears_of_the_present_term() -> None:
    cluster = Cluster()
    cluster.elect(1)
    box = cluster[2]
    box.step(vote_request(3, 2, 9, 99, 9)._replace(transfer=True))
    box.work()
    box.take()
    box.step(Heartbeat(NodeId(1), box.id, Term(1), 1, 0, 1, 102))
    box.work()
    (answer,) = box.take(to=1)
    assert answer.term == 9
    cluster[1].step(answer)
    assert cluster[1].role == Role.FOLLOWER


def _grow(box: Box, hard_term: int, log_term: int, length: int) -> None:
    """Give a node a term and a log, as if it had lived."""
    entries = [Entry(index, Term(log_term), EntryKind.NOOP, b"") for index in range(1, length + 1)]
    box.disk.write(Write(1, HardState(Term(hard_term), NodeId(0), 0), (), None, entries, True))
    box.disk.sync()
    box.start()


@pytest.mark.parametrize(("pre_vote", "priority"), [(True, 100), (False, 100), (True, 50)])
def test_11_every_permutation_with_an_electable_quorum_elects_in_time(
    pre_vote: bool, priority: int
) -> None:
    logs = [(1, 1), (1, 2), (2, 1)]
    for own, terms in product(permutations(logs, 2), product((2, 3, 9), repeat=2)):
        cluster = Cluster(pre_vote=pre_vote, priority=priority)
        for node, (log_term, length), term in zip((1, 2), own, terms, strict=True):
            _grow(cluster[node], term, log_term, length)
        cluster.isolate(3)  # the leader is dead
        leader = cluster.tick_until_leader(ticks_max=120, among=(1, 2))
        assert leader.term >= max(terms)


def test_11_quick_candidate_that_cannot_win_does_not_keep_the_other_from_winning() -> None:
    cluster = Cluster(pre_vote=False, check_quorum=False)
    _grow(cluster[1], 1, 1, 5)
    cluster[1].settings["priority"] = 1  # waits much longer than node 2, whose log is empty
    cluster[1].start()
    cluster.isolate(3)
    assert cluster.tick_until_leader(ticks_max=200).id == 1


def test_12_pre_vote_alters_neither_term_nor_vote() -> None:
    box = Cluster()[1]
    box.step(vote_request(2, 1, 7, pre_vote=True))
    box.work()
    status = box.core.status()
    assert (status.term, status.vote) == (0, 0)
    assert box.writes == []
    (reply,) = box.take(VoteReply)
    assert reply.granted
    assert reply.pre_vote


def test_12_pre_vote_replies_never_count_as_votes() -> None:
    cluster = Cluster([1, 2, 3, 4, 5])
    box = cluster[1]
    box.core.campaign()
    box.work()
    for sender in (2, 3):
        box.step(VoteReply(NodeId(sender), box.id, Term(1), True, True, 100 + sender))
    box.work()
    assert box.role == Role.CANDIDATE
    for sender in (4, 5):
        box.step(VoteReply(NodeId(sender), box.id, Term(1), True, True, 100 + sender))
    assert box.role == Role.CANDIDATE
    for sender in (4, 5):
        box.step(VoteReply(NodeId(sender), box.id, Term(1), False, True, 100 + sender))
    assert box.core.status().role == Role.LEADER


def test_12_pre_candidate_that_hears_its_leader_goes_on_following() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster[2].core.campaign()
    assert cluster[2].role == Role.PRE_CANDIDATE
    cluster.tick(5)
    assert cluster[2].core.status().role == Role.FOLLOWER
    assert cluster[2].core.status().leader == leader.id


def test_13_removed_voter_that_does_not_know_cannot_disrupt() -> None:
    cluster = Cluster([1, 2, 3, 4])
    leader = cluster.elect(1)
    cluster.isolate(4)
    leader.core.propose_membership([Change(ChangeKind.REMOVE, NodeId(4))])
    cluster.settle()
    term = leader.term
    cluster.tick(60)
    cluster.heal()
    cluster.tick(100)
    assert cluster.leaders() == [1]
    assert leader.term == term
    request = vote_request(4, 2, 50, 99, 49)
    cluster[2].step(request)
    cluster.settle()
    assert cluster[2].term == term


def test_13_voter_that_believes_it_is_a_learner_votes_when_asked() -> None:
    box = Cluster([2, 3], [1])[1]
    box.step(vote_request(2, 1, 1, 5, 1))
    box.work()
    assert [each.granted for each in box.take(VoteReply)] == [True]
    box.core.campaign()
    assert box.role == Role.FOLLOWER


def test_13_learner_never_campaigns() -> None:
    cluster = Cluster([1, 2], [3])
    cluster.tick(100, only=[3])
    assert cluster[3].term == 0


def test_low_priority_waits_longer_for_its_first_campaign_alone() -> None:
    """Found by seed 1076277: without pre-vote a removed voter was always a term ahead of it."""
    box = Cluster(pre_vote=False, priority=1)[1]
    campaigns = []
    for tick in range(100):
        term = box.term
        box.core.tick(0.1 * tick)
        box.work()
        if box.term > term:
            campaigns.append(tick)
    assert 28 <= campaigns[0] < 38  # ticks are counted from 0; 19 of them are its handicap
    gaps = [later - earlier for earlier, later in pairwise(campaigns)]
    assert gaps
    assert all(10 <= gap < 20 for gap in gaps)


def test_priority_zero_never_campaigns_by_itself() -> None:
    cluster = Cluster(priority=0)
    cluster.tick(200)
    assert cluster.leaders() == []
    cluster.elect(2)


@pytest.mark.parametrize(
    ("voters", "learners", "priority"), [((1, 2), (3,), 100), ((1, 2, 3), (), 0)]
)
def test_11_who_never_campaigns_does_not_go_on_protecting_a_leader_that_is_gone(
    voters: tuple[int, ...], learners: tuple[int, ...], priority: int
) -> None:
    """Found by seed 2071131: two learners by their own logs, needed as voters, took turns."""
    cluster = Cluster(voters, learners, priority=priority)
    cluster.elect(1)
    box = cluster[3]
    assert box.core.status().leader == 1
    cluster.isolate(3)
    cluster.tick(45, only=[3])  # two handicaps and twice the timeout
    for tick in range(40):
        box.step(vote_request(2, 3, 2, 9, 1, pre_vote=True))
        box.work()
        assert [each.granted for each in box.take(VoteReply)] == [True], f"after {tick} ticks"
        cluster.tick(1, only=[3])
    assert (box.role, box.term, box.core.status().leader) == (Role.FOLLOWER, 1, 0)
    cluster.heal()
    cluster.tick(5)
    assert box.core.status().leader == 1


def test_vote_goes_only_to_a_log_that_is_as_complete() -> None:
    """Paper, 5.4.1."""
    cluster = Cluster()
    _grow(cluster[1], 3, 2, 3)
    for last, last_term, granted in ((2, 2, False), (9, 1, False), (3, 2, True), (1, 3, True)):
        box = cluster[1]
        box.start()
        for _ in range(10):
            box.core.tick(0.0)
        box.step(vote_request(2, 1, 4, last, last_term, pre_vote=True))
        box.work()
        replies = [each.granted for each in box.take(VoteReply) if each.to == 2]
        assert replies == [granted], (last, last_term)


def test_leader_ignores_append_in_its_own_term_from_an_impostor() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    entry = Entry(2, Term(1), EntryKind.COMMAND, b"no")
    leader.step(AppendRequest(NodeId(2), NodeId(1), Term(1), 1, 1, Term(1), 2, [entry]))
    assert leader.role == Role.LEADER
    assert leader.core.status().last == 1


def test_new_cluster_needs_no_quorum_beyond_its_voters() -> None:
    membership = new_membership([1], [2, 3])
    cluster = Cluster(membership.voters, membership.learners)
    cluster.isolate(2, 3)
    leader = cluster.elect(1)
    leader.core.propose(b"alone")
    cluster.settle()
    assert leader.commands == [b"alone"]


@pytest.mark.parametrize("late", [False, True], ids=["all-know", "one-is-late"])
def test_05_voters_elect_at_once_when_the_leaders_process_has_ended(*, late: bool) -> None:
    cluster, survivors = Cluster(range(1, 6)), (1, 2, 4, 5)
    cluster.elect(3)
    cluster.isolate(3)
    for each in survivors[1:] if late else survivors:
        cluster[each].core.leader_gone(NodeId(3))
    cluster[1].core.leader_gone(NodeId(4))  # it does not lead
    cluster.tick(4, only=survivors)
    leader = 2 if late else 1
    assert [each for each in survivors if cluster[each].role == Role.LEADER] == [leader]
    assert {cluster[each].term for each in survivors} == {2}


def test_05_a_leader_that_lives_after_all_is_deposed_and_follows() -> None:
    cluster = Cluster()
    cluster.elect(1)
    for each in (1, 2, 3):
        cluster[each].core.leader_gone(NodeId(1))  # which itself knows better
    cluster.tick(3, only=(2, 3))
    assert cluster.leaders() == [2]
    assert {cluster[each].term for each in (1, 2, 3)} == {2}
