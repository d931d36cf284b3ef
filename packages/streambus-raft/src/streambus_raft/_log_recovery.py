"""Read a log's segments back after a stop of any kind: what they hold, and what is wrong with them.

The verdicts, worst first:

- *damage*: something that had been synced is not as it was. ``LogDamagedError`` names file and
  offset; nothing is changed on the disk, so that a backup or an expert can still look at it.
- *torn tail*: a power cut left a beginning of what was being written. It is cut off and reported;
  nobody was ever promised it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from streambus_raft._hard_state import HardState
from streambus_raft._log_index import LogIndex, Place
from streambus_raft._log_records import (
    CheckpointRecord,
    CompactRecord,
    EntriesRecord,
    HardStateRecord,
    RecordError,
    ResetRecord,
    decode_log_record,
)
from streambus_raft._segment import Record, framed_bytes, scan_segment
from streambus_raft._types import Term
from streambus_raft.errors import LogDamagedError, StorageError

if TYPE_CHECKING:
    from streambus_raft._files import FileSystem

_SEGMENT_NAME: Final = re.compile(r"log-(\d{20})\.seg")


class TornTail(NamedTuple):
    """Bytes that a crash left unfinished, and that were cut off."""

    path: str
    offset: int
    size_bytes: int
    problem: str


class Recovered(NamedTuple):
    """What the segments hold.

    Attributes:
        hard_state: The last one written.
        log: The entries.
        segments: The numbers of the segments that count, ascending; empty for a new log.
        position: Where the last of them ends.
        torn: What was cut off, or None.
        leftovers: Segments that a compaction had dropped and a crash brought back.
    """

    hard_state: HardState
    log: LogIndex
    segments: list[int]
    position: int
    torn: TornTail | None
    leftovers: list[int]


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"log-{number:020}.seg"


def recover_log(files: FileSystem, directory: str) -> Recovered:
    """Replay all segments. Cost: reads and decodes every byte of the log once.

    The only change made is to cut off a torn tail, or a last segment that never got its opening.

    Raises:
        LogDamagedError: see the module.
        OSError: the disk failed.
    """
    matches = map(_SEGMENT_NAME.fullmatch, files.list_directory(directory))
    numbers = sorted(int(match[1]) for match in matches if match)
    leftovers = _before_gap(numbers)
    numbers = numbers[len(leftovers) :]
    replay = _Replay(directory)
    torn: TornTail | None = None
    position = predecessor_bytes = 0
    for number in list(numbers):
        path = f"{directory}/{segment_name(number)}"
        data = files.read(path)
        scan = scan_segment(data, number)
        last = number == numbers[-1]
        if scan.end < scan.size or scan.end == 0:
            if scan.damaged or not last:
                raise LogDamagedError(path, scan.end, scan.problem)
            torn = TornTail(path, scan.end, scan.size - scan.end, scan.problem)
        if last and not scan.records:  # cut off before its opening was synced: it held nothing yet
            torn = torn or TornTail(path, 0, scan.size, "the segment has no opening")
            files.unlink(path)
            files.sync_directory(directory)
            numbers.pop()
            break
        if number != numbers[0] and scan.predecessor_bytes != predecessor_bytes:
            lost = f"it was {scan.predecessor_bytes} bytes long when it was closed"
            before = f"{directory}/{segment_name(number - 1)}"
            raise LogDamagedError(before, predecessor_bytes, lost)
        if torn is not None:
            files.truncate(path, scan.end)
        replay.segment(number, scan.records)
        position = predecessor_bytes = scan.end
    index = replay.finish()
    return Recovered(replay.hard_state, index, numbers, position, torn, leftovers)


def _before_gap(numbers: list[int]) -> list[int]:
    """The segments below the last gap in the numbering."""
    for at in range(len(numbers) - 1, 0, -1):
        if numbers[at - 1] != numbers[at] - 1:
            return numbers[:at]
    return []


class _Replay:
    """Applies records one after the other."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = ""
        self.hard_state = HardState()
        self._index: LogIndex | None = None
        self._absent_until = 0
        """Entries up to this index lay in segments that are gone; a compaction must cover them."""

    def segment(self, number: int, records: list[Record]) -> None:
        self._path = f"{self._directory}/{segment_name(number)}"
        for position, body in records:
            try:
                record = decode_log_record(body)
                if self._index is None and not isinstance(record, CheckpointRecord):
                    raise RecordError("the segment does not begin with a checkpoint")
                self._apply(record, Place(0, number, position, framed_bytes(len(body))))
            except (RecordError, StorageError) as exc:
                raise LogDamagedError(self._path, position, str(exc)) from exc

    def _apply(self, record: object, place: Place) -> None:
        if isinstance(record, CheckpointRecord):
            self._checkpoint(record)
            return
        assert self._index is not None
        if isinstance(record, EntriesRecord):
            first = record.entries[0].index
            self._absent_until = min(self._absent_until, first - 1)
            self._index.append(record.entries, place._replace(first=first))
        elif isinstance(record, HardStateRecord):
            self.hard_state = record.state
        elif isinstance(record, ResetRecord):
            self._index = LogIndex(record.index, record.term)
            self._absent_until = 0
        elif isinstance(record, CompactRecord):
            if record.index > self._index.last_index:
                raise RecordError(f"the log is compacted to {record.index}, behind its end")
            self._index.compact(max(record.index, self._index.start_index))
            if self._index.start_term != record.term and record.index > self._absent_until:
                raise RecordError(f"the term at {record.index} is not {record.term}")
            self._index.start_term = record.term

    def _checkpoint(self, record: CheckpointRecord) -> None:
        if self._index is None:
            self.hard_state = record.state
            self._index = LogIndex(record.start_index, record.start_term)
            if record.last_index > record.start_index:
                self._index.skip(record.last_index, record.last_term)
                self._absent_until = record.last_index
        found = (self.hard_state, self._index.last_index, self._index.last_term)
        if found != (record.state, record.last_index, record.last_term):
            raise RecordError(f"the segment continues another log than the one before it: {found}")

    def finish(self) -> LogIndex:
        index = self._index or LogIndex(0, Term(0))
        if self._absent_until > index.start_index:
            missing = f"the entries {index.start_index + 1} to {self._absent_until} are missing"
            raise LogDamagedError(self._directory, 0, missing)
        return index
