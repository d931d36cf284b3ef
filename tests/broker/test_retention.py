from __future__ import annotations

from streambus_broker.config.topics import TopicSettings
from streambus_broker.log.partition import PartitionLog
from streambus_broker.log.retention import CLOCK_STEP_MS_MAX, Expiry, RetentionClock, expired


def log_of(size_bytes: int, **settings: object) -> PartitionLog:
    log = PartitionLog("t", 0, 1, TopicSettings().overridden(settings))
    log.next_offset = log.high_watermark = 10
    log.start_position, log.end_position = 100, 100 + size_bytes
    return log


def test_an_empty_log_has_nothing_to_delete() -> None:
    log = log_of(0)
    log.log_start_offset = 10
    assert expired(log, 10**15) is None


def test_without_limits_nothing_is_deleted() -> None:
    assert expired(log_of(10**12, retention_ms=-1, retention_bytes=-1), 10**15) is None


def test_age_and_size_bound_what_is_kept() -> None:
    assert expired(log_of(1000, retention_ms=60), 1_000) == Expiry(940, None)
    log = log_of(1000, retention_ms=-1, retention_bytes=300)
    assert expired(log, 1_000) == Expiry(None, 800)
    assert expired(log_of(300, retention_ms=-1, retention_bytes=300), 1_000) is None


def test_where_nobody_knows_the_time_size_alone_counts() -> None:
    assert expired(log_of(1000, retention_ms=60), None) is None
    log = log_of(1000, retention_ms=60, retention_bytes=300)
    assert expired(log, None) == Expiry(None, 800)


YEAR_MS = 365 * 86_400_000


def test_a_clock_that_jumps_ahead_is_not_believed() -> None:
    clock = RetentionClock(1_000_000, 0)
    assert clock.now_ms(1_000_060, 60) == 1_000_060
    assert clock.now_ms(1_000_060 + YEAR_MS, 60) == 1_000_060
    assert clock.now_ms(1_000_100 + YEAR_MS, 100) == 1_000_100
    assert clock.now_ms(1_000_200, 200) == 1_000_200
    edge_ms = 1_000_200 + CLOCK_STEP_MS_MAX
    assert clock.now_ms(edge_ms, 200) == edge_ms


def test_a_clock_that_was_set_back_is_believed_again_when_it_is_right() -> None:
    clock = RetentionClock(1_000_000 + YEAR_MS, 0)
    assert clock.now_ms(1_000_060, 60) == 1_000_060
    assert clock.now_ms(1_000_100 + YEAR_MS, 100) == 1_000_100 + YEAR_MS
