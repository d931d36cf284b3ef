"""Who is to vote on metadata, and the next step there. Pure, for the controller.

Rules:

- A broker that is wished to vote becomes a voter once it follows the metadata closely; until then
  it is a learner, which counts in no majority.
- A voter that came back with another disk has forgotten its votes. Where the others are a majority
  without it, it becomes a learner, and a voter again when it has caught up.
- So does a learner, which had no vote to forget: else one that was removed, and joined anew before
  the group had let it go, would never count as one that answers.
- A broker that is registered takes part: one that joined anew while its removal was being carried
  out may have been taken out of the group after it had registered.
- No step leaves voters of whom a majority cannot be reached.
- Of a broker that is being replaced the successor takes the vote, in one change of the group; then
  the broker is removed. The controller hands control over before that happens to itself; where no
  other voter could take it, the successor gets a vote beside it first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streambus_broker.cluster import commands as c
from streambus_broker.cluster.brokers import NOBODY
from streambus_broker.cluster.replacing import held_by
from streambus_raft import Change, ChangeKind, NodeId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streambus_broker.cluster.brokers import BrokerRecord
    from streambus_broker.cluster.state import ClusterState
    from streambus_raft import Membership, MemberStatus, Status

LAG_ENTRIES_MAX = 100
"""Entries of the metadata that a learner may lack when it becomes a voter: moments, not minutes."""


class Step(NamedTuple):
    """What to do next: one of the three, and nothing where all are empty."""

    changes: tuple[Change, ...] = ()
    command: c.SetVote | c.ReplaceBroker | c.RemoveBroker | None = None
    hand_over_to: int | None = None


NOTHING = Step()


def answers(status: Status, node_id: int) -> bool:
    """Whether a member can be reached, and counts."""
    known = status.members.get(NodeId(node_id))
    if known is None:
        return node_id == status.node_id
    return known.active and not known.foreign and known.refusal is None


def lag(status: Status, node_id: int) -> int:
    """Entries of the metadata that a member lacks; -1 where that is not known."""
    if node_id == status.node_id:
        return 0
    known = status.members.get(NodeId(node_id))
    return -1 if known is None or not known.active else max(0, status.commit - known.match)


def harm(status: Status, changes: Iterable[Change]) -> str | None:
    """Why changes would leave a group that cannot decide, or None."""
    voters = set(status.membership.voters)
    for kind, node_id in changes:
        voters.discard(node_id)
        if kind == ChangeKind.VOTER:
            voters.add(node_id)
    need = len(voters) // 2 + 1
    have = sum(answers(status, each) for each in voters)
    if have >= need:
        return None
    return f"of the {len(voters)} voters that there would be {have} can be reached, {need} must be"


def pending(state: ClusterState, status: Status, broker: BrokerRecord) -> str | None:
    """What is to become of a broker's role, and what that waits for; None for nothing."""
    number = NodeId(broker.broker_id)
    if broker.replaced_by != NOBODY:
        left = sum(1 for _ in held_by(state, number))
        what = f"replaced by {broker.replaced_by}"
        return f"{what}: {left} partitions left" if left else f"{what}: to be removed"
    known = status.members.get(number)
    if known is not None and known.foreign:
        return "its vote was its old disk's; it gets another one"
    if broker.vote and number not in status.membership.voters:
        behind = lag(status, number)
        return "to be a voter: " + (
            "it cannot be reached" if behind < 0 else f"metadata entries behind: {behind}"
        )
    return None


def next_step(state: ClusterState, status: Status) -> Step:
    """What the controller is to do about votes now."""
    if status.membership_pending:
        return NOTHING
    for broker in state.brokers.values():
        step = (
            _replace(state, status, broker)
            if broker.replaced_by != NOBODY
            else _wish(status, broker)
        )
        if step != NOTHING:
            return step
    return NOTHING


def _wish(status: Status, broker: BrokerRecord) -> Step:
    """Bring a broker's role nearer to what is wished."""
    number, membership = NodeId(broker.broker_id), status.membership
    known = status.members.get(number)
    if number not in membership.members():
        return _unless_harmful(status, Change(ChangeKind.LEARNER, number))
    if known is not None and known.foreign and number in membership.voters:
        if broker.vote is None:
            return Step(command=c.SetVote(number, wanted=True))
        return _unless_harmful(status, Change(ChangeKind.LEARNER, number))
    if known is not None and known.foreign and number in membership.learners:
        return _unless_harmful(status, Change(ChangeKind.REMOVE, number))  # and taken in again
    if broker.vote and number in membership.learners and _is_near(status, number):
        return _unless_harmful(status, Change(ChangeKind.VOTER, number))
    if broker.vote is False and number in membership.voters:
        if number == status.node_id:
            return _hand_over(status, number)
        return _unless_harmful(status, Change(ChangeKind.LEARNER, number))
    return NOTHING


def _replace(state: ClusterState, status: Status, old: BrokerRecord) -> Step:
    """Bring a replacement nearer to its end."""
    left = list(held_by(state, old.broker_id))
    if left:
        placed = any(old.broker_id not in record.removing for _, _, record in left)
        able = state.brokers.get(old.replaced_by)
        if placed and able is not None and able.leads:  # something came to it meanwhile
            return Step(command=c.ReplaceBroker(old.broker_id, old.replaced_by))
        return NOTHING
    number, successor = NodeId(old.broker_id), NodeId(old.replaced_by)
    if number in status.membership.voters:
        changes = [Change(ChangeKind.LEARNER, number)]
        if successor not in status.membership.voters:
            if not _is_near(status, successor):
                return NOTHING
            changes.append(Change(ChangeKind.VOTER, successor))
        if number == status.node_id:
            handing = _hand_over(status, number)
            # The only voter that answers needs a second one first.
            return handing if handing != NOTHING else _unless_harmful(status, *changes[1:])
        return _unless_harmful(status, *changes)
    if number == status.node_id:
        return NOTHING  # it leads no more as soon as that is committed
    return Step(command=c.RemoveBroker(number))


def strangers(state: ClusterState, membership: Membership) -> list[NodeId]:
    """Members of the group that were removed from the cluster."""
    return [
        each for each in membership.members() if each in state.removed and each not in state.brokers
    ]


def gone(state: ClusterState, membership: Membership) -> list[int]:
    """Brokers that were removed from the cluster, and are members of the group no more."""
    known = {*state.brokers, *membership.members()}
    return [each for each in state.removed if each not in known]


def _is_near(status: Status, node_id: NodeId) -> bool:
    return answers(status, node_id) and 0 <= lag(status, node_id) <= LAG_ENTRIES_MAX


def _unless_harmful(status: Status, *changes: Change) -> Step:
    return NOTHING if harm(status, changes) else Step(changes=changes)


def _hand_over(status: Status, leaver: NodeId) -> Step:
    """Give control to the voter that has most of the log."""
    found: list[tuple[int, NodeId]] = []
    for each in status.membership.voters:
        known: MemberStatus | None = status.members.get(each)
        if each != leaver and known is not None and answers(status, each):
            found.append((known.match, each))
    return Step(hand_over_to=max(found)[1]) if found else NOTHING
