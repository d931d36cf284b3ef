"""Records waiting to be sent, gathered into batches: by size, by time, within a bound of bytes.

Rules:
    1. Pure: no clock, no thread, no socket. Times come in as seconds of one monotonic clock.
    2. Per partition, batches leave in the order in which their first records came, and one at a
       time: the next leaves after the one before was acknowledged or has failed for good. A retry
       therefore never overtakes.
    3. Every batch that was begun ends in exactly one call of its outcome's ``resolve`` or ``fail``.
    4. The bytes of every batch that has not ended count against ``buffer_bytes_max``. One record
       larger than the bound is let in alone, else it could never be sent.

Not thread-safe: the shells hold a lock around every call.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from streambus_client._types import Headers, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streambus_protocol import ProducerStamp

RECORD_OVERHEAD_BYTES = 16
"""What a record costs beside its key and value: lengths, timestamp, its share of the header."""

_SLICE_RECORDS_MAX = 65536


class Outcome:
    """How a batch ended, shared by the futures of its records.

    Attributes:
        done: whether it has ended.
        base_offset: of the first record; -1 before the end, and with ``acks=0``.
        error: why it failed; None otherwise.
        observed: whether a future of it was asked how it ended; a failure that nobody asked
            about is raised by ``flush``.
    """

    __slots__ = ("_callbacks", "base_offset", "done", "error", "observed")

    def __init__(self) -> None:
        self.done = False
        self.observed = False
        self.base_offset = -1
        self.error: Exception | None = None
        self._callbacks: list[Callable[[], None]] = []

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at the end; at once if that has come."""
        if self.done:
            callback()
        else:
            self._callbacks.append(callback)

    def resolve(self, base_offset: int) -> list[Callable[[], None]]:
        """End well. Returns the callbacks, which the shell calls outside of its lock."""
        return self._end(base_offset, None)

    def fail(self, error: Exception) -> list[Callable[[], None]]:
        """End badly. Returns the callbacks, which the shell calls outside of its lock."""
        return self._end(-1, error)

    def _end(self, base_offset: int, error: Exception | None) -> list[Callable[[], None]]:
        assert not self.done, "a batch ends once"
        self.base_offset = base_offset
        self.error = error
        self.done = True
        callbacks, self._callbacks = self._callbacks, []
        return callbacks


class PendingBatch:
    """Records of one partition that travel together, as columns.

    Attributes:
        keys: None while no record has a key.
        headers: None while no record has any.
        timestamps_ms: None while all have ``timestamp_ms``.
        timestamp_ms: of the first record.
        size_bytes: an estimate of the encoded size, compression aside.
        opened_at: seconds, when its first record came.
        deadline: seconds; it fails if it is not acknowledged by then.
        attempts: how often it was sent.
        retry_at: seconds; not sent again before.
        encoded: the wire form, once made; kept for retries.
        stamp: its number, of an idempotent producer; once given, kept for retries.
        uncertain: whether an attempt may have been written without an answer.
    """

    __slots__ = (
        "attempts",
        "closed",
        "count",
        "deadline",
        "encoded",
        "headers",
        "keys",
        "last_error",
        "opened_at",
        "outcome",
        "partition",
        "retry_at",
        "size_bytes",
        "stamp",
        "timestamp_ms",
        "timestamps_ms",
        "topic",
        "uncertain",
        "values",
    )

    def __init__(
        self, topic: str, partition: int, timestamp_ms: int, now: float, deadline: float
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.keys: list[bytes | None] | None = None
        self.values: list[bytes | None] = []
        self.headers: list[Headers] | None = None
        self.timestamps_ms: list[int] | None = None
        self.timestamp_ms = timestamp_ms
        self.count = 0
        self.size_bytes = 0
        self.opened_at = now
        self.deadline = deadline
        self.closed = False
        self.attempts = 0
        self.retry_at = 0.0
        self.encoded: bytes | None = None
        self.stamp: ProducerStamp | None = None
        self.uncertain = False
        self.last_error: Exception | None = None
        self.outcome = Outcome()

    def add(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        size_bytes: int,
    ) -> int:
        """Append one record; returns its index in the batch."""
        index = self.count
        self.values.append(value)
        if self.keys is not None:
            self.keys.append(key)
        elif key is not None:
            self.keys = [None] * index
            self.keys.append(key)
        if self.headers is not None:
            self.headers.append(headers or ())
        elif headers:
            self.headers = [()] * index
            self.headers.append(headers)
        if self.timestamps_ms is not None:
            self.timestamps_ms.append(timestamp_ms)
        elif timestamp_ms != self.timestamp_ms:
            self.timestamps_ms = [self.timestamp_ms] * index
            self.timestamps_ms.append(timestamp_ms)
        self.count = index + 1
        self.size_bytes += size_bytes
        return index

    def add_columns(
        self,
        keys: Sequence[bytes | None] | None,
        values: Sequence[bytes | None],
        timestamp_ms: int,
        size_bytes: int,
    ) -> int:
        """Append many records with one timestamp; returns the index of the first."""
        index, added = self.count, len(values)
        self.values.extend(values)
        if self.keys is not None:
            self.keys.extend([None] * added if keys is None else keys)
        elif keys is not None:
            self.keys = [None] * index
            self.keys.extend(keys)
        if self.headers is not None:
            self.headers.extend([()] * added)
        if self.timestamps_ms is not None:
            self.timestamps_ms.extend([timestamp_ms] * added)
        elif timestamp_ms != self.timestamp_ms:
            if index == 0:
                self.timestamp_ms = timestamp_ms
            else:
                self.timestamps_ms = [self.timestamp_ms] * index + [timestamp_ms] * added
        self.count = index + added
        self.size_bytes += size_bytes
        return index


class _Queue:
    """The batches of one partition: the first may be under way, the last may be open."""

    __slots__ = ("batches", "under_way")

    def __init__(self) -> None:
        self.batches: deque[PendingBatch] = deque()
        self.under_way = False


class Accumulator:
    """All batches of one producer that have not ended.

    Args:
        linger_s: how long an open batch waits for more records, seconds.
        batch_bytes_max: a batch is closed before it grows beyond this.
        buffer_bytes_max: the bound of rule 4.
        delivery_timeout_s: from a record's arrival to its batch's deadline, seconds.
        on_closed: told the topic and partition of each batch that takes no more records.
    """

    def __init__(
        self,
        *,
        linger_s: float,
        batch_bytes_max: int,
        buffer_bytes_max: int,
        delivery_timeout_s: float,
        on_closed: Callable[[str, int], None] | None = None,
    ) -> None:
        self._linger_s = linger_s
        self._batch_bytes_max = batch_bytes_max
        self._buffer_bytes_max = buffer_bytes_max
        self._delivery_timeout_s = delivery_timeout_s
        self._on_closed = on_closed
        self._queues: dict[TopicPartition, _Queue] = {}
        self._buffered_bytes = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes of all batches that have not ended."""
        return self._buffered_bytes

    @property
    def empty(self) -> bool:
        """Whether every batch has ended."""
        return not self._queues

    def holds(self, where: TopicPartition) -> bool:
        """Whether this partition has batches that have not ended."""
        return where in self._queues

    def has_room(self, size_bytes: int) -> bool:
        """Whether ``size_bytes`` more may come in now (rule 4)."""
        held = self._buffered_bytes
        return held == 0 or held + size_bytes <= self._buffer_bytes_max

    def append(
        self,
        where: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        size_bytes: int,
        now: float,
    ) -> tuple[PendingBatch, int]:
        """Add one record; the caller has asked ``has_room``.

        Returns:
            Its batch, and its index there.
        """
        batch = self._open_batch(where, size_bytes, timestamp_ms, now)
        index = batch.add(key, value, headers, timestamp_ms, size_bytes)
        self._buffered_bytes += size_bytes
        if batch.size_bytes >= self._batch_bytes_max:
            self._close(batch)
        return batch, index

    def extend(
        self,
        where: TopicPartition,
        keys: Sequence[bytes | None] | None,
        values: Sequence[bytes | None],
        timestamp_ms: int,
        size_bytes: int,
        now: float,
    ) -> tuple[PendingBatch, int]:
        """Add many records that fit one batch (see ``slices``); the caller has asked ``has_room``.

        Returns:
            Their batch, and the index of the first there.
        """
        batch = self._open_batch(where, size_bytes, timestamp_ms, now)
        index = batch.add_columns(keys, values, timestamp_ms, size_bytes)
        self._buffered_bytes += size_bytes
        if batch.size_bytes >= self._batch_bytes_max:
            self._close(batch)
        return batch, index

    def sendable(self, now: float) -> list[TopicPartition]:
        """Which partitions have a batch that should leave now."""
        due: list[TopicPartition] = []
        for where, queue in self._queues.items():
            if not queue.under_way and self._due_at(queue.batches[0]) <= now:
                due.append(where)
        return due

    def next_due(self, after: float = -math.inf) -> float | None:
        """When the next batch should leave or expires, in seconds; None if nothing waits.

        Args:
            after: Leave out what was due by then: whoever asks has seen it.
        """
        times = [
            moment
            for queue in self._queues.values()
            if not queue.under_way
            for moment in (self._due_at(queue.batches[0]), queue.batches[0].deadline)
            if moment > after
        ]
        return min(times, default=None)

    def peek_closed(self, where: TopicPartition) -> PendingBatch | None:
        """The next closed batch behind the one under way: it may be encoded ahead."""
        queue = self._queues.get(where)
        if queue is None or not queue.under_way or len(queue.batches) < 2:
            return None
        follower = queue.batches[1]
        return follower if follower.closed else None

    def take(self, where: TopicPartition) -> PendingBatch:
        """Give out the first batch of a sendable partition; it is under way from now on."""
        queue = self._queues[where]
        assert not queue.under_way, "one batch of a partition at a time"
        batch = queue.batches[0]
        if not batch.closed:
            self._close(batch)
        queue.under_way = True
        batch.attempts += 1
        return batch

    def acknowledge(self, batch: PendingBatch, base_offset: int) -> list[Callable[[], None]]:
        """A batch that was taken is written. Returns callbacks to call without the lock."""
        self._remove(batch)
        return batch.outcome.resolve(base_offset)

    def fail(self, batch: PendingBatch, error: Exception) -> list[Callable[[], None]]:
        """A batch that was taken will not be tried again. Returns callbacks."""
        self._remove(batch)
        return batch.outcome.fail(error)

    def of_partition(self, where: TopicPartition) -> Iterable[PendingBatch]:
        """The batches of one partition that have not ended, in order."""
        queue = self._queues.get(where)
        return () if queue is None else queue.batches

    def put_back(self, batch: PendingBatch, retry_at: float, error: Exception) -> None:
        """A batch that was taken shall leave again, first of its partition, not before."""
        queue = self._queues[TopicPartition(batch.topic, batch.partition)]
        assert queue.under_way
        assert queue.batches[0] is batch
        queue.under_way = False
        batch.retry_at = retry_at
        batch.last_error = error

    def expired(self, now: float) -> list[PendingBatch]:
        """Remove and return the batches whose deadline has passed and that are not under way."""
        gone: list[PendingBatch] = []
        for queue in list(self._queues.values()):
            while queue.batches and not queue.under_way and queue.batches[0].deadline <= now:
                batch = queue.batches[0]
                self._remove(batch)
                gone.append(batch)
        return gone

    def partitions(self) -> list[TopicPartition]:
        """Partitions with batches that have not ended."""
        return list(self._queues)

    def pending(self) -> list[PendingBatch]:
        """Every batch that has not ended."""
        return [batch for queue in self._queues.values() for batch in queue.batches]

    def close_all(self) -> None:
        """Let every open batch leave at once (a flush)."""
        for queue in self._queues.values():
            if not queue.batches[-1].closed:
                self._close(queue.batches[-1])

    def drain(self) -> list[PendingBatch]:
        """Remove and return every batch that has not ended, those under way too (a hard close)."""
        gone = [batch for queue in self._queues.values() for batch in queue.batches]
        self._queues.clear()
        self._buffered_bytes = 0
        return gone

    def _open_batch(
        self, where: TopicPartition, size_bytes: int, timestamp_ms: int, now: float
    ) -> PendingBatch:
        queue = self._queues.get(where)
        if queue is None:
            queue = self._queues[where] = _Queue()
        elif queue.batches:
            last = queue.batches[-1]
            if not last.closed:
                if last.size_bytes + size_bytes <= self._batch_bytes_max:
                    return last
                self._close(last)
        deadline = now + self._delivery_timeout_s
        batch = PendingBatch(where.topic, where.partition, timestamp_ms, now, deadline)
        queue.batches.append(batch)
        return batch

    def _close(self, batch: PendingBatch) -> None:
        batch.closed = True
        if self._on_closed is not None:
            self._on_closed(batch.topic, batch.partition)

    def _due_at(self, batch: PendingBatch) -> float:
        if batch.closed:
            return batch.retry_at
        return batch.opened_at + self._linger_s

    def _remove(self, batch: PendingBatch) -> None:
        where = TopicPartition(batch.topic, batch.partition)
        queue = self._queues.get(where)
        if queue is None or not queue.batches or queue.batches[0] is not batch:
            raise AssertionError("a batch leaves from the front of its partition, once")
        queue.batches.popleft()
        queue.under_way = False
        self._buffered_bytes -= batch.size_bytes
        if not queue.batches:
            del self._queues[where]


def slices(
    values: Sequence[bytes | None], keys: Sequence[bytes | None] | None, batch_bytes_max: int
) -> Iterable[tuple[int, int, int]]:
    """Cut columns into runs that fit a batch, without work per record in Python.

    The cut is by average size and halved where a run is over the limit, so a run may end early but
    is never too large, unless it is one record.

    Yields:
        (start, stop, size in bytes) of each run, in order.
    """
    total = len(values)
    start = 0
    while start < total:
        stop = min(total, start + _SLICE_RECORDS_MAX)
        while True:
            size_bytes = columns_bytes(values[start:stop], keys and keys[start:stop])
            if size_bytes <= batch_bytes_max or stop - start == 1:
                break
            fitting = int((stop - start) * batch_bytes_max / size_bytes)
            stop = start + max(1, min(fitting, (stop - start) // 2 + (stop - start) // 4))
        yield start, stop, size_bytes
        start = stop


def columns_bytes(values: Sequence[bytes | None], keys: Sequence[bytes | None] | None) -> int:
    """Estimate the encoded size of columns, in bytes."""
    size_bytes = len(values) * RECORD_OVERHEAD_BYTES + _lengths(values)
    return size_bytes + _lengths(keys) if keys else size_bytes


def _lengths(column: Sequence[bytes | None]) -> int:
    try:
        return sum(map(len, column))  # type: ignore[arg-type]  # None raises, and is handled
    except TypeError:
        return sum(len(item) for item in column if item is not None)
