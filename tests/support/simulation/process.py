"""A simulated operating-system process: tasks and connections that can vanish at any moment."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from tests.support.simulation.handle import Handle
    from tests.support.simulation.world import Simulation

current_process: contextvars.ContextVar[SimulatedProcess | None] = contextvars.ContextVar(
    "current_process", default=None
)

_CLOSE_TRIES_MAX = 100
_TASKS_MIN = 64


class SimulatedProcess:
    """One process on one host.

    Attributes:
        name: For the trace.
        host: Its address in the simulated network; several processes may share one.
        alive: False from the kill on; a process never comes back, start another one.
        runs: Whether it is given the processor: it lives and is not paused.
        clock_skew_ms: What its wall clock is ahead of the simulation's.
        thread_s: Draws how long what a thread has done takes to reach the event loop: what happens
            on the loop in that time comes after it, and before the loop hears of it.
    """

    def __init__(self, simulation: Simulation, name: str, host: str) -> None:
        self.name = name
        self.host = host
        self.alive = True
        self.runs = True
        self.clock_skew_ms = 0
        self.thread_s: Callable[[], float] | None = None
        self.heard_s = 0.0  # when the loop heard, or will hear, of a thread's last deed
        self._simulation = simulation
        self._tasks: list[asyncio.Task[Any]] = []
        self._look_at = _TASKS_MIN
        self._missed: list[Handle] = []

    def wall_clock_ms(self) -> int:
        """Milliseconds since 1970 as this process sees them."""
        return self._simulation.wall_clock_ms() + self.clock_skew_ms

    def start(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> asyncio.Task[Any]:
        """Run ``main(*args)`` as the process's first task."""
        context = contextvars.copy_context()
        context.run(current_process.set, self)
        return self._simulation.loop.create_task(main(*args), name=self.name, context=context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Remember a task that was made in this process; those that ended are dropped in time."""
        self._tasks.append(task)
        if len(self._tasks) > self._look_at:
            self._tasks = [each for each in self._tasks if not each.done()]
            self._look_at = max(_TASKS_MIN, 2 * len(self._tasks))

    def pause(self) -> None:
        """Stop it where it is, as SIGSTOP does: its host goes on taking what arrives for it."""
        if self.runs:
            self.runs = False
            self._simulation.trace("pause", self.name)

    def resume(self) -> None:
        """Let it go on, as SIGCONT does; all its timers that are due fire at once."""
        if self.alive and not self.runs:
            self.runs = True
            self._simulation.trace("resume", self.name)
            missed, self._missed = self._missed, []
            self._simulation.loop.run_again(missed)

    def missed(self, handle: Handle) -> None:
        """Keep what is due while the process is paused; what a dead one had to do is dropped."""
        if self.alive:
            self._missed.append(handle)

    def kill(self, *, power_loss: bool = False) -> None:
        """End the process between two instructions, as SIGKILL does.

        Args:
            power_loss: The host goes too: peers hear nothing at all. Otherwise its operating
                system resets the connections.
        """
        if not self.alive:
            return
        self.alive = self.runs = False
        self._missed.clear()
        self._simulation.trace("kill", self.name, "by power loss" if power_loss else "")
        self._simulation.network.forget(self, reset=not power_loss)
        tasks, self._tasks = [task for task in self._tasks if not task.done()], []
        # Not from inside one of its own tasks: a running coroutine cannot be closed.
        self._simulation.buried.update(dict.fromkeys(tasks))
        self._simulation.loop.call_soon(_bury, self, tasks, context=contextvars.Context())


def _bury(process: SimulatedProcess, tasks: list[asyncio.Task[Any]]) -> None:
    """Close the coroutines of a dead process; whatever their clean-up does reaches nobody."""
    current_process.set(
        process
    )  # what the clean-up schedules is the dead process's, and is dropped
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # it did not forget them
        coroutine: Any = task.get_coro()
        for _ in range(_CLOSE_TRIES_MAX):
            try:
                coroutine.close()
            except RuntimeError:  # it awaits during clean-up: again, until it gives up
                continue
            except BaseException:  # noqa: BLE001 - a dead process complains to nobody
                pass
            break
