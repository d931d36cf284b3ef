"""A simulated operating-system process: tasks and connections that can vanish at any moment."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from tests.support.simulation.world import Simulation

current_process: contextvars.ContextVar[SimulatedProcess | None] = contextvars.ContextVar(
    "current_process", default=None
)

_CLOSE_TRIES_MAX = 100


class SimulatedProcess:
    """One process on one host.

    Attributes:
        name: For the trace.
        host: Its address in the simulated network; several processes may share one.
        alive: False from the kill on; a process never comes back, start another one.
        clock_skew_ms: What its wall clock is ahead of the simulation's.
    """

    def __init__(self, simulation: Simulation, name: str, host: str) -> None:
        self.name = name
        self.host = host
        self.alive = True
        self.clock_skew_ms = 0
        self._simulation = simulation
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def wall_clock_ms(self) -> int:
        """Milliseconds since 1970 as this process sees them."""
        return self._simulation.wall_clock_ms() + self.clock_skew_ms

    def start(self, main: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> asyncio.Task[Any]:
        """Run ``main(*args)`` as the process's first task."""
        context = contextvars.copy_context()
        context.run(current_process.set, self)
        return self._simulation.loop.create_task(main(*args), name=self.name, context=context)

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Remember a task that was made in this process."""
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def kill(self, *, power_loss: bool = False) -> None:
        """End the process between two instructions, as SIGKILL does.

        Args:
            power_loss: The host goes too: peers hear nothing at all. Otherwise its operating
                system resets the connections.
        """
        if not self.alive:
            return
        self.alive = False
        self._simulation.trace(f"kill {self.name}{' by power loss' if power_loss else ''}")
        self._simulation.network.forget(self, reset=not power_loss)
        tasks, self._tasks = list(self._tasks), {}
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
