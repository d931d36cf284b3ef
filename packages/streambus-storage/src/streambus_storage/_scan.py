"""Scans: iterators over (key, value) that stay right whatever happens to the tree meanwhile.

A scan works on a view of its own. What Python pays per entry is the step of a C iterator
(`itertools.chain` over `zip`); our code runs once per slice.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from streambus_storage._merge import PlainSlice, Slice, merge
from streambus_storage._sstable_reader import Pending
from streambus_storage.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streambus_storage._view import View

Pair = tuple[bytes, bytes]


class Release:
    """Calls back once: when it is told to, or when the last who holds it lets go."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    @property
    def done(self) -> bool:
        """Whether it has called back."""
        return self._callback is None

    def now(self) -> None:
        """Call back, unless that was done."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    __del__ = now


class Scan:
    """An iterator over the entries of a range; also a context manager.

    A scan that is used up closes itself; closing it early gives its memory and files back at
    once. After the tree was closed, the next slice raises `ClosedError`.
    """

    __slots__ = ("_iterator", "_release")

    def __init__(
        self,
        view: View,
        start: bytes,
        stop: bytes,
        *,
        reverse: bool,
        check: Callable[[], None],
        release: Release,
        keep: bool = True,
    ) -> None:
        self._release = release
        slices = _live(view, start, stop, reverse=reverse, check=check, keep=keep)
        self._iterator: Iterator[Pair] = chain.from_iterable(_pairs(slices, release, reverse))

    def __iter__(self) -> Iterator[Pair]:
        """Return the fast iterator underneath: a for loop then runs without our code."""
        return self._iterator

    def __next__(self) -> Pair:
        return next(self._iterator)

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the scan. Iterating on raises `ClosedError`. Closing twice does nothing."""
        self._iterator = _closed()
        self._release.now()


def _pairs(slices: Iterator[Slice], release: Release, reverse: bool) -> Iterator[Iterator[Pair]]:
    """Turn slices into iterators of pairs; holds ``release`` as long as it is held itself."""
    for keys, values in slices:
        if release.done:  # what was released may be overwritten: nothing may be read any more
            raise ClosedError("the scan is closed")
        if reverse:
            yield zip(reversed(keys), reversed(values), strict=True)
        else:
            yield zip(keys, values, strict=True)
    release.now()


def _closed() -> Iterator[Pair]:
    raise ClosedError("the scan is closed")
    yield  # pragma: no cover - makes it a generator


def _live(
    view: View,
    start: bytes,
    stop: bytes,
    *,
    reverse: bool,
    check: Callable[[], None],
    keep: bool,
) -> Iterator[Slice]:
    """Yield slices of what is there: no deletes, no pending values."""
    if start >= stop:
        return
    check()
    sources = view.sources(start, stop, reverse=reverse, keep=keep)
    if not sources:
        return
    for part in merge(sources, reverse=reverse):
        check()
        if type(part) is PlainSlice:
            yield part
            continue
        keys, values = part
        kinds = set(map(type, values))
        if kinds == _PLAIN:
            yield keys, values
            continue
        pairs = [pair for pair in zip(keys, values, strict=True) if pair[1] is not None]
        if Pending not in kinds:
            if pairs:
                yield [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            continue
        for key, value in reversed(pairs) if reverse else pairs:
            yield [key], [_read(value)]  # one at a time: large values are read when wanted
            check()


_PLAIN = {bytes}


def _read(value: Any) -> bytes:
    data: bytes = value.read() if type(value) is Pending else value
    return data
