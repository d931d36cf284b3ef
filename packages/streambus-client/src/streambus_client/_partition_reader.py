"""One partition that a consumer reads: where it is, and what waits to be taken. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streambus_client._backoff import Backoff
    from streambus_client._options import Start
    from streambus_client._read_place import ReadPlace
    from streambus_client._types import TopicPartition


class PartitionReader:
    """One assigned partition.

    Attributes:
        start: where to begin; None once there is a position.
        position: offset of the next record for the caller.
        fetch_offset: where the next request goes on.
        generation: see rule 3 of ``_fetcher``.
        paused: not asked for, not handed out.
        high_watermark: offset behind the last readable record, as last heard; -1 before.
        blocked_until: seconds; not asked for before, after a failure.
        place: where it is read.
    """

    __slots__ = (
        "backoff",
        "batches",
        "blocked_until",
        "buffered_bytes",
        "fetch_offset",
        "generation",
        "high_watermark",
        "paused",
        "place",
        "position",
        "start",
        "under_way",
        "where",
    )

    def __init__(
        self, where: TopicPartition, start: Start, backoff: Backoff, place: ReadPlace
    ) -> None:
        self.where = where
        self.start: Start | None = start
        self.position = -1
        self.fetch_offset = -1
        self.generation = 0
        self.paused = False
        self.high_watermark = -1
        self.blocked_until = 0.0
        self.under_way = False
        self.buffered_bytes = 0
        self.batches: deque[memoryview] = deque()
        self.backoff = backoff
        self.place = place

    def begin(self, offset: int) -> None:
        """Read on from ``offset``; what was fetched is dropped."""
        self._drop()
        self.start = None
        self.position = self.fetch_offset = offset

    def begin_at(self, start: Start) -> None:
        """Read on from a place that has yet to be resolved to an offset."""
        self._drop()
        self.start = start

    def _drop(self) -> None:
        self.generation += 1
        self.under_way = False
        self.batches.clear()
        self.buffered_bytes = 0
        self.blocked_until = 0.0
