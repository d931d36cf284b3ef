"""A deterministic scheduler: background work runs inline, in an order drawn from a seed.

Theory of operation. A worker is *pending* from its wake until a step returns False. Nothing runs
by itself; pending steps run at four places: inside `wake` (with the probability ``eagerness``,
until nothing is pending), inside `wait` (until the condition holds), where a host asked for it
by ``defer``, and in `run_one` / `run_until_idle`, which are for tests. Among several pending
workers the next one is drawn from the random source.

A wake inside a step is only remembered: the loop that runs the step serves it afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from streambus_storage.testing._clock import SimulatedClock
from streambus_storage.testing._random import random_source

if TYPE_CHECKING:
    import random

Step = Callable[[], bool]

STEPS_MAX = 1_000_000
"""Steps in one run before it counts as a livelock; a real test needs some hundreds."""


class DeadlockError(AssertionError):
    """A wait can never end: its condition is false and no work is pending that could change it."""


class _SimulatedWorker:
    """A worker of `SimulatedScheduler`; see `streambus_storage.Scheduler` for the contract."""

    __slots__ = ("_scheduler", "due", "name", "running", "step", "stopped")

    def __init__(self, scheduler: SimulatedScheduler, name: str, step: Step) -> None:
        self._scheduler = scheduler
        self.name = name
        self.step = step
        self.due: float | None = None
        """When the next step may run, in seconds of the clock; None if it is not pending."""
        self.running = False
        self.stopped = False

    def wake(self, delay_seconds: float = 0.0) -> None:
        """Make the worker pending, and perhaps run it before returning."""
        if self.stopped:
            return
        scheduler = self._scheduler
        due = scheduler.clock.now() + delay_seconds
        if self.due is None or due < self.due:
            self.due = due
        scheduler.woken()

    def stop(self) -> None:
        """Forget pending work; no step runs from now on."""
        self.stopped = True
        self.due = None
        self._scheduler.forget(self)


class SimulatedScheduler:
    """Runs background work inline and deterministically.

    Args:
        seed: draws the order among pending workers, and whether a wake runs them.
        clock: the time; by default its own, starting at 0.
        eagerness: probability, 0 to 1, that a wake runs everything pending at once. 1 is a
            machine on which background work is instant, 0 one on which it happens only when
            somebody waits for it (or the test runs it by hand).
        defer: where a host runs pending work itself, for example
            ``lambda run: loop.call_soon(run)``: a wake then never runs a step, and hands
            `run_until_idle` over instead, once until that call was made.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        clock: SimulatedClock | None = None,
        eagerness: float = 1.0,
        defer: Callable[[Callable[[], object]], object] | None = None,
    ) -> None:
        self.clock = clock or SimulatedClock()
        self.eagerness = eagerness
        self.trace: list[str] | None = None
        """The names of the workers in the order of their steps, if set to a list."""
        self._random: random.Random = random_source(seed, "scheduler")
        self._defer = defer
        self._deferred = False
        self._workers: list[_SimulatedWorker] = []
        self._depth = 0

    # The door.

    def worker(self, name: str, step: Step) -> _SimulatedWorker:
        """Register an activity; it sleeps until its first wake."""
        made = _SimulatedWorker(self, name, step)
        self._workers.append(made)
        return made

    def now(self) -> float:
        """The virtual time in seconds."""
        return self.clock.now()

    def pause(self, seconds: float) -> None:
        """Let virtual time pass; other workers do not run inside somebody's step."""
        self.clock.advance(seconds)

    def wait(self, condition: Callable[[], bool], timeout_seconds: float | None = None) -> bool:
        """Run pending steps until the condition holds; virtual time jumps where nothing is due.

        Raises:
            DeadlockError: if the condition is false, nothing is pending and there is no timeout.
        """
        end = None if timeout_seconds is None else self.clock.now() + timeout_seconds
        for _ in range(STEPS_MAX):
            if condition():
                return True
            if end is not None and self.clock.now() >= end:
                return False
            if self.run_one():
                continue
            due = self._next_due()
            if due is None or (end is not None and due > end):
                if end is None:
                    raise DeadlockError(f"nothing pending among {[w.name for w in self._workers]}")
                if not self.clock.advance_to(end):
                    return False
            elif not self.clock.advance_to(due):
                self._make_due(due)
        raise DeadlockError(f"{STEPS_MAX} steps, and the condition still does not hold")

    def notify(self) -> None:
        """Nothing sleeps here, so nobody needs to be told."""

    # For tests and hosts.

    @property
    def pending(self) -> list[str]:
        """The names of the workers that would run next, due or not."""
        return [worker.name for worker in self._workers if worker.due is not None]

    def run_one(self) -> bool:
        """Run one step of one due worker; False if none is due."""
        now = self.clock.now()
        ready = [
            worker
            for worker in self._workers
            if worker.due is not None and worker.due <= now and not worker.running
        ]
        if not ready:
            return False
        worker = ready[0] if len(ready) == 1 else self._random.choice(ready)
        worker.due = None
        worker.running = True
        self._depth += 1
        if self.trace is not None:
            self.trace.append(worker.name)
        try:
            more = worker.step()
        finally:
            worker.running = False
            self._depth -= 1
        if more and not worker.stopped:
            worker.due = self.clock.now()
        return True

    def run_until_idle(self) -> int:
        """Run everything that is due, and return the number of steps; delays are not skipped.

        Raises:
            DeadlockError: if the work does not end.
        """
        self._deferred = False
        steps = 0
        while self.run_one():
            steps += 1
            if steps >= STEPS_MAX:
                raise DeadlockError(f"{steps} steps, and still {self.pending} pending")
        return steps

    # For its workers.

    def woken(self) -> None:
        """A worker became pending: run it now, hand it to the host, or leave it for later."""
        if self._depth:
            return
        if self._defer is not None:
            if not self._deferred:
                self._deferred = True
                self._defer(self.run_until_idle)
        elif self.eagerness >= 1 or self._random.random() < self.eagerness:
            self.run_until_idle()

    def forget(self, worker: _SimulatedWorker) -> None:
        """A worker was stopped: drop it."""
        if worker in self._workers:
            self._workers.remove(worker)

    def _next_due(self) -> float | None:
        return min(
            (w.due for w in self._workers if w.due is not None and not w.running), default=None
        )

    def _make_due(self, moment: float) -> None:
        """Treat a delay as over, because the clock belongs to somebody else who is not running."""
        for worker in self._workers:
            if worker.due is not None and worker.due <= moment:
                worker.due = self.clock.now()
