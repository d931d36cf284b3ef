"""One partition on this broker: its log, and what this broker does with it at the moment.

A replica leads, follows, or waits (its broker has no session, or the partition has no leader). Who
waits for records to be committed waits here; when leadership ends, all of them are told.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, NamedTuple

from streambus_broker.cluster.leader import LeaderReplication

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_broker.cluster.replica_log import ReplicaLog
    from streambus_broker.metadata.records import PartitionRecord

NOBODY = -1


class Waiting(NamedTuple):
    """Somebody waits until everything before ``offset`` is committed."""

    offset: int
    number: int
    call: Callable[[str | None], None]
    """Told None, or why it will not be known here."""


class Replica:
    """See the module.

    Attributes:
        topic: Name of its topic.
        partition: Its number there.
        stored: Its log.
        record: What the metadata says.
        leading: What it knows as a leader; None while it does not lead.
        follows: The broker that it follows, NOBODY for none.
    """

    __slots__ = (
        "_count",
        "follows",
        "leading",
        "partition",
        "record",
        "stored",
        "topic",
        "waiting",
    )

    def __init__(
        self, topic: str, partition: int, stored: ReplicaLog, record: PartitionRecord
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.stored = stored
        self.record = record
        self.leading: LeaderReplication | None = None
        self.follows = NOBODY
        self.waiting: list[Waiting] = []
        self._count = 0

    @property
    def partition_id(self) -> int:
        """Its number within the cluster."""
        return self.record.partition_id

    def lead(
        self, broker_id: int, *, min_in_sync: int, lag_s_max: float, now_s: float
    ) -> LeaderReplication:
        """Begin to lead in the epoch of the record."""
        log, record = self.stored.log, self.record
        log.leader_epoch = record.leader_epoch
        log.leads = True
        self.follows = NOBODY
        self.leading = LeaderReplication(
            broker_id,
            record.replicas,
            record.in_sync,
            log_end=log.next_offset,
            durable=self.stored.durable,
            high_watermark=log.high_watermark,
            min_in_sync=min_in_sync,
            lag_s_max=lag_s_max,
            now_s=now_s,
        )
        return self.leading

    def stop_leading(self, reason: str) -> None:
        """Lead no more; whoever waits is told."""
        self.stored.log.leads = False
        self.leading = None
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            one.call(reason)

    def when_committed(self, offset: int, call: Callable[[str | None], None]) -> Waiting:
        """Call back when everything before ``offset`` is committed, or can no longer be known."""
        self._count += 1
        waiting = Waiting(offset, self._count, call)
        insort(self.waiting, waiting)
        return waiting

    def forget(self, waiting: Waiting) -> None:
        """Somebody waits no more; who was called already is fine.

        While nothing is committed, each try of a producer waits here: for ever, were it not for
        this.
        """
        place = bisect_left(self.waiting, waiting)
        if place < len(self.waiting) and self.waiting[place] is waiting:
            del self.waiting[place]

    def committed(self) -> None:
        """The high watermark has risen: tell those for whom it is enough."""
        waiting, watermark = self.waiting, self.stored.log.high_watermark
        count = 0
        while count < len(waiting) and waiting[count].offset <= watermark:
            count += 1
        if count:
            done = waiting[:count]
            del waiting[:count]
            for one in done:
                one.call(None)
