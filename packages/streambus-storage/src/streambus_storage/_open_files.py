"""How many table files may be open at once: a process has a limit, and others want of it too.

A table whose turn has come gives up its handle: who is reading from it holds it until the read is
done, and the next read opens it again.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any, Protocol


class Opened(Protocol):
    """A table, as seen from here."""

    def let_go(self) -> None:
        """Drop the handle; open it again when it is needed."""


class OpenFiles:
    """Keeps at most ``files_max`` tables open, oldest out first. Thread-safe.

    ``_lock`` guards the queue.
    """

    def __init__(self, files_max: int) -> None:
        self._files_max = files_max
        self._lock = threading.Lock()
        self._queue: deque[weakref.ref[Any]] = deque()

    def add(self, table: Opened) -> None:
        """Note that ``table`` was opened, and let the oldest go if there are too many."""
        with self._lock:
            self._queue.append(weakref.ref(table))
            if len(self._queue) <= self._files_max:
                return
            oldest = self._queue.popleft()()
        if oldest is not None:
            oldest.let_go()
