"""Which part of a log has outlived its topic's retention: a pure decision.

Time is judged by the running maximum of timestamps, so that one batch from the past cannot be
deleted from the middle of the log, and one from the future keeps what lies behind it, not before
it. A clock that jumps forward by more than the allowed step deletes nothing: see `plausible_now`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from streambus_broker.log.partition import PartitionLog

CLOCK_STEP_MS_MAX = 10 * 60 * 1000
"""How far the wall clock may run ahead of the monotonic clock before it is distrusted."""


class Expiry(NamedTuple):
    """Delete the leading batches while either bound covers them; None where there is no bound.

    Attributes:
        before_timestamp_ms: Batches whose running maximum lies below it.
        before_position: Batches that end at or before this position.
    """

    before_timestamp_ms: int | None
    before_position: int | None


def expired(log: PartitionLog, now_ms: int) -> Expiry | None:
    """Say what may be deleted of ``log`` at ``now_ms``, or None where nothing can be."""
    if log.log_start_offset >= log.high_watermark:
        return None
    settings = log.settings
    before_timestamp_ms = before_position = None
    if settings.retention_ms >= 0:
        before_timestamp_ms = now_ms - settings.retention_ms
    if 0 <= settings.retention_bytes < log.size_bytes:
        before_position = log.end_position - settings.retention_bytes
    if before_timestamp_ms is None and before_position is None:
        return None
    return Expiry(before_timestamp_ms, before_position)


def plausible_now(
    wall_ms: int, monotonic_ms: int, last_wall_ms: int, last_monotonic_ms: int
) -> int:
    """Choose the time by which retention judges, when the wall clock may have been set.

    Args:
        wall_ms: What the wall clock says.
        monotonic_ms: What the monotonic clock says.
        last_wall_ms: What the last round went by.
        last_monotonic_ms: The monotonic clock at that round.

    Returns:
        The wall clock, unless it ran ahead of the monotonic one by more than the allowed step
        since the last round; then the last time plus what the monotonic clock has counted.
    """
    counted_ms = last_wall_ms + (monotonic_ms - last_monotonic_ms)
    return wall_ms if wall_ms <= counted_ms + CLOCK_STEP_MS_MAX else counted_ms
