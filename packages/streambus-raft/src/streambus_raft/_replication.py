"""Appending, sending, acknowledging and committing entries."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from streambus_raft import _snapshots
from streambus_raft._entry import Entry, EntryKind, entries_bytes
from streambus_raft._identity import judge_storages, renew_sessions
from streambus_raft._membership import decode_membership
from streambus_raft._messages import AppendReply, AppendRequest, Heartbeat, HeartbeatReply
from streambus_raft._progress import Progress, ProgressState
from streambus_raft._quorum import quorum_value
from streambus_raft._types import Index, NodeId, Role
from streambus_raft.errors import CompactedError

if TYPE_CHECKING:
    from streambus_raft._state import Node

_kind_of = itemgetter(2)


# The leader's side


def append_as_leader(node: Node, entries: list[Entry]) -> None:
    """Add entries of this term to the leader's own log; ``send_appends`` carries them on."""
    node.log.append(entries)
    _adopt_memberships(node, entries)


def _adopt_memberships(node: Node, entries: list[Entry]) -> None:
    """Put configurations among new entries in force."""
    if EntryKind.MEMBERSHIP not in map(_kind_of, entries):
        return
    before = node.track.current
    for entry in entries:
        if entry.kind == EntryKind.MEMBERSHIP:
            node.track.append(entry.index, decode_membership(entry.data))
    if node.role == Role.LEADER:
        reconcile_progress(node)
        renew_sessions(node, before)


def reconcile_progress(node: Node) -> None:
    """Keep one progress for each member but oneself; a new one starts a new session."""
    members = node.track.current.members()
    node.is_leaving = not node.is_voter()
    for member in [each for each in node.progress if each not in members]:
        del node.progress[member]
        node.rounds_acked.pop(member, None)
    for member in members:
        if member != node.id and member not in node.progress:
            node.progress[member] = node.new_progress(node.log.last)
    judge_storages(node)


def broadcast_appends(node: Node) -> None:
    """Send every member what it may be sent."""
    for member, progress in node.progress.items():
        send_appends(node, member, progress)


def send_appends(node: Node, member: NodeId, progress: Progress) -> None:
    """Send what there is, until the window is full."""
    last = node.log.last
    while not progress.is_paused and progress.next <= last:
        if not _send_append(node, member, progress):
            return


def _send_append(node: Node, member: NodeId, progress: Progress) -> bool:
    """Send one append, empty if there is nothing new; or begin a snapshot where it is gone."""
    log, previous = node.log, progress.next - 1
    entries: list[Entry] = []
    try:
        previous_term = log.term(previous)
        if progress.next <= log.last:
            entries = log.entries(progress.next, log.last + 1, node.config.append_bytes_max)
    except CompactedError:
        _snapshots.start_sending(node, member, progress)
        return False
    node.send(
        AppendRequest(
            node.id,
            member,
            node.term,
            progress.session,
            previous,
            previous_term,
            node.commit,
            entries,
        )
    )
    if progress.state == ProgressState.REPLICATE:
        if entries:
            progress.next = entries[-1].index + 1
            progress.window.add(entries[-1].index, entries_bytes(entries))
        progress.commit_sent = max(progress.commit_sent, min(node.commit, progress.next - 1))
    else:
        progress.probe_sent = True
    return True


def advance_commit(node: Node) -> None:
    """Commit what a quorum holds; an entry of an earlier term only along with one of this term.

    (Paper, 5.4.2 and figure 8: an old entry on a majority can still be overwritten.)
    """
    reached = quorum_value(node.track.current, node.matches())
    if reached > node.commit and node.log.term(reached) == node.term:
        _commit_to(node, reached)


def _commit_to(node: Node, index: Index) -> None:
    if index <= node.commit:
        return
    node.commit = index
    node.commit_moved = True
    while node.proposed and node.proposed[0][0] <= index:
        node.proposed_bytes -= node.proposed.popleft()[1]


def handle_append_reply(node: Node, message: AppendReply, progress: Progress) -> None:
    """A member tells what it holds."""
    if message.rejected:
        hint = message.hint_index
        if message.hint_index < message.index:
            hint, _ = node.log.meeting_point(message.hint_index, message.hint_term)
        if progress.rejected(message.index, hint):
            send_appends(node, message.sender, progress)
            _probe_if_needed(node, message.sender, progress)
        return
    if message.index > node.log.last:
        node.ignored += 1
        return
    was_paused = progress.is_paused
    news = progress.accepted(message.index)
    if progress.state == ProgressState.PROBE:
        progress.become_replicate()
    elif progress.state == ProgressState.SNAPSHOT:
        _snapshots.stop_if_caught_up(node, progress)
    if news:
        advance_commit(node)
    if news or was_paused:
        send_appends(node, message.sender, progress)


def _probe_if_needed(node: Node, member: NodeId, progress: Progress) -> None:
    """Send an append even if there is nothing new: its answer tells where the logs meet."""
    if progress.state == ProgressState.PROBE and not progress.probe_sent:
        _send_append(node, member, progress)


def handle_heartbeat_reply(node: Node, message: HeartbeatReply, progress: Progress) -> None:
    """A member lives: whatever it lacks and was sent before may be lost, so send again."""
    if progress.state == ProgressState.SNAPSHOT:
        _snapshots.resend_if_idle(node, message.sender, progress)
        return
    if progress.state == ProgressState.REPLICATE and progress.window.is_full:
        progress.window.free_first()
    if progress.match < node.log.last or progress.state == ProgressState.PROBE:
        # In REPLICATE this may be empty: where earlier ones were lost it is rejected, and tells so.
        _send_append(node, message.sender, progress)


def send_heartbeats(node: Node, round_number: int) -> None:
    """Tell every member that its leader lives; round 0 merely carries a new commit."""
    for member, progress in node.progress.items():
        commit = min(node.commit, progress.match)
        if round_number == 0 and (
            progress.commit_sent >= commit or progress.state != ProgressState.REPLICATE
        ):
            continue
        progress.commit_sent = max(progress.commit_sent, commit)
        node.send(
            Heartbeat(
                node.id,
                member,
                node.term,
                progress.session,
                commit,
                round_number,
                progress.storage_id,
            )
        )


# The follower's side


def handle_append(node: Node, message: AppendRequest) -> str | None:
    """Take over entries where they fit; an existing entry goes only where it contradicts.

    Returns the reason for a quarantine, where a committed entry contradicts the leader's log.
    """
    log, entries = node.log, message.entries
    if message.prev_index < node.commit:
        # Entries up to the commit match every later leader's log: skip them (and never read
        # what may be compacted).
        known = node.commit - message.prev_index
        if len(entries) <= known:
            _acknowledge(node, message, node.commit)
            return None
        if entries[known - 1].term != log.term(node.commit):
            return f"the entry committed at {node.commit} is not the one that the leader holds"
        entries = entries[known:]
    elif not log.matches(message.prev_index, message.prev_term):
        hint, hint_term = log.meeting_point(min(message.prev_index, log.last), message.prev_term)
        node.send(
            AppendReply(
                node.id,
                message.sender,
                node.term,
                message.session,
                rejected=True,
                index=message.prev_index,
                hint_index=hint,
                hint_term=hint_term,
                storage_id=node.storage_id,
            )
        )
        return None
    fresh = entries[log.find_conflict(entries) :]
    if fresh:
        if fresh[0].index <= log.last:
            log.truncate(fresh[0].index)
            node.track.truncate(fresh[0].index)
        log.append(fresh)
        _adopt_memberships(node, fresh)
    verified = message.prev_index + len(message.entries)
    _commit_to(node, min(message.commit, verified))
    _acknowledge(node, message, verified)
    return None


def _acknowledge(node: Node, message: AppendRequest, index: Index) -> None:
    node.send_durable(
        AppendReply(
            node.id,
            message.sender,
            node.term,
            message.session,
            rejected=False,
            index=index,
            hint_index=0,
            hint_term=node.term,
            storage_id=node.storage_id,
        )
    )


def handle_heartbeat(node: Node, message: Heartbeat) -> str | None:
    """The leader lives. Returns the reason for a quarantine, where this log has lost entries."""
    if message.storage_id == node.storage_id:
        if message.commit > node.log.last:
            return (
                f"the leader knows of entries up to {message.commit} that this storage"
                f" acknowledged; it ends at {node.log.last}"
            )
        _commit_to(node, message.commit)
    if message.round:
        node.send(
            HeartbeatReply(
                node.id, message.sender, node.term, message.session, message.round, node.storage_id
            )
        )
    return None
