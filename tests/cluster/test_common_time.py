"""What most brokers take for the time: a minority of wrong clocks deletes nothing."""

from __future__ import annotations

import pytest

from streambus_broker.cluster.common_time import UNKNOWN_MS, CommonTime

NOW_MS = 1_700_000_000_000
YEAR_MS = 365 * 86_400_000


@pytest.mark.parametrize("wrong_ms", [YEAR_MS, -YEAR_MS])
@pytest.mark.parametrize("broker", [1, 2, 3])
def test_one_wrong_clock_of_three_does_not_count(broker: int, wrong_ms: int) -> None:
    time = CommonTime()
    for each in (1, 2, 3):
        time.heard(each, NOW_MS + (wrong_ms if each == broker else each), 10.0)
    assert time.agreed_ms({1, 2, 3}, 12.0) in range(NOW_MS + 2000, NOW_MS + 2004)


def test_with_half_of_the_clocks_ahead_the_time_is_not_ahead() -> None:
    time = CommonTime()
    time.heard(1, NOW_MS, 0.0)
    time.heard(2, NOW_MS + YEAR_MS, 0.0)
    assert time.agreed_ms({1, 2}, 0.0) == time.agreed_ms({1, 2, 3}, 0.0) == NOW_MS


def test_fewer_than_most_agree_on_nothing() -> None:
    time = CommonTime()
    time.heard(1, NOW_MS, 0.0)
    time.heard(7, NOW_MS, 0.0)  # removed since
    time.heard(2, -1, 0.0)  # of an earlier version: it does not say
    assert time.agreed_ms({1, 2}, 0.0) == UNKNOWN_MS
    assert time.agreed_ms({1}, 0.0) == NOW_MS
    time.left()
    assert time.agreed_ms({1}, 0.0) == UNKNOWN_MS


def test_a_broker_goes_by_nothing_before_it_was_told_and_by_the_earlier_then() -> None:
    time = CommonTime()
    assert time.earlier_ms(NOW_MS, 5.0) is None
    time.told(UNKNOWN_MS, 5.0)
    assert time.earlier_ms(NOW_MS, 5.0) is None
    time.told(NOW_MS, 5.0)
    assert time.earlier_ms(NOW_MS + YEAR_MS, 6.0) == NOW_MS + 1000
    assert time.earlier_ms(NOW_MS - YEAR_MS, 6.0) == NOW_MS - YEAR_MS
