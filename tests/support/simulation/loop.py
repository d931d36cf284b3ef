"""An asyncio event loop on virtual time.

Rules:

- It never waits: where nothing is ready, the clock moves to the next timer. No timer and nothing
  ready is a deadlock, reported as one.
- Every callback carries the process that scheduled it (by context). After that process was killed
  the callback does nothing: that is how a killed process vanishes between two instructions. While
  the process is paused its callbacks gather, and run when it goes on.
- There is no executor and no socket: ``run_in_executor`` runs inline, connections come from the
  simulated network.

Simulated seeds are run by the ten thousand, so the kernel is small: a heap of tuples and one list,
no selector, handles without a loop of their own.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import base_events
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.support.simulation.handle import Handle
from tests.support.simulation.process import current_process

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from tests.support.simulation.network import SimulatedNetwork


class SimulationError(Exception):
    """The simulation itself cannot go on: deadlock, or an error that nobody handled."""


# The stubs type the loop's methods with TypeVarTuples and its own handles; here the arguments only
# pass through.
# mypy: disable-error-code=override
class SimulatedLoop(base_events.BaseEventLoop):
    """See the module. ``network`` is set by the simulation that owns the loop.

    Attributes:
        now_s: Virtual seconds since the simulation began.
        steps: Callbacks that were run.
    """

    network: SimulatedNetwork
    _ready: deque[Any]  # the base class's own; only this class fills it
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._timers: list[tuple[float, int, Handle]] = []
        self._timer_count = 0
        self.steps = 0
        self.set_task_factory(_make_task)
        # Asked for with every future, so without a frame of Python for the answer.
        self.get_debug = bool  # type: ignore[method-assign]  # False, as a call that C makes
        make_future = partial(asyncio.Future, loop=self)
        self.create_future = make_future  # type: ignore[method-assign]  # the same

    def time(self) -> float:
        """Virtual seconds since the simulation began."""
        return self.now_s

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        if context is None:
            context = contextvars.copy_context()
            process = current_process.get()
        else:
            process = context.get(current_process)
        handle = Handle(callback, args, context, process, self.now_s)
        self._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        if context is None:
            context = contextvars.copy_context()
            process = current_process.get()
        else:
            process = context.get(current_process)
        return self.schedule(Handle(callback, args, context, process, when))

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        # As `call_at`, and not by it: every sleep comes this way.
        if context is None:
            context = contextvars.copy_context()
            process = current_process.get()
        else:
            process = context.get(current_process)
        return self.schedule(Handle(callback, args, context, process, self.now_s + delay))

    def schedule(self, handle: Handle) -> Handle:
        """Run a handle when it is due; those of one instant keep the order of their scheduling."""
        self._timer_count += 1
        heapq.heappush(self._timers, (handle._when, self._timer_count, handle))
        return handle

    def run_again(self, handles: list[Handle]) -> None:
        """Run what a paused process has missed."""
        self._ready.extend(handles)

    def call_soon_threadsafe(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        process = current_process.get()
        if process is None or process.thread_s is None:
            return self.call_soon(callback, *args, context=context)
        process.heard_s = max(process.heard_s, self.now_s + process.thread_s())
        return self.call_at(process.heard_s, callback, *args, context=context)

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
        self._timers.clear()
        super().close()

    def _run_once(self) -> None:
        """Run until the loop is stopped, and not one turn only: a call for each would be dear.

        A turn moves the clock to the next timers where nothing is ready, and runs all that is
        ready by then; what becomes ready meanwhile belongs to the next.
        """
        ready, timers, pop_timer, next_ready = (
            self._ready, self._timers, heapq.heappop, self._ready.popleft
        )  # fmt: skip
        while True:
            if not ready and not self._stopping:
                while timers and timers[0][2].callback is None:
                    pop_timer(timers)
                if not timers:
                    raise SimulationError(
                        f"deadlock at {self.now_s:.6f} s: nothing will ever happen"
                    )
                if timers[0][0] > self.now_s:
                    self.now_s = timers[0][0]
            now_s = self.now_s
            while timers and timers[0][0] <= now_s:
                ready.append(pop_timer(timers)[2])
            count = len(ready)
            self.steps += count
            for _ in range(count):
                handle: Handle = next_ready()
                callback, process = handle.callback, handle.process
                if callback is None:
                    continue
                if process is not None and not process.runs:
                    process.missed(handle)
                    continue
                try:
                    handle.context.run(callback, *handle.args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as exc:  # noqa: BLE001 - reported, as asyncio's handles do
                    self.call_exception_handler(
                        {"message": f"Exception in callback {callback}", "exception": exc}
                    )
            if self._stopping:
                return

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """A generator that was left behind belonged to a killed process: nobody finishes it."""
        self._asyncgens.discard(agen)  # type: ignore[attr-defined]  # the base class's own

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none: nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody needs waking."""


def _make_task(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    process = current_process.get() if context is None else context.get(current_process)
    if process is not None:
        process.adopt(task)
    return task
