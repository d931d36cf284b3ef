"""What the records of a log segment say: one type byte, then msgpack.

``docs/formats/raft-log.md`` has the grammar. Pure functions; what cannot be read is a
:class:`RecordError`, which the recovery turns into one that names file and position.
"""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgpack

from streambus_raft._entry import Entry, EntryKind
from streambus_raft._hard_state import HardState
from streambus_raft._types import NUMBER_MAX, Index, NodeId, Term

if TYPE_CHECKING:
    from collections.abc import Sequence

ENTRIES: Final = 1
HARD_STATE: Final = 2
RESET: Final = 3
COMPACT: Final = 4
CHECKPOINT: Final = 5

_KINDS: Final = frozenset(int(kind) for kind in EntryKind)


class RecordError(Exception):
    """A record whose checksum is right says something that makes no sense."""


class EntriesRecord(NamedTuple):
    """Entries that replace everything from the first one's index on."""

    entries: list[Entry]


class HardStateRecord(NamedTuple):
    """Replaces the previous hard state."""

    state: HardState


class ResetRecord(NamedTuple):
    """A leader's snapshot was installed: the whole log is dropped and begins anew behind it."""

    index: Index  # type: ignore[assignment]  # hides tuple.index on purpose
    term: Term


class CompactRecord(NamedTuple):
    """Entries up to and with this one are no longer needed; ``term`` is this one's term."""

    index: Index  # type: ignore[assignment]  # hides tuple.index on purpose
    term: Term


class CheckpointRecord(NamedTuple):
    """Opens every segment: all that must be known of the segments before it."""

    state: HardState
    start_index: Index
    start_term: Term
    last_index: Index
    last_term: Term


LogRecord: TypeAlias = (
    EntriesRecord | HardStateRecord | ResetRecord | CompactRecord | CheckpointRecord
)


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """Encode consecutive entries as columns; term and kind are one number where all agree."""
    indexes, terms, kinds, payloads = zip(*entries, strict=True)
    same_term, same_kind = terms[0] == terms[-1], len(set(kinds)) == 1
    columns = (
        indexes[0],
        terms[0] if same_term else terms,
        kinds[0] if same_kind else kinds,
        payloads,
    )
    return _pack(ENTRIES, columns)


def encode_hard_state(state: HardState) -> bytes:
    """Encode term, vote and commit."""
    return _pack(HARD_STATE, state)


def encode_reset(index: Index, term: Term) -> bytes:
    """Encode the new beginning behind an installed snapshot."""
    return _pack(RESET, (index, term))


def encode_compact(index: Index, term: Term) -> bytes:
    """Encode that everything up to ``index`` is dropped."""
    return _pack(COMPACT, (index, term))


def encode_checkpoint(checkpoint: CheckpointRecord) -> bytes:
    """Encode the opening of a segment."""
    return _pack(CHECKPOINT, (tuple(checkpoint.state), *checkpoint[1:]))


def _pack(kind: int, fields: Sequence[object]) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return b"%c%b" % (kind, packed)


def decode_log_record(body: bytes) -> LogRecord:
    """Decode any record.

    Raises:
        RecordError: the type is unknown, or the content does not fit it.
    """
    if not body:
        raise RecordError("an empty record")
    try:
        fields = msgpack.unpackb(memoryview(body)[1:], use_list=False)
    except (ValueError, msgpack.UnpackException) as exc:
        raise RecordError(f"no msgpack: {exc}") from exc
    if not isinstance(fields, tuple):
        raise RecordError("the content is no array")
    kind = body[0]
    if kind == ENTRIES:
        return EntriesRecord(_entries(fields))
    if kind == HARD_STATE:
        return HardStateRecord(_hard_state(fields))
    if kind in (RESET, COMPACT):
        index, term = _numbers(fields, 2)
        place = (index, Term(term))
        return ResetRecord(*place) if kind == RESET else CompactRecord(*place)
    if kind == CHECKPOINT and len(fields) == 5:
        start_index, start_term, last_index, last_term = _numbers(fields[1:], 4)
        state = _hard_state(fields[0])
        return CheckpointRecord(state, start_index, Term(start_term), last_index, Term(last_term))
    raise RecordError(f"the record type {kind} is unknown or has {len(fields)} fields")


def _entries(fields: tuple[object, ...]) -> list[Entry]:
    if len(fields) != 4:
        raise RecordError(f"entries have {len(fields)} fields")
    first, terms, kinds, payloads = fields
    if not isinstance(payloads, tuple) or not payloads or set(map(type, payloads)) != {bytes}:
        raise RecordError("the entries' data is no column of bytes")
    count = len(payloads)
    if type(first) is not int or not 0 < first <= NUMBER_MAX - count:
        raise RecordError("the entries' first index is out of range")
    term_column = _column(terms, count)
    kind_column = _column(kinds, count)
    if not set(kind_column) <= _KINDS:
        raise RecordError("an entry is of an unknown kind")
    rows = zip(range(first, first + count), term_column, kind_column, payloads, strict=True)
    return list(map(tuple.__new__, repeat(Entry), rows))


def _column(values: object, count: int) -> tuple[int, ...]:
    if type(values) is int:
        return _numbers((values,), 1) * count
    if not isinstance(values, tuple):
        raise RecordError("a column is no array")
    return _numbers(values, count)


def _hard_state(fields: object) -> HardState:
    if not isinstance(fields, tuple):
        raise RecordError("a hard state is no array")
    term, vote, commit = _numbers(fields, 3)
    return HardState(Term(term), NodeId(vote), commit)


def _numbers(values: tuple[object, ...], count: int) -> tuple[int, ...]:
    if len(values) != count:
        raise RecordError(f"{len(values)} numbers in place of {count}")
    for value in values:
        if type(value) is not int or not 0 <= value <= NUMBER_MAX:
            raise RecordError(f"{value!r} is no number from 0 to 2**63 - 1")
    return values  # type: ignore[return-value]  # each one was just seen to be an int
