"""Votes as wishes: what the controller does next, and what it never does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.cluster import commands as c
from streambus_broker.cluster import votes
from streambus_broker.cluster.votes import NOTHING, Step
from streambus_raft import (
    Change,
    ChangeKind,
    Membership,
    MemberStatus,
    NodeId,
    ProgressState,
    Role,
    Status,
    Term,
)
from tests.cluster.test_state import apply, cluster, register

if TYPE_CHECKING:
    from streambus_broker.cluster.state import ClusterState

COMMIT = 1_000
CONTROLLER = NodeId(1)


def member(
    match: int = COMMIT, *, active: bool = True, foreign: bool = False, refusal: str | None = None
) -> MemberStatus:
    return MemberStatus(match, match + 1, ProgressState.REPLICATE, active, foreign, refusal, 0, 0)


def status(
    voters: tuple[int, ...], learners: tuple[int, ...] = (), **others: MemberStatus
) -> Status:
    """What the controller, broker 1, sees; ``b3=member(...)`` says how broker 3 does."""
    membership = Membership(tuple(map(NodeId, voters)), learners=tuple(map(NodeId, learners)))
    members = {NodeId(each): member() for each in (*voters, *learners) if each != CONTROLLER}
    members |= {NodeId(int(name[1:])): found for name, found in others.items()}
    return Status(
        CONTROLLER, 1, Role.LEADER, Term(3), CONTROLLER, CONTROLLER, 1, COMMIT, COMMIT, COMMIT,
        COMMIT, membership, 5, False, None, 0, 0, NodeId(0), 0, members,
    )  # fmt: skip


def state_of(brokers: int, **wishes: Any) -> ClusterState:
    """Brokers; ``b4=True`` wishes that broker 4 votes."""
    state = cluster(brokers, topic=False)
    for name, wanted in wishes.items():
        apply(state, c.SetVote(int(name[1:]), wanted))
    return state


def change(kind: ChangeKind, node: int) -> Change:
    return Change(kind, NodeId(node))


def test_nothing_is_done_where_all_is_as_wished() -> None:
    assert votes.next_step(state_of(3), status((1, 2, 3))) == NOTHING
    assert votes.next_step(state_of(4, b4=True), status((1, 2, 3, 4))) == NOTHING
    assert votes.next_step(state_of(4, b4=False), status((1, 2, 3), (4,))) == NOTHING


def test_a_learner_votes_once_it_is_near() -> None:
    state = state_of(4, b4=True)
    promoted = Step(changes=(change(ChangeKind.VOTER, 4),))
    assert votes.next_step(state, status((1, 2, 3), (4,))) == promoted
    near = COMMIT - votes.LAG_ENTRIES_MAX
    assert votes.next_step(state, status((1, 2, 3), (4,), b4=member(near))) == promoted
    for far in (member(near - 1), member(active=False), member(refusal="no")):
        assert votes.next_step(state, status((1, 2, 3), (4,), b4=far)) == NOTHING
    told = status((1, 2, 3), (4,), b4=member(near - 1))
    assert votes.pending(state, told, state.brokers[4]) == (
        f"to be a voter: metadata entries behind: {votes.LAG_ENTRIES_MAX + 1}"
    )
    away = status((1, 2, 3), (4,), b4=member(active=False))
    assert votes.pending(state, away, state.brokers[4]) == "to be a voter: it cannot be reached"


def test_nobody_else_is_asked_while_a_change_is_under_way() -> None:
    state = state_of(4, b4=True)
    assert votes.next_step(state, replace(status((1, 2, 3), (4,)), membership_pending=True)) == (
        NOTHING
    )


def test_a_voter_becomes_a_learner_unless_that_stops_the_cluster() -> None:
    state = state_of(3, b3=False)
    demoted = Step(changes=(change(ChangeKind.LEARNER, 3),))
    assert votes.next_step(state, status((1, 2, 3))) == demoted
    # Of the two that would be left one is away: nothing could be decided any more.
    assert votes.next_step(state, status((1, 2, 3), b2=member(active=False))) == NOTHING


def test_a_controller_that_is_not_to_vote_hands_over_first() -> None:
    state = state_of(3, b1=False)
    seen = status((1, 2, 3), b2=member(900), b3=member(950))
    assert votes.next_step(state, seen) == Step(hand_over_to=3)
    alone = status((1, 2, 3), b2=member(active=False), b3=member(refusal="no"))
    assert votes.next_step(state, alone) == NOTHING


def test_a_voter_with_another_disk_is_demoted_and_wished_back() -> None:
    seen = status((1, 2, 3), b3=member(foreign=True))
    state = state_of(3)
    assert votes.next_step(state, seen) == Step(command=c.SetVote(3, wanted=True))
    apply(state, c.SetVote(3, wanted=True))
    assert votes.next_step(state, seen) == Step(changes=(change(ChangeKind.LEARNER, 3),))
    assert votes.pending(state, seen, state.brokers[3]) is not None
    # The other two are a majority only together.
    lonely = status((1, 2, 3), b2=member(active=False), b3=member(foreign=True))
    assert votes.next_step(state, lonely) == NOTHING


def test_a_registered_broker_takes_part() -> None:
    """The second half of its removal came after it had joined anew."""
    taken_in = Step(changes=(Change(ChangeKind.LEARNER, NodeId(4)),))
    assert votes.next_step(state_of(4), status((1, 2, 3))) == taken_in


def test_a_learner_with_another_disk_starts_afresh() -> None:
    """It joined anew while the group still had its former self, by that one's storage."""
    seen = status((1, 2, 3), (4,), b4=member(foreign=True))
    afresh = Step(changes=(Change(ChangeKind.REMOVE, NodeId(4)),))  # and taken in again
    assert votes.next_step(state_of(4), seen) == afresh
    assert votes.next_step(state_of(4), status((1, 2, 3), (4,))) == NOTHING


def test_a_replaced_broker_gives_its_vote_and_goes() -> None:
    state = cluster(3)
    apply(state, register(4))
    old, new = 3, 4
    apply(state, c.ReplaceBroker(old, new))
    voters = (1, 2, 3)
    assert votes.next_step(state, status(voters, (new,))) == NOTHING  # it holds something yet
    pending = votes.pending(state, status(voters, (new,)), state.brokers[old])
    assert pending == f"replaced by {new}: 1 partitions left"
    (moving,) = state.topics["t"].partitions
    members = tuple((each, state.brokers[each].epoch) for each in moving.replicas)
    apply(
        state,
        c.AlterInSync("t", 0, moving.leader, moving.leader_epoch, moving.partition_epoch, members),
    )
    assert old not in state.topics["t"].partitions[0].replicas
    both = Step(changes=(change(ChangeKind.LEARNER, old), change(ChangeKind.VOTER, new)))
    assert votes.next_step(state, status(voters, (new,))) == both
    far: dict[str, MemberStatus] = {f"b{new}": member(1)}
    assert votes.next_step(state, status(voters, (new,), **far)) == NOTHING
    after = tuple(sorted({*voters, new} - {old}))
    assert votes.next_step(state, status(after, (old,))) == Step(command=c.RemoveBroker(old))


def test_the_only_voter_is_replaced_as_well() -> None:
    """It is the controller: a second one gets a vote, takes control, and lets the first go."""
    state = cluster(3, topic=False)
    apply(state, c.ReplaceBroker(CONTROLLER, 2))
    joins = Step(changes=(change(ChangeKind.VOTER, 2),))
    assert votes.next_step(state, status((CONTROLLER,), (2, 3))) == joins
    assert votes.next_step(state, status((CONTROLLER,), (2, 3), b2=member(1))) == NOTHING
    assert votes.next_step(state, status((CONTROLLER, 2), (3,))) == Step(hand_over_to=2)
    unreachable = status((CONTROLLER, 2), (3,), b2=member(active=False))
    assert votes.next_step(state, unreachable) == NOTHING


@given(
    st.sets(st.integers(1, 5), min_size=1),
    st.dictionaries(st.integers(2, 5), st.sampled_from(["away", "foreign", "refuses", "far"])),
    st.dictionaries(st.integers(1, 5), st.booleans()),
)
def test_no_step_leaves_a_group_that_cannot_decide(
    voters: set[int], troubles: dict[int, str], wishes: dict[int, bool]
) -> None:
    state = state_of(5, **{f"b{each}": wanted for each, wanted in wishes.items()})
    kinds = {
        "away": member(active=False), "foreign": member(foreign=True),
        "refuses": member(refusal="no"), "far": member(1),
    }  # fmt: skip
    seen = status(
        tuple(sorted({1, *voters})), tuple(sorted({1, 2, 3, 4, 5} - {1, *voters})),
        **{f"b{each}": kinds[kind] for each, kind in troubles.items()},
    )  # fmt: skip
    step = votes.next_step(state, seen)
    assert sum((bool(step.changes), step.command is not None, step.hand_over_to is not None)) <= 1
    after = set(seen.membership.voters)
    for kind, node in step.changes:
        after.discard(node)
        if kind == ChangeKind.VOTER:
            after.add(node)
            assert votes.lag(seen, node) <= votes.LAG_ENTRIES_MAX
    if step.changes:
        reached = sum(votes.answers(seen, each) for each in after)
        assert reached >= len(after) // 2 + 1
        assert CONTROLLER not in {node for _, node in step.changes}
    if step.hand_over_to is not None:
        assert votes.answers(seen, step.hand_over_to)
