"""What a partition remembers of its producers, so that a retry neither doubles nor reorders.

A producer numbers its records for each partition (31 bits, then from 0 again). The next batch must
begin where the last one ended; one of the last five batches again is a duplicate and is answered
with the offset that it has; anything else is refused, and says by its code whether the batch may
be in the log:

- ``OUT_OF_ORDER_SEQUENCE``: it is not. A batch before it is missing, or it overlaps another.
- ``DUPLICATE_SEQUENCE``: it is, further back than the offsets are remembered.
- ``UNKNOWN_PRODUCER_ID``: nobody can tell; the producer was forgotten, or never wrote here.
- ``INVALID_PRODUCER_EPOCH``: nobody can tell; a newer epoch of this id has written since.

Everything here follows from the headers of the batches in the log, so that followers have it too,
and a new leader, or a broker after a restart, goes on without asking.

Memory is bounded: a partition forgets its longest silent producers beyond a limit of its own, and
where all partitions together are over the broker's limit. A forgotten producer takes a new epoch
and goes on; only a batch of it that is under way in this very moment has to be given up.

Source: KIP-98, KIP-360.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgpack

from streambus_broker.metadata.registry import CommandError
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from streambus_protocol import BatchHeader

BATCHES_REMEMBERED = 5  # as many as a producer of another make may have in flight, as with Kafka
SEQUENCE_MASK = 2**31 - 1
_ROUND_S_MAX = 60.0
_EVICTED_SHARE = 8  # one in so many goes at once, so that looking for them is rare


class SequenceError(CommandError):
    """A batch of a producer does not follow its last one; the log is unchanged."""


class AppendedBatch(NamedTuple):
    """A batch that is in the log."""

    base_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int


class ProducerLimits:
    """How many producers may be remembered; one object for all partitions of a broker.

    Attributes:
        partition_max: In one partition.
        broker_max: In all of them; each may hold one beyond it.
        count: How many there are in all.
    """

    __slots__ = ("broker_max", "count", "partition_max")

    def __init__(self, partition_max: int = 2_000, broker_max: int = 100_000) -> None:
        self.partition_max = partition_max
        self.broker_max = broker_max
        self.count = 0


class IdleProducers:
    """When idle producers are looked for, and how many rounds of silence are too many.

    Args:
        idle_ms_max: How long a producer may write nothing, milliseconds.
        now_s: The time, seconds.
    """

    __slots__ = ("_interval_s", "_next_s", "_rounds_max")

    def __init__(self, idle_ms_max: int, now_s: float) -> None:
        self._interval_s = min(_ROUND_S_MAX, idle_ms_max / 1000)
        self._rounds_max = max(1, round(idle_ms_max / 1000 / self._interval_s))
        self._next_s = now_s + self._interval_s

    def due(self, now_s: float) -> int:
        """Give what to pass to `ProducerStates.expire` now; 0 while the round is not over."""
        if now_s < self._next_s:
            return 0
        self._next_s = now_s + self._interval_s
        return self._rounds_max


class _Producer:
    """What is known of one producer.

    Attributes:
        epoch: Its newest epoch.
        next_sequence: What its next batch in that epoch begins with.
        batches: Its last ones, the newest at the end.
        last_offset: Of its newest batch: who has a small one has been silent for long.
        silent_rounds: How many rounds of `ProducerStates.expire` it has written nothing.
    """

    __slots__ = ("batches", "epoch", "last_offset", "next_sequence", "silent_rounds")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.next_sequence = 0
        self.batches: list[AppendedBatch] = []
        self.last_offset = -1
        self.silent_rounds = 0


def last_sequence(header: BatchHeader) -> int:
    """The sequence number of a batch's last record."""
    return (header.base_sequence + header.record_count - 1) & SEQUENCE_MASK


class ProducerStates:
    """See the module. One for each partition.

    Args:
        limits: Shared by all partitions of a broker; without it, this partition has its own.
    """

    __slots__ = ("_limits", "_producers")

    def __init__(self, limits: ProducerLimits | None = None) -> None:
        self._limits = limits or ProducerLimits()
        self._producers: dict[int, _Producer] = {}

    def __len__(self) -> int:
        return len(self._producers)

    @property
    def last_offset(self) -> int:
        """Of the newest batch that is known of any producer; -1 for none."""
        return max((each.last_offset for each in self._producers.values()), default=-1)

    def check(self, header: BatchHeader) -> AppendedBatch | None:
        """Judge a batch that a producer with an id sent.

        Returns:
            None where it may be appended, or the batch as which it already is in the log.

        Raises:
            SequenceError: It is neither; the error's code says which.
        """
        known = self._producers.get(header.producer_id)
        base = header.base_sequence
        if (
            known is not None
            and base == known.next_sequence
            and header.producer_epoch == known.epoch
            and base >= 0
        ):
            return None
        return _judge(known, header)

    def appended(self, header: BatchHeader, base_offset: int) -> None:
        """Take note of a batch that is in the log; also when a log is recovered or followed."""
        if header.producer_id < 0:
            return
        known = self._producers.get(header.producer_id)
        if known is None or header.producer_epoch > known.epoch:
            known = self._begin(header.producer_id, header.producer_epoch)
        last_offset = base_offset + header.last_offset_delta
        last = (header.base_sequence + header.record_count - 1) & SEQUENCE_MASK
        batches = known.batches
        if len(batches) >= BATCHES_REMEMBERED:
            del batches[0]
        batches.append(AppendedBatch(header.base_sequence, last, base_offset, last_offset))
        known.next_sequence = (last + 1) & SEQUENCE_MASK
        known.last_offset = last_offset
        known.silent_rounds = 0

    def _begin(self, producer_id: int, epoch: int) -> _Producer:
        limits, producers = self._limits, self._producers
        if producer_id not in producers:
            limits.count += 1
            if len(producers) >= limits.partition_max or limits.count > limits.broker_max:
                self._evict()
        known = producers[producer_id] = _Producer(epoch)
        return known

    def _evict(self) -> None:
        """Forget those that have been silent for longest."""
        oldest = sorted(self._producers, key=lambda each: self._producers[each].last_offset)
        for producer_id in oldest[: 1 + len(oldest) // _EVICTED_SHARE]:
            self._forget(producer_id)

    def _forget(self, producer_id: int) -> None:
        del self._producers[producer_id]
        self._limits.count -= 1

    def expire(self, rounds_max: int) -> int:
        """Forget producers that wrote nothing since ``rounds_max`` calls; return how many.

        The caller calls it at even intervals: so no clock comes in, and no timestamp that a
        producer chose itself.
        """
        silent = []
        for producer_id, known in self._producers.items():
            known.silent_rounds += 1
            if known.silent_rounds > rounds_max:
                silent.append(producer_id)
        for producer_id in silent:
            self._forget(producer_id)
        return len(silent)

    def clear(self) -> None:
        """Forget everything: the log is read anew, or held no more."""
        self._limits.count -= len(self._producers)
        self._producers.clear()

    def encode(self, next_offset: int) -> bytes:
        """For storing beside the log, together with the offset up to which it is true."""
        rows = [
            [number, one.epoch, one.silent_rounds, one.batches]
            for number, one in self._producers.items()
        ]
        packed: bytes = msgpack.packb([next_offset, rows])
        return packed

    def load(self, data: bytes | memoryview) -> int:
        """Replace the state by what `encode` made; return the offset up to which it is true.

        Raises:
            ValueError: It is something else; the state is empty.
        """
        self.clear()
        try:
            next_offset, rows = msgpack.unpackb(data)
            for number, epoch, silent_rounds, batches in rows:
                known = self._begin(number, epoch)
                known.silent_rounds = silent_rounds
                known.batches.extend(AppendedBatch(*batch) for batch in batches)
                known.next_sequence = (known.batches[-1].last_sequence + 1) & SEQUENCE_MASK
                known.last_offset = known.batches[-1].last_offset
        except (TypeError, ValueError, IndexError, msgpack.UnpackException) as exc:
            self.clear()
            raise ValueError(f"not a producer snapshot: {exc}") from exc
        return int(next_offset)


def _judge(known: _Producer | None, header: BatchHeader) -> AppendedBatch | None:
    """Judge a batch that does not simply follow the last one of its producer."""
    producer_id, epoch, base = header.producer_id, header.producer_epoch, header.base_sequence
    if base < 0 or epoch < 0 or producer_id < 0:
        raise SequenceError(
            ErrorCode.INVALID_REQUEST,
            f"a batch of producer {producer_id}, epoch {epoch}, sequence number {base}:"
            " none of them may be negative",
        )
    if known is None:
        if base:
            raise SequenceError(
                ErrorCode.UNKNOWN_PRODUCER_ID,
                f"producer {producer_id} begins with sequence number {base}, not 0",
            )
        return None
    if epoch < known.epoch:
        raise SequenceError(
            ErrorCode.INVALID_PRODUCER_EPOCH,
            f"producer {producer_id} has epoch {known.epoch} by now, this is {epoch}",
        )
    expected = known.next_sequence
    if epoch > known.epoch:
        if not base:
            return None
        expected = 0
    else:
        last = last_sequence(header)
        for batch in known.batches:
            if batch.base_sequence == base and batch.last_sequence == last:
                return batch
        behind = (known.batches[0].base_sequence - last) & SEQUENCE_MASK
        if 0 < behind <= SEQUENCE_MASK // 2:
            raise SequenceError(
                ErrorCode.DUPLICATE_SEQUENCE,
                f"producer {producer_id} sent sequence number {base} again, {expected} is next",
            )
    raise SequenceError(
        ErrorCode.OUT_OF_ORDER_SEQUENCE,
        f"producer {producer_id} sent sequence number {base}, {expected} is next",
    )
