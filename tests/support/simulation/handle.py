"""A callback that is to run in the simulation, now or at a moment of its virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from tests.support.simulation.process import SimulatedProcess


class Handle:
    """A callback that is to run; what ``call_soon`` and ``call_at`` return."""

    __slots__ = ("_when", "args", "callback", "context", "process")

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
        process: SimulatedProcess | None,
        when: float,
    ) -> None:
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.context = context
        self.process = process
        self._when = when

    def cancel(self) -> None:
        """Do not run it."""
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self.callback is None

    def when(self) -> float:
        """The virtual time at which it is due."""
        return self._when
