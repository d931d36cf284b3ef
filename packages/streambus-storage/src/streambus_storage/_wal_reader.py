"""Reading the write-ahead log back, and telling a torn tail from damage.

What can be wrong with a log, and what it means:

- Bytes that are no valid record, and nothing says that they were ever durable: a write that
  the loss of power interrupted. It is dropped and reported, and with it everything after it
  (later segments too: replaying them would leave a hole).
- The same, but the manifest sealed the segment beyond that place, or a later valid record
  (of this segment or another) carries a durable mark beyond the last good sequence number:
  those bytes had been made durable. That is damage: `CorruptionError`.
- A live segment is missing: damage. Segments are made durable before they are used.

The pure part is `scan_segment` and `judge`; `replay` only reads the files.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from streambus_storage._manifest import read_whole
from streambus_storage._memtable import MemTable
from streambus_storage._names import segment_path
from streambus_storage._wal_format import (
    WAL_HEADER_BYTES,
    WalRecord,
    check_wal_header,
    decode_puts,
    decode_record,
    newest_durable_mark,
)
from streambus_storage.errors import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_storage._filesystem import FileSystem
    from streambus_storage._manifest_format import Segment


class TornTail(NamedTuple):
    """A tail of the log that was dropped, because it had never been durable.

    Attributes:
        path: The segment.
        offset: Where the last whole record ends.
        dropped_bytes: How much lay behind it.
        reason: What was found there.
    """

    path: str
    offset: int
    dropped_bytes: int
    reason: str


@dataclass(slots=True)
class RecoveryReport:
    """What an opening found in the write-ahead log.

    Attributes:
        segments: Segments replayed.
        records: Records replayed.
        bytes: Bytes of them.
        torn: Tails that were dropped: none after an orderly close, one after a loss of power
            (and one for each later segment that had to go with it).
        removed: Names of files that belonged to nothing and were removed.
    """

    segments: int = 0
    records: int = 0
    bytes: int = 0
    torn: list[TornTail] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


class Replayed(NamedTuple):
    """The result of reading the log back.

    Attributes:
        memtables: One for each segment that holds writes, oldest first.
        ends: Length of the valid part of each live segment that is kept.
        discarded: Live segments that are dropped, because one before them is torn.
        last_sequence: Of the last record.
    """

    memtables: list[MemTable]
    ends: dict[int, int]
    discarded: list[int]
    last_sequence: int


def scan_segment(
    data: bytes, seed: int, next_sequence: int
) -> Iterator[WalRecord | tuple[int, str]]:
    """Yield the valid records of a segment; at last (end, reason), reason "" at a clean end.

    Args:
        data: The file's content, or its sealed part.
        seed: What its header gives.
        next_sequence: The first record must have this sequence number.
    """
    offset = WAL_HEADER_BYTES
    while offset < len(data):
        joined = decode_puts(data, offset, seed, next_sequence)
        record = joined or decode_record(data, offset, seed)
        if isinstance(record, str):
            yield offset, record
            return
        # A mark repeats what was known when it was written; an ingest may have come after that.
        if record.sequence != next_sequence and not (
            record.is_mark and record.sequence < next_sequence
        ):
            yield offset, f"a record has sequence {record.sequence}, not {next_sequence}"
            return
        yield record
        if not record.is_mark:
            next_sequence = record.last_sequence + 1
        offset = record.end
    yield offset, ""


def fill(memtable: MemTable, record: WalRecord) -> None:
    """Store the operations of a record in a memtable, in their order."""
    if not record.ranges:
        if len(record.keys) == 1:
            memtable.put(record.sequence, record.keys[0], record.values[0], -1)
        else:
            size = record.end - record.offset
            memtable.put_columns(record.sequence, record.keys, record.values, size, -1)
        return
    apply_batch(memtable, record.sequence, record.keys, record.values, record.ranges, -1)


def apply_batch(
    memtable: MemTable,
    sequence: int,
    keys: list[bytes],
    values: list[bytes | None],
    ranges: list[tuple[int, bytes, bytes]],
    snapshot: int,
) -> None:
    """Store a batch that has range deletes: points first, see the memtable's rules."""
    at = {position for position, _, _ in ranges}
    places = (place for place in range(len(keys) + len(ranges)) if place not in at)
    for place, key, value in zip(places, keys, values, strict=True):
        memtable.put(sequence + place, key, value, snapshot)
    for position, start, stop in ranges:
        memtable.delete_range(sequence + position, start, stop)


def judge(
    path: str, offset: int, reason: str, last: int, durable: int, sealed: int | None
) -> CorruptionError | None:
    """Decide whether a bad place is damage.

    Args:
        path: The segment's file.
        offset: Where the last good record ends.
        reason: What is wrong there.
        last: Sequence number of the last good record.
        durable: Newest durable mark in any valid record.
        sealed: Length that the manifest gives the segment, if it does.

    Returns:
        The error, or None: a torn tail.
    """
    if sealed is not None and offset < sealed:
        return CorruptionError(path, offset, f"{reason}, in a log that was durable up to {sealed}")
    if durable > last:
        return CorruptionError(
            path, offset, f"{reason}, though sequence {durable} was durable and {last} is the last"
        )
    return None


def replay(
    file_system: FileSystem,
    directory: str,
    segments: list[Segment],
    flushed: int,
    report: RecoveryReport,
) -> Replayed:
    """Read all live segments back, oldest first.

    Args:
        file_system: The door.
        directory: Of the tree.
        segments: The live ones by the manifest, in their order.
        flushed: Everything up to this sequence number is in tables.
        report: Filled in.

    Raises:
        CorruptionError: A segment is missing, or damaged where it had been durable.
        FormatVersionError: A segment is of a later format.
        StorageIOError: One cannot be read.
    """
    memtables: list[MemTable] = []
    ends: dict[int, int] = {}
    last, durable = flushed, flushed
    files = _Files(file_system, directory)
    for position, segment in enumerate(segments):
        path = segment_path(directory, segment.number)
        data = files.pop(segment)
        file_bytes = len(data)
        if segment.sealed is not None:
            data = data[: segment.sealed]
        seed = check_wal_header(data, segment.number, path)
        memtable = MemTable(segment.number, last + 1)
        end, reason = WAL_HEADER_BYTES, ""
        for item in scan_segment(data, seed, last + 1):
            if isinstance(item, WalRecord):
                if not item.is_mark:
                    fill(memtable, item)
                    last = item.last_sequence
                durable = max(durable, item.durable)
                report.records += item.joined
            else:
                end, reason = item
        if not reason and segment.sealed is not None and file_bytes < segment.sealed:
            reason = f"the file ends at {file_bytes}"
        report.segments += 1
        report.bytes += end
        ends[segment.number] = end
        if memtable.last_sequence >= memtable.first_sequence:
            memtables.append(memtable)
        behind = segments[position + 1 :]
        follows = _first_sequence(files, behind)
        if follows == last + 1 and (segment.sealed is None or end >= segment.sealed):
            # Nothing is missing: what lies behind the last record is a failed append's garbage.
            if reason:
                report.torn.append(TornTail(path, end, file_bytes - end, reason))
            continue
        if reason or follows is not None:
            durable = newest_durable_mark(data, end, seed, durable)
            for other in behind:
                durable = max(durable, _durable_in(files, other, durable))
            error = judge(path, end, reason or "records are missing", last, durable, segment.sealed)
            if error is not None:
                raise error
            if file_bytes > end or reason:
                report.torn.append(TornTail(path, end, file_bytes - end, reason))
            for other in behind:
                _report_discarded(files, other, report)
            return Replayed(memtables, ends, [other.number for other in behind], last)
    if durable > last:
        path = segment_path(directory, segments[-1].number)
        raise CorruptionError(path, 0, f"sequence {durable} was durable, {last} is the last")
    return Replayed(memtables, ends, [], last)


class _Files:
    """The contents of segments, each read once: one is looked into before its turn comes."""

    def __init__(self, file_system: FileSystem, directory: str) -> None:
        self._file_system = file_system
        self._directory = directory
        self._held: dict[int, bytes] = {}

    def path(self, segment: Segment) -> str:
        """Return the path of a segment."""
        return segment_path(self._directory, segment.number)

    def get(self, segment: Segment) -> bytes:
        """Return the content, and keep it.

        Raises:
            CorruptionError: The file is missing.
            StorageIOError: It cannot be read.
        """
        data = self._held.get(segment.number)
        if data is None:
            path = self.path(segment)
            if not self._file_system.exists(path):
                raise CorruptionError(path, 0, "a segment of the write-ahead log is missing")
            data = self._held[segment.number] = read_whole(self._file_system, path)
        return data

    def pop(self, segment: Segment) -> bytes:
        """Return the content, and keep it no longer; raises as `get`."""
        data = self.get(segment)
        del self._held[segment.number]
        return data


def _first_sequence(files: _Files, segments: list[Segment]) -> int | None:
    """Return the sequence number of the first operation in ``segments``; None: there is none.

    If it does not follow the last one before them, then the end of the log before them is
    missing, even where it was cut at the border of a record.
    """
    for segment in segments:
        path, data = files.path(segment), files.get(segment)
        seed, offset = check_wal_header(data, segment.number, path), WAL_HEADER_BYTES
        while isinstance(record := decode_record(data, offset, seed), WalRecord):
            if not record.is_mark:
                return record.sequence
            offset = record.end
    return None


def _durable_in(files: _Files, segment: Segment, above: int) -> int:
    """Return the newest durable mark of a segment, or ``above``."""
    data = files.get(segment)
    seed = check_wal_header(data, segment.number, files.path(segment))
    return newest_durable_mark(data, WAL_HEADER_BYTES, seed, above)


def _report_discarded(files: _Files, segment: Segment, report: RecoveryReport) -> None:
    dropped = len(files.get(segment)) - WAL_HEADER_BYTES
    if dropped > 0:
        path = files.path(segment)
        report.torn.append(TornTail(path, 0, dropped, "a segment before it is torn"))
