"""The memtable: what was written and is not yet in a table.

Theory of operation: a dict holds the newest version of each key, so a write costs a dict store
and a list append, whatever the order of the keys. Order is made late and in bulk: new keys
gather in a pending list; every `RUN_KEYS` of them are sorted into a run. From the first time on
that somebody asks for order, runs of like size are merged, so that a reader finds few of them
and nobody pays for more than a millisecond or two at once; most memtables nobody ever asks, and
the helper process that flushes them sorts in its own time. (Measured side by side, random keys:
a SortedDict insert 3.0 µs, a dict store with sorting in runs 0.7 µs, of which merging the runs
was 0.15; ascending keys only ever append to one run.)

Rules:

- A version that a live snapshot may see is kept in a chain behind the newer one; all others
  are dropped when they are overwritten. The caller says how new the newest snapshot is.
- Range deletes are an immutable `Intervals`, replaced as a whole **after** the points of the
  same batch are in: whoever reads the intervals first and the dict second sees each key
  either before or after the batch.
- Writing, and `ordered`, are guarded by the tree's write lock; `newest` and `at` are not.
- Runs are only ever appended to; a reader remembers their lengths.
- A signal's handler may raise wherever something is called, in the middle of a method, too. So
  what belongs together is changed by operators alone, after all calls.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from streambus_storage._intervals import Intervals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_storage._remains import Remains

RUN_KEYS = 1024
"""Keys sorted at once: about a quarter of a millisecond."""

RUN_KEYS_MAX = 8192
"""Runs above this are not merged any further: that is about a millisecond."""

FAN_IN = 8
"""Runs of like size that are merged into one."""

ENTRY_OVERHEAD_BYTES = 200
"""What Python needs for an entry: two bytes headers (66), a tuple (56), dict and list slots."""

RANGE_OVERHEAD_BYTES = 16_384
"""What a range delete counts: high, so that a table never waits for many thousands of them."""

Entry = tuple[Any, ...]
"""(sequence, value) or (sequence, value, older entry); a None value is a delete."""


class Ordered(NamedTuple):
    """The keys of a memtable at one moment: sorted runs, and how much of each belongs to it."""

    runs: list[list[bytes]]
    lengths: list[int]


class MemTable:
    """See the module's rules.

    Attributes:
        segment: Number of the log segment that holds the same writes.
        first_sequence: First sequence number that belongs here.
        last_sequence: Last one written, or ``first_sequence - 1``.
        bytes: Approximate memory held.
        intervals: Range deletes.
        entries: Newest version of each key.
        remains: Where the entries are left at the end; None: they are freed at once.
    """

    __slots__ = (
        "_asked",
        "_late",
        "_pending",
        "_range_deletes",
        "_runs",
        "bytes",
        "entries",
        "first_sequence",
        "intervals",
        "last_sequence",
        "remains",
        "segment",
    )

    def __init__(self, segment: int, first_sequence: int) -> None:
        self.segment = segment
        self.first_sequence = first_sequence
        self.last_sequence = first_sequence - 1
        self.bytes = 0
        self.intervals = Intervals()
        self.entries: dict[bytes, Entry] = {}
        self._range_deletes = 0
        self._pending: list[bytes] = []
        self._runs: list[list[bytes]] = []
        self._asked = False  # somebody has asked for order
        self._late = 0  # so many of the runs, the first ones, were sealed before that
        self.remains: Remains | None = None

    def __del__(self) -> None:
        """Leave the entries to be freed in slices."""
        if self.remains is not None:
            self.remains.leave(self.entries)

    @property
    def user_bytes(self) -> int:
        """Bytes of keys and values written, overwritten ones too (a batch counts as encoded)."""
        operations = self.last_sequence - self.first_sequence + 1
        ranges = self._range_deletes
        return (
            self.bytes
            - ENTRY_OVERHEAD_BYTES * (operations - ranges)
            - RANGE_OVERHEAD_BYTES * ranges
        )

    def put(self, sequence: int, key: bytes, value: bytes | None, snapshot: int) -> None:
        """Store one version; ``snapshot`` is the newest live snapshot's sequence, or -1."""
        self.last_sequence = sequence  # before the entry: see `slices`
        entries = self.entries
        if key in entries:
            entries[key] = _over(entries[key], sequence, value, snapshot)
        else:
            entries[key] = (sequence, value)
            pending = self._pending
            pending.append(key)
            if len(pending) >= RUN_KEYS:
                self._seal()
        self.bytes += len(key) + ENTRY_OVERHEAD_BYTES + (0 if value is None else len(value))

    def put_columns(
        self, sequence: int, keys: list[bytes], values: list[bytes | None], size: int, snapshot: int
    ) -> None:
        """Store a version for each key, consecutive sequence numbers; ``size``: encoded bytes."""
        entries = self.entries
        stop = sequence + len(keys)
        fresh = dict(zip(keys, zip(range(sequence, stop), values, strict=True), strict=True))
        if len(fresh) == len(keys) and entries.keys().isdisjoint(fresh):
            self.last_sequence = stop - 1  # before the entries: see `slices`
            entries |= fresh
            self._pending += keys
            if len(self._pending) >= RUN_KEYS:
                self._seal()
            self.bytes += size + ENTRY_OVERHEAD_BYTES * len(keys)
        else:
            for key, value in zip(keys, values, strict=True):
                self.put(sequence, key, value, snapshot)
                sequence += 1

    def delete_range(self, sequence: int, start: bytes, stop: bytes) -> None:
        """Delete what is older than ``sequence`` in [start, stop)."""
        self.intervals = self.intervals.add(start, stop, sequence)
        self.bytes += len(start) + len(stop) + RANGE_OVERHEAD_BYTES
        self._range_deletes += 1
        self.last_sequence = max(self.last_sequence, sequence)

    def newest(self, key: bytes) -> tuple[bool, bytes | None]:
        """Return (known, value) of the newest version; (True, None): deleted here.

        Lock-free: see the module's rules for the order of the two reads.
        """
        intervals = self.intervals
        entry = self.entries.get(key)
        if intervals.starts:
            deleted = intervals.at(key)
            if deleted > (-1 if entry is None else entry[0]):
                return True, None
        if entry is None:
            return False, None
        return True, entry[1]

    def at(self, key: bytes, sequence: int, intervals: Intervals) -> tuple[bool, bytes | None]:
        """Return (known, value) as of ``sequence``, under the range deletes of that time."""
        entry: Entry | None = self.entries.get(key)
        while entry is not None and entry[0] > sequence:
            entry = entry[2] if len(entry) == 3 else None
        if intervals.starts and intervals.at(key) > (-1 if entry is None else entry[0]):
            return True, None
        if entry is None:
            return False, None
        return True, entry[1]

    def ordered(self) -> Ordered:
        """Sort what is pending and return the runs. Call under the write lock."""
        if not self._asked:
            self._late = len(self._runs)
            self._asked = True
        if self._pending:
            self._seal()
        return Ordered(list(self._runs), list(map(len, self._runs)))

    def catch_up(self) -> bool:
        """Merge some of the runs from before the first call of `ordered`; False: there are none.

        Not all at once, because writers wait: call under the write lock.
        """
        begin, end = self._late - FAN_IN, self._late
        if begin < 0:
            return False
        runs = self._runs
        early = runs[begin:end]
        if sum(map(len, early)) > RUN_KEYS_MAX:
            self._late = end - 1  # it is not for its neighbours to wait for a long one
            return True
        joined = [key for run in early for key in run]
        joined.sort()
        runs[begin:end] = [joined]
        self._late = begin
        return True

    def _seal(self) -> None:
        """Turn the pending keys into a run."""
        run = sorted(self._pending)  # O(n) where they came in ascending order
        runs = self._runs
        if runs and runs[-1][-1] < run[0]:
            runs[-1] += run
            self._pending = []
            return
        runs += [run]
        self._pending = []
        while self._asked and len(runs) - self._late >= FAN_IN:
            tail = runs[-FAN_IN:]
            if sum(map(len, tail)) > RUN_KEYS_MAX or len(tail[0]) > FAN_IN * len(tail[-1]):
                return
            joined = [key for part in tail for key in part]
            joined.sort()
            runs[-FAN_IN:] = [joined]

    def slices(
        self,
        ordered: Ordered,
        sequence: int,
        intervals: Intervals,
        start: bytes,
        stop: bytes,
        *,
        reverse: bool = False,
        keys_max: int = 1024,
    ) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
        """Yield (keys, values) of [start, stop) as of ``sequence``, in ascending lists.

        With ``reverse`` the lists come from the end towards the beginning; each is ascending
        still. Deleted keys come with value None; keys unknown at ``sequence`` do not come.
        """
        for keys in merge_runs(ordered, start, stop, keys_max, reverse=reverse):
            found = list(map(self.entries.__getitem__, keys))
            # Writers raise last_sequence before they store: if it is still low, nothing in
            # ``found`` is too new.
            if self.last_sequence <= sequence and not intervals.starts:
                yield keys, [entry[1] for entry in found]
                continue
            values: list[bytes | None] = []
            known: list[bytes] = []
            for key, newest in zip(keys, found, strict=True):
                entry: Entry | None = newest
                while entry is not None and entry[0] > sequence:
                    entry = entry[2] if len(entry) == 3 else None
                if entry is None:
                    continue
                known.append(key)
                values.append(None if intervals and intervals.at(key) > entry[0] else entry[1])
            if known:
                yield known, values


def _over(old: Entry, sequence: int, value: bytes | None, snapshot: int) -> Entry:
    """Return the entry that replaces ``old``, keeping what the newest snapshot may see."""
    if old[0] <= snapshot:
        return (sequence, value, old)
    if len(old) == 3:
        return (sequence, value, old[2])
    return (sequence, value)


def merge_runs(
    ordered: Ordered, start: bytes, stop: bytes, keys_max: int, *, reverse: bool = False
) -> Iterator[list[bytes]]:
    """Yield the keys of all runs within [start, stop), merged, about ``keys_max`` at a time."""
    spans: list[tuple[list[bytes], int, int]] = []
    for run, length in zip(ordered.runs, ordered.lengths, strict=True):
        low, high = bisect_left(run, start, 0, length), bisect_left(run, stop, 0, length)
        if low < high:
            spans.append((run, low, high))
    if len(spans) == 1:
        run, low, high = spans[0]
        if reverse:
            for end in range(high, low, -keys_max):
                yield run[max(low, end - keys_max) : end]
        else:
            for begin in range(low, high, keys_max):
                yield run[begin : min(high, begin + keys_max)]
        return
    while spans:
        step = max(1, keys_max // len(spans))
        rest: list[tuple[list[bytes], int, int]] = []
        keys: list[bytes] = []
        if reverse:
            edge = max(run[max(low, high - step)] for run, low, high in spans)
            for run, low, high in spans:
                cut = bisect_left(run, edge, low, high)
                keys += run[cut:high]
                if low < cut:
                    rest.append((run, low, cut))
        else:
            edge = min(run[min(high, low + step) - 1] for run, low, high in spans)
            for run, low, high in spans:
                cut = bisect_right(run, edge, low, high)
                keys += run[low:cut]
                if cut < high:
                    rest.append((run, cut, high))
        keys.sort()
        yield keys
        spans = rest
