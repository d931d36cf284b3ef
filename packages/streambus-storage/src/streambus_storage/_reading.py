"""What a tree and a snapshot of it can both be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_storage._keys import END_OF_KEYS, bounds, prefix_bounds
from streambus_storage._scan import Release, Scan

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_storage._filesystem import Buffer
    from streambus_storage._scan import Pair
    from streambus_storage._view import View


class Readable:
    """Scans, first and last over a view; the subclass says which view."""

    __slots__ = ()

    def _capture(self) -> tuple[View, Release, Callable[[], None]]:
        """Return a view, what gives it back, and a check that raises when it is closed."""
        raise NotImplementedError  # pragma: no cover - the tree and the snapshot have their own

    def scan(
        self,
        start: Buffer | None = None,
        stop: Buffer | None = None,
        *,
        prefix: Buffer | None = None,
        reverse: bool = False,
    ) -> Scan:
        """Return an iterator over the entries with start <= key < stop, in order of the keys.

        The iterator shows the moment of this call, whatever is written meanwhile.

        Args:
            start: First key; None: from the beginning.
            stop: End, exclusive; None: to the end.
            prefix: Only keys that begin with it; combines with start and stop.
            reverse: From the greatest key to the least.

        Raises:
            InvalidTypeError: A bound is not bytes-like.
            InvalidArgumentError: start is after stop.
            ClosedError: The tree is closed. While iterating: it, or the scan, was closed.
            CorruptionError: While iterating: a block is damaged. It never looks like the end.
        """
        low, high = bounds(start, stop, prefix)
        view, release, check = self._capture()
        return Scan(view, low, high, reverse=reverse, check=check, release=release)

    def first(self, prefix: Buffer | None = None) -> Pair | None:
        """Return the entry with the least key (that begins with ``prefix``), or None.

        Cost: O(1) blocks, however many keys were deleted in front of it by range.
        """
        low, high = (b"", END_OF_KEYS) if prefix is None else prefix_bounds(prefix)
        return self._edge(low, high, last=False)

    def last(self, prefix: Buffer | None = None) -> Pair | None:
        """Return the entry with the greatest key (that begins with ``prefix``), or None."""
        low, high = (b"", END_OF_KEYS) if prefix is None else prefix_bounds(prefix)
        return self._edge(low, high, last=True)

    def _edge(self, low: bytes, high: bytes, *, last: bool) -> Pair | None:
        """Return the first or the last entry in [low, high)."""
        view, release, check = self._capture()
        scan = Scan(view, low, high, reverse=last, check=check, release=release)
        try:
            return next(scan, None)
        finally:
            scan.close()
