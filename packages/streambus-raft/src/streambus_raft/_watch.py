"""Tasks that wait for a change of a node's standing, or for its end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from streambus_raft._event_loop import Signal
from streambus_raft._metrics import Leadership
from streambus_raft._types import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_raft._event_loop import EventLoop
    from streambus_raft._ready import Standing


class Watch:
    """Wakes whoever watches a node.

    Attributes:
        leadership: Who leads, as far as the node knows.
    """

    def __init__(self) -> None:
        self.leadership = Leadership(None, 0, is_leader=False)
        self._watchers: dict[Signal, None] = {}

    def note(self, standing: Standing) -> None:
        """Role, term or leader changed."""
        self.leadership = Leadership(
            standing.leader or None, standing.term, standing.role == Role.LEADER
        )
        self.wake()

    def wake(self) -> None:
        """Let everybody look again: the standing changed, or the node ends."""
        for watcher in self._watchers:
            watcher.set()

    @contextmanager
    def watcher(self, loop: EventLoop) -> Iterator[Signal]:
        """A signal that is set whenever there is something to look at; for one task."""
        signal = Signal(loop)
        self._watchers[signal] = None
        try:
            yield signal
        finally:
            del self._watchers[signal]
