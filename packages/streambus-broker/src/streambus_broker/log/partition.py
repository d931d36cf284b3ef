"""The state of one partition's log: a pure state machine, without I/O and without a clock.

Invariants: ``log_start_offset <= high_watermark <= next_offset``; ``start_position <=
end_position``; `high_watermark`, `next_offset`, `end_position` and `max_timestamp_ms` never fall
while this broker leads the partition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streambus_broker.log.keys import (
    STAMP_BYTES,
    STAMPED_TOTALS,
    TOTALS,
    partition_prefix,
)
from streambus_broker.log.producers import ProducerStates
from streambus_broker.log.rewrite import rewrite_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_broker.config.topics import TopicSettings
    from streambus_protocol import BatchHeader

_COPY_BYTES_MAX = 4096  # to copy so little costs less than a view of it


@dataclass(slots=True, eq=False)
class PartitionLog:
    """One partition on this broker.

    Attributes:
        topic: Name of its topic.
        partition: Its number within the topic.
        partition_id: Its number within the cluster, never reused; the key's first part.
        leader_epoch: Epoch of the leader that writes it now.
        settings: What its topic's settings are at the moment.
        log_start_offset: First offset that is kept.
        next_offset: Offset that the next record will have (Kafka's log end offset).
        high_watermark: First offset that consumers may not see yet.
        start_position: Position of the first batch that is kept, in bytes.
        end_position: Position behind the last batch.
        max_timestamp_ms: Largest timestamp in the log so far; -1 for none.
        leads: Whether this broker is the partition's leader, and may serve it.
        producers: What is known of its producers.
        marked_offset: How far the stored producer states go.
        rewrite: What the settings ask to change in a batch before it is appended.
    """

    topic: str
    partition: int
    partition_id: int
    settings: TopicSettings
    leader_epoch: int = 0
    log_start_offset: int = 0
    next_offset: int = 0
    high_watermark: int = 0
    start_position: int = 0
    end_position: int = 0
    max_timestamp_ms: int = -1
    leads: bool = True
    producers: ProducerStates = field(default_factory=ProducerStates, repr=False)
    marked_offset: int = 0
    rewrite: Callable[[bytes, BatchHeader, int], bytes] | None = field(init=False, repr=False)
    prefix: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.prefix = partition_prefix(self.partition_id)
        self.rewrite = rewrite_for(self.settings)

    def use_settings(self, settings: TopicSettings) -> None:
        """Go by other settings from now on."""
        self.settings = settings
        self.rewrite = rewrite_for(settings)

    @property
    def size_bytes(self) -> int:
        """Bytes of all the batches that are kept."""
        return self.end_position - self.start_position

    def place(self, header: BatchHeader, batch: bytes | memoryview) -> tuple[bytes, bytes]:
        """Give a checked batch its key and value; nothing changes until `appended`.

        Cost: one copy of the batch.
        """
        base_offset = self.next_offset
        timestamp_ms = header.max_timestamp_ms
        if timestamp_ms < self.max_timestamp_ms:
            timestamp_ms = self.max_timestamp_ms
        totals = STAMPED_TOTALS.pack(
            self.end_position, timestamp_ms, base_offset, self.leader_epoch
        )
        if len(batch) > _COPY_BYTES_MAX:
            batch = memoryview(batch)
        value = b"".join((totals, batch[STAMP_BYTES:]))
        return self.prefix + base_offset.to_bytes(8, "big"), value

    def place_stamped(self, header: BatchHeader, batch: bytes) -> tuple[bytes, bytes]:
        """Give a batch that has its offset and epoch, as a leader sent it, its key and value."""
        timestamp_ms = max(header.max_timestamp_ms, self.max_timestamp_ms)
        totals = TOTALS.pack(self.end_position, timestamp_ms)
        return self.prefix + header.base_offset.to_bytes(8, "big"), totals + batch

    def go_back(self, next_offset: int, end_position: int, max_timestamp_ms: int) -> None:
        """Take note that everything from ``next_offset`` on was truncated."""
        self.next_offset = next_offset
        self.end_position = end_position
        self.max_timestamp_ms = max_timestamp_ms
        self.log_start_offset = min(self.log_start_offset, next_offset)
        self.start_position = min(self.start_position, end_position)
        self.high_watermark = min(self.high_watermark, next_offset)

    def begin_at(self, offset: int) -> None:
        """Take note that nothing is left, and the log begins anew at ``offset``."""
        self.log_start_offset = self.next_offset = self.high_watermark = offset
        self.start_position = self.end_position = 0
        self.max_timestamp_ms = -1

    def appended(self, header: BatchHeader) -> int:
        """Take note that the batch last placed is written; return its base offset."""
        base_offset = self.next_offset
        self.next_offset = base_offset + header.last_offset_delta + 1
        self.end_position += header.length
        if header.max_timestamp_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = header.max_timestamp_ms
        return base_offset

    def advance_high_watermark(self, offset: int) -> bool:
        """Let consumers see up to ``offset``; return whether that is news."""
        if offset <= self.high_watermark:
            return False
        self.high_watermark = min(offset, self.next_offset)
        return True

    def delete_before(self, offset: int, position: int) -> None:
        """Take note that everything before ``offset``, at ``position``, is deleted."""
        self.log_start_offset = max(self.log_start_offset, min(offset, self.high_watermark))
        self.start_position = max(self.start_position, min(position, self.end_position))
