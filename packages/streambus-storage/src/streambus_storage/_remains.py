"""What memtables and tables leave in memory when the last of their readers lets go.

A dict of a hundred thousand entries, or the cached blocks of a table, are freed by one call that
holds the interpreter for tens of milliseconds. So they are left here, and a worker takes them
apart in slices.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES_AT_ONCE = 32
"""Freeing a value of 64 KiB takes about 7 µs, and a small one 0.1 µs."""

BLOCKS_AT_ONCE = 4
"""Decoded blocks have a hundred entries, give or take."""


class Remains:
    """A list of containers that nobody reads any more. Thread-safe: a deque's steps are atomic."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: deque[dict[bytes, Any] | list[Any]] = deque()

    def leave(self, container: dict[bytes, Any] | list[Any]) -> None:
        """Leave a container whose owner dies: this is called from destructors."""
        if container:
            self._left.append(container)

    def clear(self, tick: Callable[[int], None]) -> None:
        """Free everything, in slices with a ``tick`` after each.

        What a tick raises is passed on; the rest stays.
        """
        while True:
            try:
                container = self._left.popleft()
            except IndexError:
                return
            try:
                self._take_apart(container, tick)
            finally:
                self.leave(container)

    @staticmethod
    def _take_apart(container: dict[bytes, Any] | list[Any], tick: Callable[[int], None]) -> None:
        while container:
            if isinstance(container, dict):
                for _ in range(min(ENTRIES_AT_ONCE, len(container))):
                    container.popitem()
            else:
                del container[-BLOCKS_AT_ONCE:]
            tick(0)

    def drop(self) -> None:
        """Free everything at once."""
        self._left.clear()
