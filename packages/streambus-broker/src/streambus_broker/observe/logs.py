"""JSON logs: one line per event with time, level, component, operation and error category.

structlog is loaded after the data port is open, because importing it takes longer than the rest
of the start; until then events are kept and written as soon as it is there (or at once where the
start fails, so that no reason is lost).
"""

from __future__ import annotations

import sys
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LEVEL_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_EARLY_EVENTS_MAX = 1_000
_SPARSE_PER_TICK = 10


class Logger:
    """The log of one component.

    Args:
        component: Its name, as in the ``log_levels`` setting.
        sink: Where events go.
        level: The least severe level that is logged.
    """

    def __init__(self, component: str, sink: LogSink, level: str) -> None:
        self._component = component
        self._sink = sink
        self._level = LEVEL_NUMBERS[level]

    def debug(self, operation: str, event: str, **facts: Any) -> None:
        """Log what only somebody who looks for a fault wants to read."""
        self._log("debug", operation, event, facts)

    def info(self, operation: str, event: str, **facts: Any) -> None:
        """Log what an operator wants to read; ``sparse=True`` for what strangers can provoke."""
        self._log("info", operation, event, facts)

    def warning(self, operation: str, event: str, **facts: Any) -> None:
        """Log what will become a problem."""
        self._log("warning", operation, event, facts)

    def error(self, operation: str, event: str, *, category: str, **facts: Any) -> None:
        """Log a failure with its category.

        ``storage``, ``network``, ``cluster``, ``config`` or ``internal``; the milder levels may
        name one, too.
        """
        self._log("error", operation, event, {"category": category, **facts})

    def _log(self, level: str, operation: str, event: str, facts: dict[str, Any]) -> None:
        if LEVEL_NUMBERS[level] >= self._level:
            sparse = facts.pop("sparse", False)
            if "category" in facts:
                facts = {"error_category": facts.pop("category"), **facts}
            self._sink.take(level, self._component, operation, event, facts, sparse=sparse)


class LogSink:
    """Takes events of every component to one stream.

    Args:
        stream: Where lines go.
        clock_ms: The wall clock.

    Attributes:
        dropped: Events that were not written: beyond the ration, or nobody takes them.
    """

    def __init__(self, stream: TextIO | None, clock_ms: Callable[[], int]) -> None:
        self.dropped = 0
        self._stream = stream
        self._clock_ms = clock_ms
        self._render: Callable[[dict[str, Any]], str] | None = None
        self._early: deque[dict[str, Any]] = deque(maxlen=_EARLY_EVENTS_MAX)
        self._sparse_left = _SPARSE_PER_TICK

    @property
    def wanted(self) -> bool:
        """Whether anything is written at all."""
        return self._stream is not None

    def logger(self, component: str, levels: Mapping[str, str]) -> Logger:
        """Make the logger of a component."""
        return Logger(component, self, levels[component])

    def take(
        self,
        level: str,
        component: str,
        operation: str,
        event: str,
        facts: dict[str, Any],
        *,
        sparse: bool,
    ) -> None:
        """Write an event, or keep it until `start`."""
        if self._stream is None:
            return
        if sparse:
            if not self._sparse_left:
                self.dropped += 1
                return
            self._sparse_left -= 1
        line = {
            "timestamp": _iso(self._clock_ms()),
            "level": level,
            "component": component,
            "operation": operation,
            "event": event,
            **facts,
        }
        if self._render is None:
            self._early.append(line)
        else:
            self._write(line)

    def tick(self) -> None:
        """Allow further sparse events; call once a second."""
        self._sparse_left = _SPARSE_PER_TICK

    def start(self) -> None:
        """Load structlog and write what was kept."""
        if self._stream is None or self._render is not None:
            return
        self._render = _structlog_renderer()
        while self._early:
            self._write(self._early.popleft())

    def _write(self, line: dict[str, Any]) -> None:
        assert self._render is not None
        assert self._stream is not None
        try:
            self._stream.write(self._render(line) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the reader is gone: logging must not stop the broker
            self.dropped += 1


def _iso(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _structlog_renderer() -> Callable[[dict[str, Any]], str]:
    import structlog

    chain: list[Any] = [
        structlog.processors.JSONRenderer(default=repr, sort_keys=False),
    ]

    def render(line: dict[str, Any]) -> str:
        event: Any = line
        for processor in chain:
            event = processor(None, line["level"], event)
        return str(event)

    return render


def stderr() -> TextIO:
    """Where the command writes its log."""
    return sys.stderr
