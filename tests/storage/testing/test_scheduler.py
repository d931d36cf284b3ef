"""The simulated scheduler, clock and randomness: deterministic, and honest about deadlock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streambus_storage.testing import (
    DeadlockError,
    SimulatedClock,
    SimulatedScheduler,
    random_source,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def counting(log: list[str], name: str, times: int) -> Callable[[], bool]:
    left = times

    def step() -> bool:
        nonlocal left
        log.append(name)
        left -= 1
        return left > 0

    return step


def test_eager_wake_runs_until_nothing_is_pending() -> None:
    log: list[str] = []
    scheduler = SimulatedScheduler()
    scheduler.worker("a", counting(log, "a", 3)).wake()
    assert log == ["a", "a", "a"]
    assert scheduler.pending == []


def test_lazy_wake_is_served_by_wait_in_an_order_that_the_seed_draws() -> None:
    orders = set()
    for seed in range(20):
        log: list[str] = []
        scheduler = SimulatedScheduler(seed, eagerness=0)
        scheduler.trace = []
        for name in "abc":
            scheduler.worker(name, counting(log, name, 2)).wake()
        assert log == []
        assert sorted(scheduler.pending) == ["a", "b", "c"]
        done = log.__len__
        assert scheduler.wait(lambda: done() == 6)  # noqa: B023 - called within this turn
        assert scheduler.trace == log
        orders.add("".join(log))
        again: list[str] = []
        other = SimulatedScheduler(seed, eagerness=0)
        for name in "abc":
            other.worker(name, counting(again, name, 2)).wake()
        other.run_until_idle()
        assert again == log
    assert len(orders) > 5


def test_wake_within_a_step_is_served_after_it() -> None:
    log: list[str] = []
    scheduler = SimulatedScheduler()
    second = scheduler.worker("second", counting(log, "second", 1))

    def step() -> bool:
        second.wake()
        log.append("first")
        return False

    scheduler.worker("first", step).wake()
    assert log == ["first", "second"]


def test_own_wake_within_a_step_runs_it_again() -> None:
    scheduler = SimulatedScheduler()
    runs = 0

    def step() -> bool:
        nonlocal runs
        runs += 1
        if runs < 3:
            worker.wake()
        return False

    worker = scheduler.worker("w", step)
    worker.wake()
    assert runs == 3


def test_wait_inside_a_step_runs_the_others() -> None:
    log: list[str] = []
    scheduler = SimulatedScheduler(eagerness=0)
    other = scheduler.worker("other", counting(log, "other", 1))

    def step() -> bool:
        other.wake()
        scheduler.wait(lambda: "other" in log)
        log.append("outer")
        return False

    scheduler.worker("outer", step).wake()
    scheduler.run_until_idle()
    assert log == ["other", "outer"]


def test_delay_passes_in_virtual_time() -> None:
    log: list[str] = []
    scheduler = SimulatedScheduler()
    worker = scheduler.worker("late", counting(log, "late", 1))
    worker.wake(5.0)
    worker.wake(9.0)
    assert scheduler.run_until_idle() == 0
    assert scheduler.wait(lambda: bool(log))
    assert scheduler.now() == 5.0
    scheduler.pause(2.5)
    assert scheduler.now() == 7.5


def test_wait_times_out_or_reports_the_deadlock() -> None:
    scheduler = SimulatedScheduler()
    scheduler.worker("asleep", lambda: False)
    assert not scheduler.wait(lambda: False, 3.0)
    assert scheduler.now() == 3.0
    with pytest.raises(DeadlockError, match="asleep"):
        scheduler.wait(lambda: False)
    scheduler.notify()


def test_endless_work_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streambus_storage.testing._scheduler.STEPS_MAX", 50)
    scheduler = SimulatedScheduler(eagerness=0)
    scheduler.worker("spinning", lambda: True).wake()
    with pytest.raises(DeadlockError, match="50 steps"):
        scheduler.wait(lambda: False)
    with pytest.raises(DeadlockError, match="spinning"):
        scheduler.run_until_idle()


def test_stopped_worker_never_runs() -> None:
    log: list[str] = []
    scheduler = SimulatedScheduler(eagerness=0)
    worker = scheduler.worker("w", counting(log, "w", 9))
    worker.wake()
    worker.stop()
    worker.stop()
    worker.wake()
    assert scheduler.run_until_idle() == 0
    assert log == []


def test_worker_that_stops_itself_does_not_run_again() -> None:
    scheduler = SimulatedScheduler(eagerness=0)
    runs = []

    def step() -> bool:
        runs.append(1)
        worker.stop()
        return True

    worker = scheduler.worker("w", step)
    worker.wake()
    scheduler.run_until_idle()
    assert runs == [1]


def test_host_runs_deferred_work_once_for_many_wakes() -> None:
    log: list[str] = []
    handed: list[Callable[[], object]] = []
    scheduler = SimulatedScheduler(defer=handed.append)
    worker = scheduler.worker("w", counting(log, "w", 1))
    worker.wake()
    worker.wake()
    assert (len(handed), log) == (1, [])
    handed.pop()()
    assert log == ["w"]
    worker.wake()
    assert len(handed) == 1


def test_clock_of_somebody_else_is_not_moved_and_delays_end_at_once() -> None:
    moment = 100.0
    clock = SimulatedClock(lambda: moment)
    assert not clock.advance(1)
    log: list[str] = []
    scheduler = SimulatedScheduler(clock=clock)
    scheduler.worker("late", counting(log, "late", 1)).wake(5.0)
    scheduler.worker("later", counting(log, "later", 1)).wake(6.0)
    assert scheduler.wait(lambda: bool(log))
    assert log == ["late"]
    assert scheduler.now() == 100.0
    assert scheduler.wait(lambda: len(log) > 1)
    assert not scheduler.wait(lambda: False, 1.0)


def test_clock_never_goes_back() -> None:
    clock = SimulatedClock()
    assert clock.advance_to(4)
    assert clock.advance_to(2)
    assert clock.advance(0.5)
    assert clock.now() == 4.5


def test_random_sources_are_independent_and_repeatable() -> None:
    assert random_source(1, "a").random() == random_source(1, "a").random()
    assert random_source(1, "a").random() != random_source(1, "b").random()
    assert random_source(1).random() != random_source(2).random()
