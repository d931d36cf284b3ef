"""One entry of the replicated log, and how many of them fit into a number of bytes."""

from __future__ import annotations

from bisect import bisect_right
from enum import IntEnum
from itertools import accumulate, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_raft._types import Index, Term

ENTRY_OVERHEAD_BYTES = 16
"""What an entry is reckoned to cost beside its data, so that empty entries are not free."""


class EntryKind(IntEnum):
    """Who the content of an entry is for."""

    COMMAND = 0
    """For the state machine."""
    NOOP = 1
    """Opens a leader's term; carries nothing (paper, section 8)."""
    MEMBERSHIP = 2
    """An encoded ``Membership``; in force from the moment it is in the log (thesis, section
    4.1)."""


class Entry(NamedTuple):
    """One entry; never changed after it was made, so slices of the log may be shared."""

    index: Index  # type: ignore[assignment]  # hides tuple.index on purpose
    term: Term
    kind: int
    """A value of ``EntryKind``; a plain integer where it came from the wire."""
    data: bytes


_data_of = itemgetter(3)


def make_entries(
    first: Index, term: Term, kind: EntryKind, payloads: Sequence[bytes]
) -> list[Entry]:
    """Build consecutive entries without a Python call for each of them."""
    columns = zip(
        range(first, first + len(payloads)), repeat(term), repeat(int(kind)), payloads, strict=False
    )
    return list(map(tuple.__new__, repeat(Entry), columns))


def entries_bytes(entries: Sequence[Entry]) -> int:
    """Add up what the entries cost. Cost: linear, in C."""
    return sum(map(len, map(_data_of, entries))) + ENTRY_OVERHEAD_BYTES * len(entries)


def limit_bytes(entries: list[Entry], bytes_max: int) -> list[Entry]:
    """Keep the longest start of ``entries`` within ``bytes_max``, but never less than one entry.

    A single entry above the limit is kept: otherwise it could never be replicated.
    """
    if entries_bytes(entries) <= bytes_max:
        return entries
    costs = list(accumulate(map(ENTRY_OVERHEAD_BYTES.__add__, map(len, map(_data_of, entries)))))
    return entries[: max(1, bisect_right(costs, bytes_max))]
