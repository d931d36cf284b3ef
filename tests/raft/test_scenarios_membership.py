"""Scenarios 3, 14, 15, 16, 17: changing who takes part. Number 13 is with the elections."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from streambus_raft import (
    AppendRequest,
    Change,
    ChangeKind,
    EntryKind,
    Membership,
    NodeId,
    Role,
    TimeoutNow,
    VoteRequest,
    decode_membership,
    new_membership,
)
from streambus_raft.errors import MembershipError, MembershipPendingError, NotLeaderError
from tests.raft.cluster import Box, Cluster

VOTER, LEARNER, REMOVE = ChangeKind.VOTER, ChangeKind.LEARNER, ChangeKind.REMOVE


def change(kind: ChangeKind, node: int) -> Change:
    return Change(kind, NodeId(node))


def configurations(box: Box) -> list[Membership]:
    """Those in a node's log, in order."""
    last = box.core.status().last
    return [
        decode_membership(entry.data)
        for entry in box.disk.entries(1, last + 1, 1 << 30)
        if entry.kind == EntryKind.MEMBERSHIP
    ]


def test_03_no_change_before_an_entry_of_the_term_is_committed() -> None:
    """The bug of 2015: two leaders would each take out another node and both find a majority."""
    cluster = Cluster([1, 2, 3, 4])
    first = cluster.elect(1)
    cluster.isolate(1)
    first.core.propose_membership([change(REMOVE, 4)])  # reaches nobody
    first.work()
    cluster.drop = lambda message: isinstance(message, AppendRequest)
    for box in cluster.boxes.values():
        for _ in range(10):
            box.core.tick(0.0)
        box.work()
        box.take()
    cluster[2].core.campaign()
    cluster.settle()
    second = cluster[2]
    assert second.role == Role.LEADER
    with pytest.raises(MembershipPendingError) as caught:
        second.core.propose_membership([change(REMOVE, 1)])
    assert caught.value.retriable
    cluster.heal()
    cluster.tick(30)
    assert second.core.status().membership.voters == (1, 2, 3, 4)
    second.core.propose_membership([change(REMOVE, 1)])
    cluster.settle()
    assert second.core.status().membership.voters == (2, 3, 4)


def test_03_one_change_at_a_time() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(1)
    leader.core.propose_membership([change(REMOVE, 3)])
    with pytest.raises(MembershipPendingError):
        leader.core.propose_membership([change(VOTER, 4)])


@pytest.mark.parametrize(
    ("voters", "changes"),
    [
        ([1, 2, 3], [change(REMOVE, 1)]),
        ([1, 2], [change(REMOVE, 1)]),
        ([1, 2, 3], [change(LEARNER, 1)]),
        ([1, 2, 3], [change(REMOVE, 1), change(REMOVE, 2)]),
        ([1, 2, 3, 4, 5], [change(REMOVE, 1), change(REMOVE, 2), change(LEARNER, 3)]),
    ],
)
def test_14_leader_leaves_and_hands_over(voters: list[int], changes: list[Change]) -> None:
    cluster = Cluster(voters)
    leader = cluster.elect(1)
    leader.core.propose_membership(changes)
    told: list[object] = []

    def watch(message: object) -> bool:
        if isinstance(message, TimeoutNow):
            told.append(message)
        return False

    cluster.drop = watch
    cluster.settle()
    assert leader.role == Role.FOLLOWER
    assert told, "nobody was asked to take over at once"
    rest = [node for node in voters if node not in {each.node for each in changes}]
    successor = cluster.tick_until_leader(among=rest)
    assert set(successor.core.status().membership.voters) == set(rest)
    cluster.tick(60)
    assert cluster.leaders() == [successor.id]


@pytest.mark.parametrize(
    ("voters", "joint"),
    [([1, 2, 3], False), ([1, 2], False), ([1, 2, 3], True), ([1, 2, 3, 4], True)],
)
@pytest.mark.parametrize("steps", range(12))
def test_14_crash_at_each_step_of_leaving_heals(voters: list[int], joint: bool, steps: int) -> None:
    cluster = Cluster(voters)
    leader = cluster.elect(1)
    changes = [change(REMOVE, 1)] + ([change(LEARNER, 2)] if joint else [])
    leader.core.propose_membership(changes)
    delivered = 0
    while delivered < steps:
        for box in cluster.boxes.values():
            box.work()
        messages = [message for box in cluster.boxes.values() for message in box.take()]
        if not messages:
            break
        for message in messages[: steps - delivered]:
            cluster[message.to].step(message)
            delivered += 1
    for box in cluster.boxes.values():
        box.crash(kept=steps % 2)
    cluster.tick(150)
    settled = [box for box in cluster.boxes.values() if box.role == Role.LEADER]
    assert len(settled) == 1, [box.core.status() for box in cluster.boxes.values()]
    status = settled[0].core.status()
    assert status.commit == status.last
    assert not status.membership.is_joint
    assert status.membership.is_voter(settled[0].id)


def test_14_leaving_leader_does_not_count_itself() -> None:
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.core.propose_membership([change(REMOVE, 1)])
    cluster.settle()
    status = leader.core.status()
    assert status.commit < status.last, "one of {2, 3} and the leaving one are no majority"
    with pytest.raises(NotLeaderError):
        leader.core.propose(b"x")
    cluster.heal()
    cluster.tick(20)
    assert leader.role == Role.FOLLOWER


def test_15_joint_decisions_need_both_majorities_in_a_cluster() -> None:
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    for node in (4, 5):
        cluster.add(node)
    cluster.isolate(1, 4, 5)  # the majority of the new voters, a minority of the old
    leader.core.propose_membership([change(VOTER, 4), change(VOTER, 5), change(REMOVE, 3)])
    cluster.tick(5)
    status = leader.core.status()
    assert status.membership.is_joint
    assert status.commit < status.membership_index
    cluster.heal()
    cluster.tick(40)
    current = cluster.tick_until_leader().core.status().membership
    assert (current.voters, current.outgoing) == ((1, 2, 4, 5), ())


def test_16_new_leader_leaves_the_joint_configuration_exactly_once() -> None:
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.add(4)
    cluster.add(5)
    # The joint entry is committed; the leave entry reaches nobody.
    cluster.drop = lambda message: (
        isinstance(message, AppendRequest)
        and any(
            each.kind == EntryKind.MEMBERSHIP and not decode_membership(each.data).is_joint
            for each in message.entries
        )
    )
    leader.core.propose_membership([change(VOTER, 4), change(VOTER, 5)])
    cluster.tick(8)
    assert leader.core.status().commit >= 2
    cluster.isolate(1)
    cluster.drop = lambda _: False
    cluster.tick(40)
    cluster.tick_until_leader(among=(2, 3, 4, 5))
    cluster.heal()
    cluster.tick(40)
    for box in cluster.boxes.values():
        changes = [(each.voters, each.outgoing) for each in configurations(box)]
        # What may follow only writes down the new members' storages.
        assert changes[:2] == [((1, 2, 3, 4, 5), (1, 2, 3)), ((1, 2, 3, 4, 5), ())]
        assert set(changes[2:]) <= {((1, 2, 3, 4, 5), ())}
        assert len([each for each in configurations(box) if len(each.storages) < 5]) == 2


def test_16_joint_configuration_is_left_only_after_it_is_committed() -> None:
    cluster = Cluster([1, 2, 3], append_bytes_max=1)
    leader = cluster.elect(1)
    cluster.add(4)
    cluster.add(5)
    cluster.drop = lambda message: (
        isinstance(message, AppendRequest)
        and any(each.kind == EntryKind.MEMBERSHIP for each in message.entries)
    )
    leader.core.propose(b"before")
    leader.core.propose_membership([change(VOTER, 4), change(VOTER, 5)])
    cluster.settle()
    assert leader.commands == [b"before"], "the commit has moved, but not over the change"
    assert [each.is_joint for each in configurations(leader)] == [True]


def test_16_configuration_is_in_force_when_it_is_in_the_log() -> None:
    """So there is no committed configuration that a candidate does not know of yet."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.isolate(1)
    leader.core.propose_membership([change(REMOVE, 3)])
    assert leader.core.status().membership.voters == (1, 2)
    cluster.tick(40)
    cluster.tick_until_leader(among=(2, 3))
    cluster.heal()
    cluster.tick(40)
    assert leader.core.status().membership.voters == (1, 2, 3), "taken back with its entry"


def test_16_removed_voter_campaigns_while_its_removal_is_not_committed() -> None:
    """Thesis, 4.2.2: the only one with the entry has to lead for the others' sake."""
    cluster = Cluster([1, 2])
    leader = cluster.elect(1)
    cluster.isolate(1)
    leader.core.propose_membership([change(REMOVE, 1)])
    leader.work()
    leader.crash(kept=9)
    assert leader.core.status().membership.voters == (2,)
    cluster.heal()
    cluster.tick(60)
    assert cluster.leaders() == [2]
    assert cluster[2].core.status().membership.voters == (2,)


def test_learner_receives_everything_and_is_promoted() -> None:
    cluster = Cluster([1, 2], [3])
    leader = cluster.elect(1)
    leader.core.propose(b"one")
    cluster.settle()
    assert cluster[3].commands == [b"one"]
    cluster.isolate(2)
    leader.core.propose(b"two")
    cluster.settle()
    assert leader.core.status().commit == 2, "a learner does not count"
    cluster.heal()
    cluster.tick(5)
    leader.core.propose_membership([change(VOTER, 3)])
    cluster.settle()
    cluster.isolate(2)
    leader.core.propose(b"three")
    cluster.tick(3)
    assert leader.commands == [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [change(REMOVE, 9)],
        [change(VOTER, 1)],
        [change(REMOVE, 1), change(REMOVE, 2), change(REMOVE, 3)],
        [change(REMOVE, 2), change(VOTER, 2)],
        [Change(VOTER, NodeId(0))],
        [Change(VOTER, NodeId(1 << 63))],
    ],
)
def test_senseless_changes_are_refused(changes: list[Change]) -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    with pytest.raises(MembershipError):
        leader.core.propose_membership(changes)
    assert leader.core.status().membership_index == 0


def test_senseless_first_memberships_are_refused() -> None:
    for voters, learners in (([], []), ([1, 1], []), ([1], [1]), ([0], []), ([1 << 63], [])):
        with pytest.raises(MembershipError):
            new_membership(voters, learners)


def test_every_pair_of_small_configurations_can_be_changed_into_each_other() -> None:
    nodes = (1, 2, 3)
    sets = [each for size in (1, 2, 3) for each in combinations(nodes, size)]
    for before, after in product(sets, sets):
        if before == after:
            continue
        cluster = Cluster(before)
        for node in nodes:
            if node not in before:
                cluster.add(node)
        leader = cluster.elect(before[0])
        changes = [change(VOTER, node) for node in after if node not in before]
        changes += [change(REMOVE, node) for node in before if node not in after]
        leader.core.propose_membership(changes)
        cluster.tick(40)
        successor = cluster.tick_until_leader(among=after)
        assert successor.core.status().membership.voters == after


def test_vote_request_of_an_unknown_node_is_answered_by_log_alone() -> None:
    box = Cluster()[1]
    box.step(VoteRequest(NodeId(77), NodeId(1), 1, 5, 1, True, False))  # type: ignore[arg-type]  # plain ints will do
    box.work()
    assert [each.granted for each in box.take()] == [True]
