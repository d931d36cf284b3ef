"""From what a storage holds to a node that may take part, or must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft._entry import EntryKind
from streambus_raft._membership import decode_membership
from streambus_raft._state import Node

if TYPE_CHECKING:
    from streambus_raft._config import Config
    from streambus_raft._storage import LogReader
    from streambus_raft._types import Dice, Index

SCAN_BYTES = 4 << 20
"""The log is read in portions of this size to find the configurations in it."""


def open_node(config: Config, storage: LogReader, random: Dice, applied: Index | None) -> Node:
    """Begin where the storage left off. Cost: linear in the log behind the snapshot."""
    node = Node(config, storage, random)
    node.quarantine = _find_loss(node, applied)
    if node.quarantine is None:
        _scan_memberships(node)
        _take_up_position(node, applied)
    node.draw_timeout()
    return node


def _find_loss(node: Node, applied: Index | None) -> str | None:
    """Why this storage cannot be what this node once acknowledged, or None."""
    state = node.storage.state()
    log = node.log
    if state.loss is not None:
        return state.loss
    snapshot, hard_state = state.snapshot.index, state.hard_state
    if log.last < snapshot:
        return f"the log ends at {log.last}, before the snapshot at {snapshot}"
    if log.first() > snapshot + 1:
        return f"entries before {log.first()} are gone, and the snapshot ends at {snapshot}"
    if hard_state.commit > log.last:
        return f"entry {hard_state.commit} was committed, but the log ends at {log.last}"
    if applied is not None and applied > log.last:
        return f"entry {applied} was applied, but the log ends at {log.last}"
    if log.last_term > hard_state.term:
        return f"the log is of term {log.last_term}, but the vote is of {hard_state.term}"
    return None


def _scan_memberships(node: Node) -> None:
    index, stop = node.track.index + 1, node.log.last + 1
    while index < stop:
        entries = node.storage.entries(index, stop, SCAN_BYTES)
        for entry in entries:
            if entry.kind == EntryKind.MEMBERSHIP:
                node.track.append(entry.index, decode_membership(entry.data))
        index = entries[-1].index + 1


def _take_up_position(node: Node, applied: Index | None) -> None:
    """Continue applying where the state machine is; give it the snapshot if it is behind that."""
    snapshot = node.storage.state().snapshot
    node.commit = max(snapshot.index, node.written_hard_state.commit, applied or 0)
    if applied is not None and applied >= snapshot.index:
        node.applied = node.handed_out = applied
    elif snapshot.index:
        node.restore = snapshot
