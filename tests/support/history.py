"""What clients of a simulated broker or cluster did and saw, and what a log must be after that.

Pure: the clients take notes while a run goes on (`Sent`, `History.read`, `History.latest`); at the
end `History.check` compares the notes with the whole log as it was read last. The promises:

1. A record acknowledged with ``acks=all`` is at the offset that was answered. So is one with
   ``acks=1`` where nothing happened that may take it.
2. No record is there twice; none is there that nobody sent.
3. Records of one producer in one partition keep their order. (One with ``acks=1`` has no numbers:
   what it has given up may still arrive after what it sent later.)
4. Whatever a consumer has read is what the log holds, so nobody read what was not committed; and
   each consumer read offset after offset, without a gap.
5. The log reaches at least to every high watermark that any broker ever had, and to every end that
   a client was told. (A leader that does not know yet that it was deposed may name an older end.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class CheckFailedError(AssertionError):
    """A promise is broken."""


ALL = "all"
PADDING = b"."


def name_of(value: bytes) -> bytes:
    """What a record is called: its value without the padding that gives it a size."""
    end = value.find(PADDING)
    return value if end < 0 else value[:end]


@dataclass(slots=True)
class Sent:
    """One record that a producer tried to send.

    Attributes:
        name: What its value begins with; nobody else's.
        partition: Where to.
        acks: What was asked for.
        offset: Where it was acknowledged; -1 where it was not.
        power_cuts: How many losses of power there had been when it was sent.
    """

    name: bytes
    partition: int
    acks: object
    offset: int = -1
    power_cuts: int = 0


@dataclass(slots=True)
class Reader:
    """One consumer.

    Attributes:
        next_offsets: Where it stands, by partition.
        power_cuts: How many losses of power there had been when it asked for what it reads.
    """

    name: str
    power_cuts: int = 0
    next_offsets: dict[int, int] = field(default_factory=dict)


class History:
    """See the module.

    Args:
        partitions: How many there are.
        producers: How many take part.
        forgetful: Whether a loss of power takes what was only acknowledged with ``acks=1``, and
            reads of it; False where such records are never safe (a cluster), and reads always are.

    Attributes:
        sent: By producer, in the order of trying.
        consumed_count: Records that were read, each as often as it was.
        watermarks: The highest high watermark, or end told, seen of each partition.
        power_cuts: How many there were so far.
        committed: Tells up to where a partition is committed at the moment; None where nobody sees
            that.
    """

    def __init__(self, partitions: int, producers: int, *, forgetful: bool = False) -> None:
        self.partitions = partitions
        self.forgetful = forgetful
        self.sent: list[list[Sent]] = [[] for _ in range(producers)]
        self.consumed: dict[tuple[int, int], tuple[bytes, int]] = {}
        self.consumed_count = 0
        self.watermarks = [0] * partitions
        self.power_cuts = 0
        self.committed: Callable[[int], int] | None = None
        self._committed_to = [0] * partitions  # what `committed` said: it stays so

    # --- notes ---------------------------------------------------------------------------------

    def sending(self, producer: int, partition: int, acks: object) -> Sent:
        """Take note that a producer is about to send one more record."""
        sent = self.sent[producer]
        record = Sent(b"%d-%d" % (producer, len(sent)), partition, acks, -1, self.power_cuts)
        sent.append(record)
        return record

    def read(self, reader: Reader, partition: int, offset: int, name: bytes) -> None:
        """Take note of a record that a consumer read.

        Raises:
            CheckFailedError: Another record was read there before, one was left out, or it is not
                committed.
        """
        self.consumed_count += 1
        if (
            self.committed is not None
            and offset >= self.watermarks[partition]
            and offset >= self._committed_to[partition]
        ):
            end = self._committed_to[partition] = self.committed(partition)
            if offset >= end:
                raise CheckFailedError(
                    f"{reader.name} reads {partition}/{offset}, which is committed up to {end}"
                )
        expected = reader.next_offsets.get(partition, 0)
        if offset != expected and not self.forgetful:
            raise CheckFailedError(
                f"{reader.name} reads {partition}/{offset} where {expected} follows"
            )
        reader.next_offsets[partition] = offset + 1
        losses = reader.power_cuts if self.forgetful else 0
        before = self.consumed.get((partition, offset))
        if before is not None and before[0] != name and before[1] == losses:
            raise CheckFailedError(
                f"{partition}/{offset} was {before[0]!r}, {reader.name} reads {name!r}"
            )
        self.consumed[partition, offset] = (name, losses)

    def told(self, partition: int, end: int) -> None:
        """Take note of the end of the log as a client was told it."""
        self.watermarks[partition] = max(self.watermarks[partition], end)

    @property
    def acknowledged_count(self) -> int:
        """Records that were acknowledged."""
        return sum(one.offset >= 0 for each in self.sent for one in each)

    @property
    def unanswered_count(self) -> int:
        """Records that were not."""
        return sum(map(len, self.sent)) - self.acknowledged_count

    # --- the check -----------------------------------------------------------------------------

    def check(self, logs: list[list[bytes]]) -> None:
        """Compare the notes with the names of all records in the log, partition by partition.

        Raises:
            CheckFailedError: A promise is broken.
        """
        places: dict[bytes, tuple[int, int]] = {}
        for partition, log in enumerate(logs):
            if len(log) < self.watermarks[partition]:
                raise CheckFailedError(
                    f"partition {partition} ends at {len(log)}, its high watermark was at"
                    f" {self.watermarks[partition]}"
                )
            for offset, name in enumerate(log):
                if name in places:
                    raise CheckFailedError(
                        f"{name!r} is at {places[name]} and at {(partition, offset)}"
                    )
                places[name] = (partition, offset)
        known = {one.name for each in self.sent for one in each}
        if strange := places.keys() - known:
            raise CheckFailedError(f"nobody sent {sorted(strange)[:3]}")
        for each in self.sent:
            self._check_producer(each, places)
        now = self.power_cuts if self.forgetful else 0
        for (partition, offset), (name, losses) in self.consumed.items():
            log = logs[partition]
            if losses == now and (offset >= len(log) or log[offset] != name):
                raise CheckFailedError(
                    f"a consumer read {name!r} at {partition}/{offset}; it is not there"
                )

    def _check_producer(self, sent: list[Sent], places: dict[bytes, tuple[int, int]]) -> None:
        last = [-1] * self.partitions
        for one in sent:
            place = places.get(one.name)
            safe = one.acks == ALL or (self.forgetful and one.power_cuts == self.power_cuts)
            if one.offset >= 0 and safe and place != (one.partition, one.offset):
                raise CheckFailedError(f"{one} was acknowledged; it is at {place}")
            if place is not None and (one.acks == ALL or one.offset >= 0):
                if place[1] <= last[place[0]]:
                    raise CheckFailedError(f"{one.name!r} at {place} comes before an earlier one")
                last[place[0]] = place[1]
