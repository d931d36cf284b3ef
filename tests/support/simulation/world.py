"""One simulated world: seed, loop, network, processes, clock and trace."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import anyio.to_thread
import msgpack
import sniffio
import xxhash
from anyio._backends import _asyncio as anyio_on_asyncio

from tests.support.simulation.loop import SimulatedLoop, SimulationError
from tests.support.simulation.network import Faults, SimulatedNetwork
from tests.support.simulation.process import SimulatedProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

_ResultT = TypeVar("_ResultT")

EPOCH_MS = 1_700_000_000_000  # where the simulated wall clock begins
_TRACE_LINES_MAX = 1_000_000
_EVENTS_MAX = 1000


@contextlib.contextmanager
def _inline_threads() -> Iterator[None]:
    """Run what anyio would give to a thread at once: threads know no virtual time."""

    async def run_sync(func: Callable[..., Any], *args: Any, **_: Any) -> Any:
        await asyncio.sleep(0)
        return func(*args)

    real = anyio.to_thread.run_sync
    anyio.to_thread.run_sync = run_sync  # type: ignore[assignment]  # its types are TypeVarTuples
    try:
        yield
    finally:
        anyio.to_thread.run_sync = real


class Simulation:
    """Everything that a run needs; the same seed gives the same run.

    Attributes:
        seed: The seed.
        random: The one source of randomness.
        loop: The simulated event loop.
        network: The simulated network.
        keep_trace: Whether the trace is kept as text.
        lines: That text.
        counts: What happened how often, by kind of fault.
    """

    def __init__(
        self, seed: int, faults: Faults | None = None, *, keep_trace: bool = False
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.loop = SimulatedLoop()
        self.network = SimulatedNetwork(self, faults)
        self.loop.network = self.network
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()
        self._events: list[tuple[Any, ...]] = []
        self.errors: list[dict[str, Any]] = []
        self.buried: dict[asyncio.Task[Any], None] = {}  # of killed processes: they never end
        self.keep_trace = keep_trace
        self._digest = xxhash.xxh3_64()
        self.loop.set_exception_handler(lambda _, context: self._failed(context))
        self._main: asyncio.Task[Any] | None = None

    @property
    def digest(self) -> str:
        """A checksum of the whole trace: equal runs have equal digests."""
        self._digest_events()
        return self._digest.hexdigest()

    def wall_clock_ms(self) -> int:
        """Milliseconds since 1970 in this world."""
        return EPOCH_MS + int(self.loop.time() * 1000)

    def trace(self, *parts: str | float | bytes) -> None:
        """Add an event to the trace, in parts: they become text only where somebody reads it."""
        events = self._events
        events.append((self.loop.now_s, *parts))
        if len(events) >= _EVENTS_MAX:
            self._digest_events()
        if self.keep_trace:
            self.note(" ".join(str(part) for part in parts))

    def note(self, text: str) -> None:
        """Add words to the text of the trace, which are no event of it."""
        if self.keep_trace and len(self.lines) < _TRACE_LINES_MAX:
            self.lines.append(f"{self.loop.time():14.6f} {text}")

    def happened(self, kind: str, *parts: str | float | bytes) -> None:
        """Count a fault, and add it to the trace."""
        self.counts[kind] += 1
        self.trace(kind, *parts)

    def _digest_events(self) -> None:
        self._digest.update(msgpack.packb(self._events))
        self._events.clear()

    def process(self, name: str, host: str) -> SimulatedProcess:
        """Make a process; its host is up from now on."""
        self.network.set_down(host, down=False)
        return SimulatedProcess(self, name, host)

    def run(
        self, main: Callable[[], Coroutine[Any, Any, _ResultT]], *, limit_s: float = 86_400.0
    ) -> _ResultT:
        """Run ``main()`` to its end in virtual time; then close the world.

        Args:
            main: The script of the run; it belongs to no process and cannot be killed.
            limit_s: Virtual seconds after which it counts as hanging.

        Raises:
            SimulationError: Deadlock, or an error that nobody handled.
            AssertionError: One that nobody handled: a promise is broken.
            TimeoutError: The time limit.
        """

        async def limited() -> _ResultT:
            self._main = asyncio.current_task()
            async with asyncio.timeout(limit_s):
                return await main()

        asyncio.set_event_loop(self.loop)
        sniffio.thread_local.name = "asyncio"  # or it is found out anew for every await of anyio
        try:
            with _inline_threads():
                result = self.loop.run_until_complete(limited())
                self._end_tasks()
        except asyncio.CancelledError:
            if not self.errors:
                raise
        finally:
            sniffio.thread_local.name = None
            asyncio.set_event_loop(None)
            self.loop.close()
            self._forget_buried()
        if self.errors:
            self._raise_first()
        return result

    def _failed(self, context: dict[str, Any]) -> None:
        """An error that nobody handled ends the run."""
        self.errors.append(context)
        if self._main is not None and not self._main.done():
            self._main.cancel()

    def _raise_first(self) -> NoReturn:
        first = self.errors[0]
        error = first.get("exception")
        if isinstance(error, AssertionError):
            raise error
        raise SimulationError(
            f"seed {self.seed}: {len(self.errors)} unhandled: {first.get('message')}: {error!r}"
        ) from error

    def _end_tasks(self) -> None:
        """Cancel what still runs, so that nothing outlives the world."""
        tasks = [task for task in asyncio.all_tasks(self.loop) if task not in self.buried]
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        # Generators that are still open were left behind by killed processes: nobody closes them.

    def _forget_buried(self) -> None:
        """Let go of tasks that never end: what anyio keeps for each of them refers to it.

        So neither is ever freed, nor the whole world behind them.
        """
        for task in self.buried:
            anyio_on_asyncio._task_states.pop(task, None)
        self.buried.clear()
