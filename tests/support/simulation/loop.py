"""An asyncio event loop on virtual time.

Rules:

- ``select(timeout)`` never waits: it moves the clock. No timer and nothing ready is a deadlock,
  reported as one.
- Every callback carries the process that scheduled it (by context); after that process was killed
  the callback does nothing. That is how a killed process vanishes between two instructions.
- There is no executor and no socket: ``run_in_executor`` runs inline, connections come from the
  simulated network.
"""

from __future__ import annotations

import asyncio
from asyncio import base_events
from typing import TYPE_CHECKING, Any

from tests.support.simulation.process import SimulatedProcess, current_process

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from tests.support.simulation.network import SimulatedNetwork


class SimulationError(Exception):
    """The simulation itself cannot go on: deadlock, or an error that nobody handled."""


class _Selector:
    """What stands where the operating system would be asked to wait."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise SimulationError(
                f"deadlock at {self._loop.time():.6f} s: nothing will ever happen"
            )
        if timeout > 0:
            self._loop.advance(timeout)
        return []

    def get_map(self) -> dict[Any, Any]:
        return {}

    def close(self) -> None:
        pass


# The stubs type the loop's methods with TypeVarTuples; here the arguments only pass through.
# mypy: disable-error-code=override
class SimulatedLoop(base_events.BaseEventLoop):
    """See the module. ``network`` is set by the simulation that owns the loop."""

    network: SimulatedNetwork

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._selector = _Selector(self)
        self.steps = 0
        self.set_task_factory(_make_task)

    def time(self) -> float:
        """Virtual seconds since the simulation began."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move virtual time forward."""
        self._now_s += seconds

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return super().call_soon(*_guard(callback, args, context), context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return super().call_at(when, *_guard(callback, args, context), context=context)

    def call_soon_threadsafe(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as exc:  # noqa: BLE001 - handed to whoever awaits
            future.set_exception(exc)
        return future

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        return [(2, 1, 6, "", (host, port))]

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None,
                            **_: Any) -> Any:  # fmt: skip
        return self.network.listen(protocol_factory, host, port)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None,
                                **_: Any) -> Any:  # fmt: skip
        return await self.network.connect(protocol_factory, host, port)

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:
        """Signals do not exist here."""

    def remove_signal_handler(self, sig: int) -> bool:
        return True

    def close(self) -> None:
        self._selector.close()
        super().close()

    def _run_once(self) -> None:
        self.steps += 1
        super()._run_once()  # type: ignore[misc]  # the base class's own loop step

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """A generator that was left behind belonged to a killed process: nobody finishes it."""
        self._asyncgens.discard(agen)  # type: ignore[attr-defined]  # the base class's own

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none: nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody needs waking."""


def _guard(
    callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
) -> tuple[Any, ...]:
    """Tie a callback to the process that schedules it."""
    process = current_process.get() if context is None else context.get(current_process)
    if process is None:
        return (callback, *args)
    return (_run_if_alive, process, callback, *args)


def _run_if_alive(process: SimulatedProcess, callback: Callable[..., object], *args: Any) -> None:
    if process.alive:
        callback(*args)


def _make_task(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    process = current_process.get() if context is None else context.get(current_process)
    if process is not None:
        process.adopt(task)
    return task
