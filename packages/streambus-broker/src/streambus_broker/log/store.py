"""Partition logs on the data tree: recover, append, read, search, delete. A thin shell.

Cost: an append is one write to the tree; a read at the end of a log touches memory only; a search
(by time, by size) looks at O(log n) batches and opens none of them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from streambus_broker.errors import StoredStateError
from streambus_broker.log.keys import (
    KEY,
    NO_START_MARK,
    TOTALS,
    TOTALS_BYTES,
    StartMark,
    batch_key,
    decode_start_mark,
    encode_start_mark,
    partition_prefix,
    start_mark_key,
    state_key,
)
from streambus_broker.log.producer_marks import learn_producers, load_mark, store_mark
from streambus_broker.log.tail import TailCache
from streambus_protocol import (
    BatchHeader,
    ProtocolError,
    decode_columns,
    read_batch_header,
)
from streambus_storage import WriteBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streambus_broker.log.partition import PartitionLog
    from streambus_broker.log.retention import Expiry
    from streambus_storage import LSMTree


class StoredBatch(NamedTuple):
    """One batch as it lies in the tree.

    Attributes:
        base_offset: Its first offset.
        value: Totals and batch.
        header: The batch's header.
        position: Bytes of all batches before it.
        max_timestamp_ms: Largest timestamp up to and including it.
    """

    base_offset: int
    value: bytes | memoryview
    header: BatchHeader
    position: int
    max_timestamp_ms: int


_STEPS_MAX = 8
"""Batches of one partition that are passed one by one: a seek takes as long as several steps."""


class FoundRecord(NamedTuple):
    """A record that a search by time found."""

    offset: int
    timestamp_ms: int
    leader_epoch: int


class LogStore:
    """All partition logs of one broker, on one tree."""

    def __init__(self, tree: LSMTree, path: str, tail_cache_bytes: int) -> None:
        self.tree = tree
        self.path = path
        self.tail = TailCache(tail_cache_bytes)
        self.tail_reads = 0
        self.tree_reads = 0

    # --- life ----------------------------------------------------------------------------------

    def recover(self, log: PartitionLog) -> None:
        """Find the ends of a log from what is stored.

        Raises:
            StoredStateError: The last batch or the start mark makes no sense.
            StorageError: The tree cannot be read.
        """
        stored_mark = self.tree.get(start_mark_key(log.partition_id))
        try:
            mark = decode_start_mark(stored_mark) if stored_mark is not None else NO_START_MARK
            last = self._floor(log.partition_id, 2**64 - 1)
            first = last
            if last is not None and last.base_offset > mark.log_start_offset:
                first = self._first_from(log.partition_id, mark.log_start_offset)
            elif last is not None and last.header.next_offset <= mark.log_start_offset:
                first = None  # retention has let go of all, and has not removed it yet
        except (ProtocolError, struct.error) as exc:
            raise StoredStateError(
                self.path,
                f"the log of {log.topic}[{log.partition}] cannot be read: {exc}",
                "restore it from a backup",
            ) from exc
        if first is None or last is None:
            log.log_start_offset = log.next_offset = mark.next_offset
            log.start_position = log.end_position = mark.end_position
            log.max_timestamp_ms = mark.max_timestamp_ms
        else:
            log.log_start_offset = max(mark.log_start_offset, first.base_offset)
            log.start_position = first.position
            log.next_offset = last.header.next_offset
            log.end_position = last.position + last.header.length
            log.max_timestamp_ms = last.max_timestamp_ms
        log.high_watermark = log.next_offset

    def partition_ids(self) -> list[int]:
        """Every partition that has batches, whether anybody serves it or not, in order.

        Cost: of each a few batches, and a seek where it has more.
        """
        found: list[int] = []
        position: int | None = 1
        while position is not None:
            entries = self.tree.scan(partition_prefix(position))
            try:
                position = _gather_ids((bytes(key[:8]) for key, _ in entries), found)
            finally:
                entries.close()
        return found

    def recover_producers(self, log: PartitionLog) -> None:
        """Find what is known of a log's producers: by its mark, and by what it has beyond that.

        Raises:
            StorageError: The tree cannot be read.
        """
        try:
            mark = load_mark(self.tree, log)
        except ValueError:
            mark = None  # all that it said is in the log as well
        known_to = log.log_start_offset if mark is None else mark[1]
        if known_to < log.next_offset:
            learn_producers(self.tree, log, known_to)
        log.marked_offset = known_to

    def mark(self, log: PartitionLog) -> None:
        """Note what is known of a log's producers, if the log has grown since.

        Raises:
            StorageError: The older mark stays in force.
        """
        if log.marked_offset != log.next_offset:
            store_mark(self.tree, log)

    def drop(self, partition_ids: Sequence[int]) -> int:
        """Delete all records of partitions; return the write's sequence number."""
        batch = WriteBatch()
        for partition_id in partition_ids:
            self.tail.forget(partition_id)
            prefix = partition_prefix(partition_id)
            batch.delete_range(prefix, partition_prefix(partition_id + 1))
            batch.delete(start_mark_key(partition_id))
            batch.delete(state_key(partition_id))
        return self.tree.write(batch)

    # --- writing -------------------------------------------------------------------------------

    def append(
        self, log: PartitionLog, header: BatchHeader, batch: bytes | memoryview
    ) -> tuple[int, int]:
        """Append a checked batch.

        Returns:
            Its base offset and the write's sequence number.

        Raises:
            StorageError: Nothing was appended.
        """
        key, value = log.place(header, batch)
        sequence = self.tree.put(key, value)
        base_offset = log.appended(header)
        self.tail.add(log.partition_id, base_offset, log.next_offset, value)
        if header.producer_id >= 0:
            log.producers.appended(header, base_offset)
        return base_offset, sequence

    # --- reading -------------------------------------------------------------------------------

    def read(
        self,
        log: PartitionLog,
        offset: int,
        bytes_max: int,
        *,
        at_least_one: bool = True,
        stop_offset: int | None = None,
    ) -> bytes:
        """Read whole batches from the one that holds ``offset`` on, up to the high watermark.

        Args:
            log: The log.
            offset: From the log's start to below its high watermark.
            bytes_max: Stop before a batch that would exceed it.
            at_least_one: Give the first batch whatever its size.
            stop_offset: Read up to here instead; followers read on to the log's end.

        Raises:
            StorageError: The tree cannot be read.
        """
        stop = log.high_watermark if stop_offset is None else stop_offset
        cut = self.tail.read(log.partition_id, offset, stop, bytes_max)
        if cut is not None:
            self.tail_reads += 1
            values = cut.values
            if len(values) == 1:
                if not at_least_one and cut.size_bytes - TOTALS_BYTES > bytes_max:
                    return b""
                return values[0][TOTALS_BYTES:]
            return b"".join([memoryview(value)[TOTALS_BYTES:] for value in values])
        self.tree_reads += 1
        return self._read_tree(log, offset, stop, bytes_max, at_least_one)

    def _read_tree(
        self, log: PartitionLog, offset: int, stop: int, bytes_max: int, at_least_one: bool
    ) -> bytes:
        partition_id = log.partition_id
        start = batch_key(partition_id, offset)
        if self.tree.get_view(start) is None:  # it lies inside a batch: find where that begins
            floor = self._floor(partition_id, offset)
            if floor is not None and floor.header.next_offset > offset:
                start = batch_key(partition_id, floor.base_offset)
        pieces: list[bytes | memoryview] = []
        size_bytes = 0
        found = self.tree.scan(start, batch_key(partition_id, stop))
        try:
            for _, value in found:
                length = len(value) - TOTALS_BYTES
                if size_bytes + length > bytes_max and (pieces or not at_least_one):
                    break
                pieces.append(memoryview(value)[TOTALS_BYTES:])
                size_bytes += length
                if size_bytes >= bytes_max:
                    break
        finally:
            found.close()
        return b"".join(pieces)

    # --- searching -----------------------------------------------------------------------------

    def find_timestamp(self, log: PartitionLog, timestamp_ms: int) -> FoundRecord | None:
        """Find the first readable record at or after a time; None where there is none.

        Cost: O(log n) batches looked at, one opened.

        Raises:
            StorageError: The tree cannot be read.
        """
        found = self._first_where(log, lambda batch: batch.max_timestamp_ms >= timestamp_ms)
        if found is None:
            return None
        # Usually the first; further ones only where a later timestamp was deleted with the head.
        for batch in self._walk(log, found.base_offset):
            if batch.header.max_timestamp_ms >= timestamp_ms:
                columns = decode_columns(memoryview(batch.value)[TOTALS_BYTES:])
                for offset, stamp in zip(columns.offsets, columns.timestamps_ms, strict=True):
                    if stamp >= timestamp_ms and offset >= log.log_start_offset:
                        return FoundRecord(offset, stamp, batch.header.leader_epoch)
        return None

    def find_max_timestamp(self, log: PartitionLog) -> FoundRecord | None:
        """Find the record with the largest timestamp; None in an empty log.

        Cost: as `find_timestamp`, unless that record was deleted: then every batch is looked at.
        """
        if log.log_start_offset >= log.high_watermark:
            return None
        found = self.find_timestamp(log, log.max_timestamp_ms)
        if found is None:
            walk = self._walk(log, log.log_start_offset)
            found = self.find_timestamp(log, max(one.header.max_timestamp_ms for one in walk))
        return found

    def expire(self, log: PartitionLog, expiry: Expiry) -> int:
        """Delete the leading batches that either bound covers; return how many bytes.

        Raises:
            StorageError: Nothing was deleted.
        """
        offset, position = log.log_start_offset, log.start_position
        if expiry.before_timestamp_ms is not None:
            bound_ms = expiry.before_timestamp_ms
            kept = self._first_where(log, lambda batch: batch.max_timestamp_ms >= bound_ms)
            offset, position = self._where(kept, log)
        if expiry.before_position is not None:
            bound = expiry.before_position
            kept = self._first_where(
                log, lambda batch: batch.position + batch.header.length > bound
            )
            offset, position = max((offset, position), self._where(kept, log))
        return self.delete_before(log, offset, position)

    def delete_before(self, log: PartitionLog, offset: int, position: int) -> int:
        """Delete everything before a batch boundary; return how many bytes.

        Raises:
            StorageError: Nothing was deleted.
        """
        if offset <= log.log_start_offset:
            return 0
        freed_bytes = position - log.start_position
        mark = StartMark(offset, log.next_offset, log.end_position, log.max_timestamp_ms)
        batch = WriteBatch()
        batch.put(start_mark_key(log.partition_id), encode_start_mark(mark))
        batch.delete_range(batch_key(log.partition_id, 0), batch_key(log.partition_id, offset))
        self.tree.write(batch)
        log.delete_before(offset, position)
        if offset >= log.next_offset:
            self.tail.forget(log.partition_id)
        return freed_bytes

    def end_before(self, log: PartitionLog, offset: int) -> tuple[int, int, int]:
        """Where the log ends if the batch that holds ``offset`` and all behind it go.

        Returns:
            The next offset, the position behind the last batch that stays, and the largest
            timestamp up to there.
        """
        last = self._floor(log.partition_id, offset - 1) if offset > 0 else None
        if last is not None and last.header.next_offset > offset:
            last = self._floor(log.partition_id, last.base_offset - 1) if last.base_offset else None
        if last is None or last.header.next_offset <= log.log_start_offset:
            return min(offset, log.log_start_offset), log.start_position, -1
        end_position = last.position + last.header.length
        return last.header.next_offset, end_position, last.max_timestamp_ms

    def _first_where(
        self, log: PartitionLog, holds: Callable[[StoredBatch], bool]
    ) -> StoredBatch | None:
        """Find the first readable batch for which a condition that never turns back holds."""
        low, high = log.log_start_offset, log.high_watermark
        found: StoredBatch | None = None
        while low < high:
            batch = self._floor(log.partition_id, (low + high) // 2)
            if batch is None or batch.header.next_offset <= low:
                return found
            if holds(batch):
                found, high = batch, batch.base_offset
            else:
                low = batch.header.next_offset
        return found

    def _floor(self, partition_id: int, offset: int) -> StoredBatch | None:
        """Find the last batch that begins at or before ``offset``."""
        stop = batch_key(partition_id, offset + 1) if offset < 2**64 - 1 else None
        stop = stop or partition_prefix(partition_id + 1)
        return self._one(partition_prefix(partition_id), stop, reverse=True)

    def _first_from(self, partition_id: int, offset: int) -> StoredBatch | None:
        start = batch_key(partition_id, offset)
        floor = self._floor(partition_id, offset)
        if floor is not None and floor.header.next_offset > offset:
            return floor
        return self._one(start, partition_prefix(partition_id + 1), reverse=False)

    def _one(self, start: bytes, stop: bytes, *, reverse: bool) -> StoredBatch | None:
        found = self.tree.scan(start, stop, reverse=reverse)
        try:
            return next((_stored_batch(key, value) for key, value in found), None)
        finally:
            found.close()

    def _walk(self, log: PartitionLog, base_offset: int) -> Iterator[StoredBatch]:
        """Walk over the readable batches from a batch boundary on."""
        stop = batch_key(log.partition_id, log.high_watermark)
        found = self.tree.scan(batch_key(log.partition_id, base_offset), stop)
        try:
            for key, value in found:
                yield _stored_batch(key, value)
        finally:
            found.close()

    def _where(self, kept: StoredBatch | None, log: PartitionLog) -> tuple[int, int]:
        """Where the log begins if everything readable before ``kept`` goes."""
        if kept is not None:
            return kept.base_offset, kept.position
        if log.high_watermark == log.next_offset:
            return log.next_offset, log.end_position
        hidden = self._one(
            batch_key(log.partition_id, log.high_watermark),
            partition_prefix(log.partition_id + 1),
            reverse=False,
        )
        return log.high_watermark, hidden.position if hidden is not None else log.end_position


def _stored_batch(key: bytes, value: bytes | memoryview) -> StoredBatch:
    _, base_offset = KEY.unpack(key)
    position, max_timestamp_ms = TOTALS.unpack_from(value)
    header = read_batch_header(value, TOTALS_BYTES)
    return StoredBatch(base_offset, value, header, position, max_timestamp_ms)


def _gather_ids(prefixes: Iterable[bytes], found: list[int]) -> int | None:
    """Add the partitions of batches in order; where to seek, behind one with many; None: done."""
    count = 0
    for prefix in prefixes:
        partition_id = int.from_bytes(prefix, "big")
        if not found or found[-1] != partition_id:
            found.append(partition_id)
            count = 0
        count += 1
        if count > _STEPS_MAX:
            return partition_id + 1
    return None
