"""What a partition remembers of its producers, so that a retry neither doubles nor reorders.

A producer numbers its records for each partition (31 bits, then from 0 again). The next batch must
begin where the last one ended; one of the last five batches again is a duplicate and is answered
with the offset that it has; anything else is refused. Everything here follows from the headers of
the batches in the log, so that followers have it too, and a new leader goes on without asking.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import msgpack

from streambus_broker.metadata.registry import CommandError
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from streambus_protocol import BatchHeader

BATCHES_REMEMBERED = 5  # as many as a producer may have in flight
SEQUENCE_MASK = 2**31 - 1
PRODUCER_IDLE_MS_MAX = 24 * 60 * 60 * 1000
"""A producer that wrote nothing for so long, by the timestamps of its batches, is forgotten."""


class SequenceError(CommandError):
    """A batch of a producer does not follow its last one; the log is unchanged."""


class AppendedBatch(NamedTuple):
    """A batch that is in the log."""

    base_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int


class _Producer:
    """What is known of one producer."""

    __slots__ = ("batches", "epoch", "timestamp_ms")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.timestamp_ms = -1
        self.batches: deque[AppendedBatch] = deque(maxlen=BATCHES_REMEMBERED)


def last_sequence(header: BatchHeader) -> int:
    """The sequence number of a batch's last record."""
    return (header.base_sequence + header.record_count - 1) & SEQUENCE_MASK


class ProducerStates:
    """See the module. One for each partition."""

    __slots__ = ("_producers",)

    def __init__(self) -> None:
        self._producers: dict[int, _Producer] = {}

    def __len__(self) -> int:
        return len(self._producers)

    def check(self, header: BatchHeader) -> AppendedBatch | None:
        """Judge a batch that a producer sent.

        Returns:
            None where it may be appended, or the batch as which it already is in the log.

        Raises:
            SequenceError: It is neither; the error's code says which.
        """
        known = self._producers.get(header.producer_id)
        epoch, base = header.producer_epoch, header.base_sequence
        if base < 0 or epoch < 0:
            raise SequenceError(
                ErrorCode.INVALID_REQUEST,
                f"a batch of producer {header.producer_id} without epoch or sequence number",
            )
        if known is None:
            if base:
                raise SequenceError(
                    ErrorCode.UNKNOWN_PRODUCER_ID,
                    f"producer {header.producer_id} begins with sequence number {base}, not 0",
                )
            return None
        if epoch < known.epoch:
            raise SequenceError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"producer {header.producer_id} has epoch {known.epoch} by now, this is {epoch}",
            )
        if epoch > known.epoch:
            expected = 0
        else:
            last = last_sequence(header)
            for batch in known.batches:
                if batch.base_sequence == base and batch.last_sequence == last:
                    return batch
            expected = (known.batches[-1].last_sequence + 1) & SEQUENCE_MASK
        if base != expected:
            raise SequenceError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE,
                f"producer {header.producer_id} sent sequence number {base}, {expected} is next",
            )
        return None

    def appended(self, header: BatchHeader, base_offset: int) -> None:
        """Take note of a batch that is in the log; also when a log is recovered or followed."""
        if header.producer_id < 0:
            return
        known = self._producers.get(header.producer_id)
        if known is None or header.producer_epoch > known.epoch:
            known = self._producers[header.producer_id] = _Producer(header.producer_epoch)
        last_offset = base_offset + header.last_offset_delta
        known.batches.append(
            AppendedBatch(header.base_sequence, last_sequence(header), base_offset, last_offset)
        )
        known.timestamp_ms = max(known.timestamp_ms, header.max_timestamp_ms)

    def expire(self, newest_ms: int) -> int:
        """Forget producers that were idle too long before ``newest_ms``; return how many."""
        bound = newest_ms - PRODUCER_IDLE_MS_MAX
        idle = [number for number, one in self._producers.items() if one.timestamp_ms < bound]
        for number in idle:
            del self._producers[number]
        return len(idle)

    def clear(self) -> None:
        """Forget everything: the log is read anew."""
        self._producers.clear()

    def encode(self, next_offset: int) -> bytes:
        """For storing beside the log, together with the offset up to which it is true."""
        rows = [
            [number, one.epoch, one.timestamp_ms, list(map(list, one.batches))]
            for number, one in self._producers.items()
        ]
        packed: bytes = msgpack.packb([next_offset, rows])
        return packed

    def load(self, data: bytes | memoryview) -> int:
        """Replace the state by what `encode` made; return the offset up to which it is true.

        Raises:
            ValueError: It is something else; the state is empty.
        """
        self._producers.clear()
        try:
            next_offset, rows = msgpack.unpackb(data)
            for number, epoch, timestamp_ms, batches in rows:
                known = _Producer(epoch)
                known.timestamp_ms = timestamp_ms
                known.batches.extend(AppendedBatch(*batch) for batch in batches)
                self._producers[number] = known
        except (TypeError, ValueError, msgpack.UnpackException) as exc:
            self._producers.clear()
            raise ValueError(f"not a producer snapshot: {exc}") from exc
        return int(next_offset)
