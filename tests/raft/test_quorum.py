"""Majorities and joint majorities against brute force (scenario 15)."""

from __future__ import annotations

from itertools import combinations, product

from streambus_raft import Change, ChangeKind, Membership, NodeId
from streambus_raft._membership import change_membership, leave_joint
from streambus_raft._quorum import VoteResult, has_quorum, majority_value, quorum_value, vote_result

NODES = tuple(map(NodeId, range(1, 6)))


def subsets(size_max: int) -> list[tuple[NodeId, ...]]:
    return [each for size in range(1, size_max + 1) for each in combinations(NODES, size)]


def decides(voters: tuple[NodeId, ...], present: set[NodeId]) -> bool:
    """By definition: more than half are present."""
    return 2 * len(present & set(voters)) > len(voters)


def test_majority_is_the_largest_value_that_more_than_half_have() -> None:
    for voters in subsets(5):
        for values in product(range(3), repeat=len(voters)):
            reached = dict(zip(voters, values, strict=True))
            expected = max(
                value
                for value in range(3)
                if decides(voters, {voter for voter in voters if reached[voter] >= value})
            )
            assert majority_value(voters, reached) == expected


def test_nobody_decides_without_voters() -> None:
    assert majority_value((), {NodeId(1): 5}) == 0
    assert vote_result(Membership(), {NodeId(1): True}) != VoteResult.WON


def test_joint_commit_needs_both_majorities() -> None:
    for new, old in product(subsets(3), subsets(3)):
        membership = Membership(voters=new, outgoing=old)
        everyone = sorted({*new, *old})
        for values in product(range(3), repeat=len(everyone)):
            reached = dict(zip(everyone, values, strict=True))
            expected = max(
                value
                for value in range(3)
                if decides(new, {node for node in everyone if reached[node] >= value})
                and decides(old, {node for node in everyone if reached[node] >= value})
            )
            assert quorum_value(membership, reached) == expected


def test_joint_election_is_won_by_both_and_lost_when_one_cannot_be_won() -> None:
    for new, old in product(subsets(3), [(), *subsets(3)]):
        membership = Membership(voters=new, outgoing=old)
        everyone = sorted({*new, *old})
        groups = [new, old] if old else [new]
        for answers in product((True, False, None), repeat=len(everyone)):
            votes = {
                node: answer
                for node, answer in zip(everyone, answers, strict=True)
                if answer is not None
            }
            granted = {node for node in votes if votes[node]}
            possible = {node for node in everyone if votes.get(node, True)}
            if all(decides(group, granted) for group in groups):
                expected = VoteResult.WON
            elif all(decides(group, possible) for group in groups):
                expected = VoteResult.PENDING
            else:
                expected = VoteResult.LOST
            assert vote_result(membership, votes) == expected
            assert has_quorum(membership, votes) == (expected == VoteResult.WON)


def test_votes_of_others_do_not_count() -> None:
    membership = Membership(voters=NODES[:3], learners=NODES[3:])
    votes = {NODES[3]: True, NODES[4]: True, NODES[0]: True}
    assert vote_result(membership, votes) == VoteResult.PENDING
    assert quorum_value(membership, {NODES[3]: 9, NODES[4]: 9, NODES[0]: 9}) == 0


def test_any_two_quorums_of_neighbouring_configurations_meet() -> None:
    """What makes changes safe: nothing can be decided twice, before and after a step."""
    for before, after in product(subsets(4), subsets(4)):
        if before == after:
            continue
        changes = [Change(ChangeKind.VOTER, node) for node in after if node not in before]
        changes += [Change(ChangeKind.REMOVE, node) for node in before if node not in after]
        first = Membership(voters=before)
        second = change_membership(first, changes)
        steps = [(first, second)]
        if second.is_joint:
            steps.append((second, leave_joint(second)))
        assert steps[-1][1].voters == after
        for one, other in steps:
            everyone = one.members() + tuple(set(other.members()) - set(one.members()))
            for size in range(len(everyone) + 1):
                for present in combinations(everyone, size):
                    absent = set(everyone) - set(present)
                    if has_quorum(one, dict.fromkeys(present, True)):
                        assert not has_quorum(other, dict.fromkeys(absent, True))


def test_demoted_voter_stays_until_the_joint_configuration_is_left() -> None:
    first = Membership(voters=NODES[:3], storages=((NODES[2], 7),))
    joint = change_membership(
        first, [Change(ChangeKind.LEARNER, NODES[2]), Change(ChangeKind.VOTER, NODES[3])]
    )
    assert (joint.learners, joint.learners_next, joint.outgoing) == ((), (NODES[2],), NODES[:3])
    after = leave_joint(joint)
    assert (after.voters, after.learners) == ((1, 2, 4), (3,))
    assert after.storage_of(NODES[2]) is None
