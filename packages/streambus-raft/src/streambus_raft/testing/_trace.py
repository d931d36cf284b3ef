"""The course of a simulation as a conversation that a person can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from streambus_raft import _messages as messages
from streambus_raft._entry import EntryKind
from streambus_raft._membership import Membership, decode_membership

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streambus_raft._entry import Entry
    from streambus_raft._messages import Message


class TraceLine(NamedTuple):
    """One thing that happened."""

    time: float
    kind: str
    who: int
    what: Any
    """Its shape follows from ``kind``."""


def format_membership(membership: Membership) -> str:
    """As in ``voters 1 2 3, learners 4``, or ``voters 1 2 3 from 1 2 4``."""
    text = "voters " + " ".join(map(str, membership.voters))
    if membership.outgoing:
        text += " from " + " ".join(map(str, membership.outgoing))
    learners = [*membership.learners, *membership.learners_next]
    if learners:
        text += ", learners " + " ".join(map(str, learners))
    return text


def format_entry(entry: Entry) -> str:
    """As in ``7/2 "data"``: index, term, content."""
    if entry.kind == EntryKind.NOOP:
        content = "-"
    elif entry.kind == EntryKind.MEMBERSHIP:
        content = f"({format_membership(decode_membership(entry.data))})"
    else:
        content = repr(entry.data)[1:]
    return f"{entry.index}/{entry.term} {content}"


def format_entries(entries: list[Entry]) -> str:
    """All of them, or the ends of a long row."""
    if not entries:
        return "nothing"
    if len(entries) > 4:
        return f"{format_entry(entries[0])} … {format_entry(entries[-1])}"
    return ", ".join(map(format_entry, entries))


def format_message(message: Message) -> str:
    """Who says what to whom."""
    return f"{message.sender} → {message.to}: {_content(message)}"


def _content(message: Message) -> str:  # one line for each kind
    term = message.term
    if isinstance(message, messages.VoteRequest):
        kind = "pre-vote" if message.pre_vote else "vote"
        transfer = ", by transfer" if message.transfer else ""
        end = f"{message.last_index}/{message.last_term}"
        return f"{kind}? term {term}, my log ends at {end}{transfer}"
    if isinstance(message, messages.VoteReply):
        kind = "pre-vote" if message.pre_vote else "vote"
        return f"{kind} {'granted' if message.granted else 'refused'}, term {term}"
    if isinstance(message, messages.AppendRequest):
        return (
            f"append after {message.prev_index}/{message.prev_term}:"
            f" {format_entries(message.entries)}; commit {message.commit}, term {term}"
        )
    if isinstance(message, messages.AppendReply):
        if message.rejected:
            return (
                f"no match at {message.index}, perhaps at {message.hint_index}/{message.hint_term},"
                f" term {term}"
            )
        return f"durable to {message.index}, term {term}"
    if isinstance(message, messages.Heartbeat):
        return f"heartbeat {message.round}, commit {message.commit}, term {term}"
    if isinstance(message, messages.HeartbeatReply):
        return f"heard {message.round}, term {term}"
    if isinstance(message, messages.SnapshotChunk):
        return (
            f"snapshot at {message.meta.index}/{message.meta.term}, bytes {message.offset} to"
            f" {message.offset + len(message.data)} of {message.meta.size_bytes}, term {term}"
        )
    if isinstance(message, messages.SnapshotReply):
        state = "is installed" if message.done else f"goes on at byte {message.offset}"
        return f"snapshot at {message.index} {state}, term {term}"
    if isinstance(message, messages.TimeoutNow):
        return f"campaign now, term {term}"
    if isinstance(message, messages.ReadRequest):
        return f"where may I read? ticket {message.ticket % 10_000}, term {term}"
    if isinstance(message, messages.ReadReply):
        return f"read at {message.index}, ticket {message.ticket % 10_000}, term {term}"
    return f"takes no part: {message.reason}"


def format_trace(lines: Iterable[TraceLine]) -> Iterable[str]:
    """One line of text for each line of the trace."""
    for line in lines:
        yield f"{line.time:9.4f}  {_describe(line)}"


def _describe(line: TraceLine) -> str:
    who, what = line.who, line.what
    if line.kind == "send":
        message, delay = what
        return f"{format_message(message)}  (arrives after {delay * 1000:.1f} ms)"
    if line.kind == "receive":
        return f"    {format_message(what)}  (arrived)"
    if line.kind == "lost":
        return f"{format_message(what)}  (lost)"
    if line.kind == "fault":
        return f"=== {what}"
    if line.kind == "write":
        return f"  {who} writes {_describe_write(what)}"
    if line.kind == "standing":
        role, term, leader = what
        return f"  {who} is {role.name.lower()} in term {term}, leader {leader or 'unknown'}"
    if line.kind == "apply":
        first, last = what
        return f"  {who} applies {first} to {last}"
    if line.kind == "start":
        return (
            f"  {who} starts: term {what.term}, log {what.first} to {what.last},"
            f" commit {what.commit}, {format_membership(what.membership)}"
            f"{', QUARANTINE: ' + what.quarantine if what.quarantine else ''}"
        )
    if line.kind == "crash":
        return f"  {who} CRASHES; its disk ends at {what}"
    if line.kind in ("invoke", "answer", "unknown"):
        return f"        client {who} {line.kind}: {what}"
    return f"  {who} {line.kind}: {what}"


def _describe_write(write: Any) -> str:
    parts = [f"#{write.sequence}"]
    if write.hard_state is not None:
        state = write.hard_state
        parts.append(f"term {state.term}, vote {state.vote or 'none'}, commit {state.commit}")
    if write.pieces:
        parts.append(f"{len(write.pieces)} pieces of a snapshot")
    if write.snapshot is not None:
        parts.append(f"the snapshot at {write.snapshot.index}")
    if write.entries:
        parts.append(format_entries(write.entries))
    return ", ".join(parts)
