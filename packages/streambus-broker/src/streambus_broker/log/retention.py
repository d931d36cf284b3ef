"""Which part of a log has outlived its topic's retention: a pure decision.

Time is judged by the running maximum of timestamps, so that one batch from the past cannot be
deleted from the middle of the log, and one from the future keeps what lies behind it, not before
it. A clock that jumps forward by more than the allowed step deletes nothing: see `RetentionClock`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from streambus_broker.log.partition import PartitionLog

CLOCK_STEP_MS_MAX = 10 * 60 * 1000
"""How far the wall clock may be away from what the monotonic one counted before it jumped."""


class Expiry(NamedTuple):
    """Delete the leading batches while either bound covers them; None where there is no bound.

    Attributes:
        before_timestamp_ms: Batches whose running maximum lies below it.
        before_position: Batches that end at or before this position.
    """

    before_timestamp_ms: int | None
    before_position: int | None


def expired(log: PartitionLog, now_ms: int | None) -> Expiry | None:
    """Say what may be deleted of ``log`` at ``now_ms``, or None where nothing can be.

    Where nobody knows what time it is, size alone counts.
    """
    if log.log_start_offset >= log.high_watermark:
        return None
    settings = log.settings
    before_timestamp_ms = before_position = None
    if settings.retention_ms >= 0 and now_ms is not None:
        before_timestamp_ms = now_ms - settings.retention_ms
    if 0 <= settings.retention_bytes < log.size_bytes:
        before_position = log.end_position - settings.retention_bytes
    if before_timestamp_ms is None and before_position is None:
        return None
    return Expiry(before_timestamp_ms, before_position)


class RetentionClock:
    """The time by which retention judges, when the wall clock may be set meanwhile.

    It goes by the wall clock as long as that keeps step with the monotonic one. One that jumped
    ahead counts for no more than what the monotonic clock has counted since; one that jumped back
    is believed, because that deletes nothing early, until it is put right again.

    Args:
        wall_ms: What the wall clock says; nothing tells whether it is right at the start.
        steady_ms: What the monotonic clock says.
    """

    __slots__ = ("_steady_ms", "_wall_ms")

    def __init__(self, wall_ms: int, steady_ms: int) -> None:
        self._wall_ms = wall_ms
        self._steady_ms = steady_ms

    def now_ms(self, wall_ms: int, steady_ms: int) -> int:
        """The time to go by, told what both clocks say now."""
        counted_ms = self._wall_ms + (steady_ms - self._steady_ms)
        if abs(wall_ms - counted_ms) > CLOCK_STEP_MS_MAX:
            return min(wall_ms, counted_ms)
        self._wall_ms, self._steady_ms = wall_ms, steady_ms
        return wall_ms
