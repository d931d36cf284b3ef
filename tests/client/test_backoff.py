"""Waits between attempts."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from streambus_client._backoff import Backoff, BackoffPolicy, wait_before_retry_s


@given(seed=st.integers(), failures=st.integers(1, 200))
def test_waits_stay_within_their_bounds_and_reach_the_top(seed: int, failures: int) -> None:
    policy = BackoffPolicy(first_s=0.1, max_s=2.0, factor=2.0, jitter=0.5)
    backoff = Backoff(Random(seed), policy)
    quick = [0.1, *[0.15] * 20]  # 3 s: what a failover may take
    for attempt in range(failures):
        grown_s = min(2.0, 0.1 * 2.0 ** max(attempt - len(quick) + 1, 0))
        nominal_s = quick[attempt] if attempt < len(quick) else grown_s
        assert 0.5 * nominal_s <= backoff.next_wait_s() <= nominal_s
    assert backoff.failures == failures


def test_same_seed_gives_the_same_waits_and_another_seed_others() -> None:
    def waits(seed: int) -> list[float]:
        backoff = Backoff(Random(seed))
        return [backoff.next_wait_s() for _ in range(5)]

    assert waits(1) == waits(1) != waits(2)


def test_a_first_wait_beyond_the_quick_ones_is_kept() -> None:
    backoff = Backoff(Random(1), BackoffPolicy(first_s=1.0, max_s=4.0, jitter=0.0))
    assert [backoff.next_wait_s() for _ in range(4)] == [1.0, 2.0, 4.0, 4.0]


def test_success_begins_anew() -> None:
    backoff = Backoff(Random(1), BackoffPolicy(jitter=0.0))
    first_s = backoff.next_wait_s()
    backoff.next_wait_s()
    backoff.succeeded()
    assert backoff.next_wait_s() == first_s


def test_retry_ends_at_the_deadline_and_with_the_retries() -> None:
    backoff = Backoff(Random(1), BackoffPolicy(first_s=1.0, max_s=1.0, jitter=0.0))

    def wait(now: float, attempts: int, retries_max: int | None) -> float | None:
        return wait_before_retry_s(
            backoff, now=now, deadline=10.0, attempts=attempts, retries_max=retries_max
        )

    assert wait(0.0, 1, None) == 1.0
    assert wait(9.75, 50, None) == 0.25, "the last attempt comes early rather than not at all"
    assert wait(10.0, 1, None) is None
    assert wait(0.0, 1, 0) is None
    assert wait(0.0, 2, 2) == 1.0
    assert wait(0.0, 3, 2) is None
