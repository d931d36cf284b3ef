"""The background door: who runs sync, flush and compaction, when, and by which clock.

The engine hands a `Scheduler` named workers, each one function ``step() -> bool`` that does a
piece of work and tells whether there is more. In reality each worker is a thread; a simulated
scheduler runs the steps inline and in an order of its own choosing.

Duties on both sides:

- The engine calls `Worker.wake`, `Scheduler.wait` and `Scheduler.pause` **without holding any
  of its locks**, so that an inline scheduler may run a step before the call returns. A wake
  from within a step (of any worker) must only be remembered and be served after that step.
- After `wake`, `step` runs at least once, and again for as long as it returns True. Two calls
  of one worker's step never overlap.
- A condition given to `wait` is read without a lock and must have no side effect; whoever
  makes it true calls `notify` afterwards.
- A step handles the errors that it knows of. One that raises all the same is logged and tried again
  later: work that nobody does any more would stall every writer for good.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger("streambus_storage")

Step = Callable[[], bool]

RETRY_SECONDS = 0.5
"""A step that raised what nobody expected is tried again so much later."""


class Worker(Protocol):
    """A background activity, created by `Scheduler.worker`."""

    def wake(self, delay_seconds: float = 0.0) -> None:
        """Ask that `step` runs, not before ``delay_seconds`` have passed. Cheap when awake."""

    def stop(self) -> None:
        """Return when no step runs and none will run any more (or if called from the step)."""


class Scheduler(Protocol):
    """Makes workers, waits, and tells the time."""

    def worker(self, name: str, step: Step) -> Worker:
        """Register an activity. It sleeps until its first `Worker.wake`."""

    def now(self) -> float:
        """Return a monotonic time in seconds. Used for slices, throttling and statistics."""

    def pause(self, seconds: float) -> None:
        """Let others run for about ``seconds``: called between slices of background work."""

    def wait(self, condition: Callable[[], bool], timeout_seconds: float | None = None) -> bool:
        """Block until ``condition()`` holds; return whether it does (False: timeout).

        A simulated scheduler runs pending steps here until the condition holds.
        """

    def notify(self) -> None:
        """Tell waiters that a condition may have changed."""


class ThreadWorker:
    """`Worker` as one daemon thread, started by the first wake.

    The state is guarded by ``_condition``.
    """

    def __init__(self, name: str, step: Step) -> None:
        self._name = name
        self._step = step
        self._condition = threading.Condition(threading.Lock())
        self._due: float | None = None  # monotonic time of the earliest wake asked for
        self._stopped = False
        self._thread: threading.Thread | None = None

    def wake(self, delay_seconds: float = 0.0) -> None:
        """See `Worker.wake`."""
        due = time.monotonic() + delay_seconds if delay_seconds else 0.0
        with self._condition:
            if self._stopped or (self._due is not None and self._due <= due):
                return
            self._due = due
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            else:
                self._condition.notify()

    def stop(self) -> None:
        """See `Worker.stop`."""
        with self._condition:
            self._stopped = True
            self._condition.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._stopped:
                    if self._due is None:
                        self._condition.wait()
                        continue
                    left = self._due - time.monotonic() if self._due else 0.0
                    if left <= 0:
                        break
                    self._condition.wait(left)
                if self._stopped:
                    return
                self._due = None
            try:
                more = self._step()
            except Exception:
                logger.exception("%s met an unexpected error, and tries again", self._name)
                self.wake(RETRY_SECONDS)
                continue
            if more:
                self.wake()


class ThreadScheduler:
    """`Scheduler` in reality: threads, and the system's monotonic clock."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._waiters = 0  # guarded by _changed; read without it in notify, see there

    def worker(self, name: str, step: Step) -> Worker:
        """See `Scheduler.worker`."""
        return ThreadWorker(name, step)

    def now(self) -> float:
        """See `Scheduler.now`."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """See `Scheduler.pause`."""
        time.sleep(seconds)

    def wait(self, condition: Callable[[], bool], timeout_seconds: float | None = None) -> bool:
        """See `Scheduler.wait`."""
        with self._changed:
            self._waiters += 1
            try:
                return self._changed.wait_for(condition, timeout_seconds)
            finally:
                self._waiters -= 1

    def notify(self) -> None:
        """See `Scheduler.notify`."""
        # Taking the lock even without waiters closes the gap in which a waiter has read its
        # condition as false and has not begun to sleep yet.
        with self._changed:
            if self._waiters:
                self._changed.notify_all()
