"""Sending a snapshot piece by piece, and receiving one; a broken transfer goes on where it stopped.

The receiver says after each piece how much of it is durable, and the sender continues from there.
The first piece of a transfer also asks how much is there already, from an earlier attempt of this
leader or another one: snapshots with equal facts have equal bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft._messages import SnapshotChunk, SnapshotReply
from streambus_raft._progress import Progress, ProgressState
from streambus_raft._storage import SnapshotPiece
from streambus_raft.errors import SnapshotGoneError

if TYPE_CHECKING:
    from streambus_raft._state import Node
    from streambus_raft._types import NodeId


# The leader's side


def start_sending(node: Node, member: NodeId, progress: Progress) -> None:
    """What the member needs was compacted away: send the newest snapshot from its beginning."""
    progress.become_snapshot(node.storage.snapshot())
    _send_piece(node, member, progress)


def _send_piece(node: Node, member: NodeId, progress: Progress) -> None:
    meta = progress.snapshot
    assert meta is not None
    try:
        data = node.storage.read_snapshot(
            meta, progress.snapshot_offset, node.config.snapshot_chunk_bytes
        )
    except SnapshotGoneError:
        meta = node.storage.snapshot()
        progress.become_snapshot(meta)
        data = node.storage.read_snapshot(meta, 0, node.config.snapshot_chunk_bytes)
    progress.snapshot_idle_ticks = 0
    node.send(
        SnapshotChunk(
            node.id, member, node.term, progress.session, meta, progress.snapshot_offset, data
        )
    )


def resend_if_idle(node: Node, member: NodeId, progress: Progress) -> None:
    """The member lives, but the piece was not answered for a while: it, or the answer, was lost."""
    if progress.snapshot_idle_ticks >= node.config.election_ticks:
        _send_piece(node, member, progress)


def count_idle_tick(progress: Progress) -> None:
    """Let time pass for a piece that is under way."""
    if progress.state == ProgressState.SNAPSHOT:
        progress.snapshot_idle_ticks += 1


def stop_if_caught_up(node: Node, progress: Progress) -> None:
    """An append was acknowledged meanwhile: go on with entries, if they are still there."""
    if progress.match + 1 >= node.log.first():
        progress.become_probe()


def handle_snapshot_reply(node: Node, message: SnapshotReply, progress: Progress) -> bool:
    """Send the next piece; says whether the member now holds the snapshot."""
    meta = progress.snapshot
    if meta is None or message.index != meta.index:
        node.ignored += 1
        return False
    if message.done:
        progress.accepted(meta.index)
        progress.become_probe()
        return True
    if message.offset != progress.snapshot_offset and message.offset < meta.size_bytes:
        progress.snapshot_offset = message.offset
        _send_piece(node, message.sender, progress)
    return False


# The follower's side


def handle_chunk(node: Node, message: SnapshotChunk) -> bool:
    """Take over a piece; says whether the log was replaced by the snapshot, now complete."""
    meta = message.meta
    if meta.index <= node.commit:
        _reply(node, message, 0, done=True)
        return False
    if node.log.matches(meta.index, meta.term):
        # Nothing is missing but the knowledge that all of this is committed.
        node.commit = meta.index
        node.commit_moved = True
        _reply(node, message, 0, done=True)
        return False
    if node.partial != meta:
        if message.offset:
            _reply(node, message, 0, done=False)
            return False
        node.partial, node.partial_bytes = meta, 0
    if node.partial_bytes == meta.size_bytes and meta.size_bytes:
        # A power cut came between its last piece and its installation: no piece is missing.
        _install(node)
        _reply(node, message, 0, done=True)
        return True
    if message.offset != node.partial_bytes:
        _reply(node, message, node.partial_bytes, done=False)
        return False
    received = node.partial_bytes + len(message.data)
    if received > meta.size_bytes or (not message.data and meta.size_bytes):
        node.ignored += 1
        return False
    node.pieces.append(SnapshotPiece(meta, message.offset, message.data))
    node.partial_bytes = received
    if received < meta.size_bytes:
        _reply(node, message, received, done=False)
        return False
    _install(node)
    _reply(node, message, 0, done=True)
    return True


def _reply(node: Node, message: SnapshotChunk, offset: int, *, done: bool) -> None:
    node.send_durable(
        SnapshotReply(
            node.id,
            message.sender,
            node.term,
            message.session,
            message.meta.index,
            offset,
            done=done,
            storage_id=node.storage_id,
        )
    )


def _install(node: Node) -> None:
    """The snapshot replaces log, configurations and, once durable, the state machine's state."""
    meta = node.partial
    assert meta is not None
    node.install = meta
    node.partial, node.partial_bytes = None, 0
    node.log.restore(meta)
    node.track.restore(meta.index, meta.membership)
    node.commit = meta.index
    node.commit_moved = True
