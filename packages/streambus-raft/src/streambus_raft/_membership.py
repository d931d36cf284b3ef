"""Who takes part: the (possibly joint) configuration of the cluster, and the changes to it.

A configuration is in force from the moment it is in a node's log, committed or not, and is taken
back when that entry is truncated (paper, section 6). While ``outgoing`` is not empty the
configuration is *joint*: every decision needs a majority of ``voters`` and one of ``outgoing``.

Besides, the configuration remembers the identity of each member's storage once it is known. A
member that comes back with another, empty storage has forgotten its votes and acknowledgements: it
does not count until it was taken in anew.
"""

from __future__ import annotations

import itertools
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

import msgpack

from streambus_raft._types import NUMBER_MAX, NodeId
from streambus_raft.errors import MembershipError, MessageMalformedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNPACK_ERRORS = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)
"""What msgpack raises for bytes that are no value."""

MEMBERS_MAX = 1000
"""Members of a configuration; far above what makes sense, low enough to bound a bad message."""


class ChangeKind(IntEnum):
    """What happens to a member."""

    VOTER = 0
    """Becomes a voter: added, or promoted from learner."""
    LEARNER = 1
    """Becomes a learner: added, or demoted from voter. It receives the log and does not count."""
    REMOVE = 2
    """Leaves."""


class Change(NamedTuple):
    """One wish within a membership change."""

    kind: ChangeKind
    node: NodeId


class Membership(NamedTuple):
    """A configuration; every tuple is sorted and free of duplicates."""

    voters: tuple[NodeId, ...] = ()
    outgoing: tuple[NodeId, ...] = ()
    """The voters before the change, while the configuration is joint; else empty."""
    learners: tuple[NodeId, ...] = ()
    learners_next: tuple[NodeId, ...] = ()
    """Outgoing voters that become learners when the joint configuration is left."""
    storages: tuple[tuple[NodeId, int], ...] = ()
    """The identity of each member's storage, as far as known."""

    @property
    def is_joint(self) -> bool:
        """Whether two majorities are needed."""
        return bool(self.outgoing)

    def is_voter(self, node: NodeId) -> bool:
        """Whether ``node`` counts in one of the majorities."""
        return node in self.voters or node in self.outgoing

    def members(self) -> tuple[NodeId, ...]:
        """Everybody who receives the log, in ascending order."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners, *self.learners_next}))

    def storage_of(self, node: NodeId) -> int | None:
        """The identity of the storage that ``node`` is known by, or None if it is not known yet."""
        for member, storage_id in self.storages:
            if member == node:
                return storage_id
        return None

    def with_storages(self, found: Mapping[NodeId, int]) -> Membership:
        """The same members with the identities in ``found`` set; of others than members none."""
        known = {**dict(self.storages), **found}
        members = self.members()
        return self._replace(
            storages=tuple((node, known[node]) for node in members if node in known)
        )

    def encode(self) -> bytes:
        """As the data of an entry of kind ``EntryKind.MEMBERSHIP``."""
        return msgpack.packb(self)  # type: ignore[no-any-return]  # msgpack is typed as Any


def new_membership(voters: Iterable[int], learners: Iterable[int] = ()) -> Membership:
    """The configuration that a new cluster starts from.

    Raises:
        MembershipError: no voter, a duplicate, a node that is both, or an id out of range.
    """
    voting, learning = list(voters), list(learners)
    everyone = voting + learning
    if not voting:
        raise MembershipError("a cluster needs at least one voter")
    if len(set(everyone)) != len(everyone):
        raise MembershipError(f"a node is listed twice: {sorted(everyone)}")
    if not all(0 < node <= NUMBER_MAX for node in everyone):
        raise MembershipError(f"node ids are from 1 to {NUMBER_MAX}: {sorted(everyone)}")
    if len(everyone) > MEMBERS_MAX:
        raise MembershipError(f"{len(everyone)} members; the limit is {MEMBERS_MAX}")
    return Membership(
        voters=tuple(sorted(map(NodeId, voting))), learners=tuple(sorted(map(NodeId, learning)))
    )


def decode_membership(data: bytes) -> Membership:
    """Read what ``Membership.encode`` made.

    Raises:
        MessageMalformedError: anything else; nothing is trusted.
    """
    try:
        fields = msgpack.unpackb(data, use_list=False, max_array_len=MEMBERS_MAX)
    except UNPACK_ERRORS as exc:
        raise MessageMalformedError("a membership is no msgpack value") from exc
    return membership_from_fields(fields)


def membership_from_fields(fields: object) -> Membership:
    """Check a decoded array of fields.

    Raises:
        MessageMalformedError: shape, type, order or range is wrong.
    """
    if not isinstance(fields, tuple) or len(fields) != 5:
        raise MessageMalformedError("a membership has five fields")
    *groups, storages = fields
    for group in groups:
        if not isinstance(group, tuple) or len(group) > MEMBERS_MAX:
            raise MessageMalformedError("a membership's groups are arrays of node ids")
        if not all(type(node) is int and 0 < node <= NUMBER_MAX for node in group):
            raise MessageMalformedError("a membership names a node id out of range")
        if any(a >= b for a, b in itertools.pairwise(group)):
            raise MessageMalformedError("a membership's groups are in ascending order")
    if not isinstance(storages, tuple) or len(storages) > MEMBERS_MAX:
        raise MessageMalformedError("a membership's storages are an array of pairs")
    for pair in storages:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise MessageMalformedError("a membership's storages are an array of pairs")
        if not all(type(number) is int and 0 < number <= NUMBER_MAX for number in pair):
            raise MessageMalformedError("a membership names a storage out of range")
    membership = Membership(*fields)
    voters = {*membership.voters, *membership.outgoing}
    if voters & {*membership.learners} or {*membership.learners_next} - {*membership.outgoing}:
        raise MessageMalformedError("a membership lists a node as voter and learner")
    return membership


def change_membership(current: Membership, changes: Iterable[Change]) -> Membership:
    """What comes after ``current`` when ``changes`` are made: joint if more than one voter changes.

    Args:
        current: not joint.
        changes: at most one for each node; all take effect together.

    Raises:
        MembershipError: joint already, nothing to change, unknown node, no voter left, or
        duplicate.
    """
    if current.is_joint:
        raise MembershipError("the configuration is joint already")
    voters, learners = set(current.voters), set(current.learners)
    touched: set[NodeId] = set()
    for kind, node in changes:
        if not 0 < node <= NUMBER_MAX:
            raise MembershipError(f"node ids are from 1 to {NUMBER_MAX}, not {node}")
        if node in touched:
            raise MembershipError(f"node {node} is changed twice")
        touched.add(node)
        if kind == ChangeKind.REMOVE and node not in voters and node not in learners:
            raise MembershipError(f"node {node} is no member")
        voters.discard(node)
        learners.discard(node)
        if kind == ChangeKind.VOTER:
            voters.add(node)
        elif kind == ChangeKind.LEARNER:
            learners.add(node)
    if not voters:
        raise MembershipError("no voter would be left")
    if len(voters) + len(learners) > MEMBERS_MAX:
        raise MembershipError(f"more than {MEMBERS_MAX} members")
    if voters == set(current.voters) and learners == set(current.learners):
        raise MembershipError("nothing would change")
    before = set(current.voters)
    joint = len(voters ^ before) > 1
    demoted = learners & before if joint else set()
    after = Membership(
        voters=tuple(sorted(voters)),
        outgoing=current.voters if joint else (),
        learners=tuple(sorted(learners - demoted)),
        learners_next=tuple(sorted(demoted)),
        storages=current.storages,
    )
    return after.with_storages({})


def leave_joint(current: Membership) -> Membership:
    """What comes after a joint configuration: its new voters alone.

    Raises:
        MembershipError: ``current`` is not joint.
    """
    if not current.is_joint:
        raise MembershipError("the configuration is not joint")
    after = Membership(
        voters=current.voters,
        learners=tuple(sorted({*current.learners, *current.learners_next})),
        # A demoted voter starts afresh: it may come with another storage from now on.
        storages=tuple(pair for pair in current.storages if pair[0] not in current.learners_next),
    )
    return after.with_storages({})
