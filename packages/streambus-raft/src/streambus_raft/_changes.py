"""Changing who takes part, in one step or through a joint configuration (paper, section 6).

Rules:

- Only after an entry of the leader's own term is committed, and only one change at a time:
  otherwise two leaders could each remove a different node and both find a majority (the 2015 bug).
- A joint configuration is left by exactly one further entry, which whoever leads appends once the
  joint one is committed; a new leader that finds it committed does so too.
- A leader that the new configuration leaves out leads until that is committed, does not count
  meanwhile, and then hands over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft._entry import Entry, EntryKind
from streambus_raft._handover import abdicate
from streambus_raft._membership import Change, Membership, change_membership, leave_joint
from streambus_raft._replication import advance_commit, append_as_leader, broadcast_appends
from streambus_raft.errors import MembershipPendingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streambus_raft._state import Node
    from streambus_raft._types import Index


def is_pending(node: Node) -> bool:
    """Whether a change is under way."""
    return node.track.index > node.commit or node.track.current.is_joint


def propose_changes(node: Node, changes: Iterable[Change]) -> Index:
    """Append the next configuration and return its index.

    Raises:
        MembershipPendingError: a change is under way, or nothing of this term is committed yet.
        MembershipError: the changes make no sense.
    """
    if not node.committed_in_term():
        raise MembershipPendingError("this leader has not committed an entry of its term yet")
    if is_pending(node):
        raise MembershipPendingError(f"the change at {node.track.index} is under way")
    changes = list(changes)
    after = change_membership(node.track.current, changes)
    renewed = {change.node for change in changes}
    # A learner starts afresh: it may come with another storage from now on.
    storages = tuple(
        (member, storage_id)
        for member, storage_id in after.storages
        if member not in renewed or after.is_voter(member)
    )
    return _append(node, after._replace(storages=storages))


def _append(node: Node, membership: Membership) -> Index:
    index = node.log.last + 1
    append_as_leader(node, [Entry(index, node.term, EntryKind.MEMBERSHIP, membership.encode())])
    broadcast_appends(node)
    # Fewer voters may be enough for what is there already.
    advance_commit(node)
    return index


def after_commit(node: Node) -> None:
    """A leader's commit moved: leave a joint configuration, or office, when it is time."""
    if not node.committed_in_term() or node.track.index > node.commit:
        return
    current = node.track.current
    if current.is_joint:
        _append(node, leave_joint(current))
    elif not current.is_voter(node.id):
        abdicate(node)


def register_storages(node: Node) -> None:
    """Write down by which storage each member is known, once its first answers have come."""
    if not node.committed_in_term() or is_pending(node):
        return
    current = node.track.current
    found = {
        member: each.storage_id
        for member, each in node.progress.items()
        if each.storage_id and not each.foreign
    }
    found[node.id] = node.storage_id
    news = {
        member: storage_id
        for member, storage_id in found.items()
        if current.storage_of(member) is None and member in current.members()
    }
    if news:
        _append(node, current.with_storages(news))
