"""Scans: iterators over (key, value) that stay right whatever happens to the tree meanwhile.

A scan works on a view of its own. What Python pays per entry is the step of a C iterator
(`itertools.chain` over `zip`); our code runs once per slice.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

from streambus_storage._merge import PlainSlice, Slice, merge
from streambus_storage._sstable_reader import Pending
from streambus_storage.errors import ClosedError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streambus_storage._view import View

Pair = tuple[bytes, bytes]


class Release:
    """Calls back once: when it is told to, or when the last who holds it lets go.

    Thread-safe: of several that tell it to, one takes the callback out of the list.
    """

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = [callback]

    @property
    def done(self) -> bool:
        """Whether it has called back."""
        return not self._callback

    def now(self) -> None:
        """Call back, unless that was done."""
        try:
            callback = self._callback.pop()
        except IndexError:
            return
        callback()

    __del__ = now


class Scan:
    """An iterator over the entries of a range; also a context manager. For one thread at a time.

    A scan that is used up closes itself; closing it early gives its memory and files back at
    once: iterating on raises `ClosedError`, a loop that runs at its next slice. So it does when the
    tree was closed. An error ends a scan: iterating on raises it again, and never looks like the
    end of the range.
    """

    __slots__ = ("_iterator", "_pieces", "_release")

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
        self._pieces = _Pieces(slices, release, reverse)
        self._iterator: Iterator[Pair] = chain.from_iterable(self._pieces)

    def __iter__(self) -> Iterator[Pair]:
        """Return the fast iterator underneath: a for loop then runs without our code."""
        self._pieces.check()
        return self._iterator

    def __next__(self) -> Pair:
        try:
            return next(self._iterator)
        except StopIteration:
            self._pieces.check()  # an iterator that has raised looks used up
            raise

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the scan. Iterating on raises `ClosedError`. Closing twice does nothing."""
        self._pieces.end(ClosedError("the scan is closed"))
        self._iterator = chain.from_iterable(self._pieces)
        self._release.now()


class _Pieces:
    """Turns slices into iterators of pairs; holds ``release`` as long as it is held itself."""

    __slots__ = ("_error", "_release", "_reverse", "_slices")

    def __init__(self, slices: Iterator[Slice], release: Release, reverse: bool) -> None:
        self._slices = slices
        self._release = release
        self._reverse = reverse
        self._error: StorageError | None = None

    def check(self) -> None:
        """Raise the error that ended it, if one did."""
        if self._error is not None:
            raise self._error

    def end(self, error: StorageError) -> None:
        """Raise ``error`` from now on, and let go of what was being read."""
        self._error = self._error or error
        self._slices = iter(())

    def __iter__(self) -> _Pieces:
        return self

    def __next__(self) -> Iterator[Pair]:
        self.check()
        try:
            keys, values = next(self._slices)
            if self._release.done:  # what was released may be overwritten: it must not be read
                raise ClosedError("the scan is closed")
        except StopIteration:
            self._release.now()
            raise
        except StorageError as error:
            self.end(error)
            raise
        except BaseException:  # a KeyboardInterrupt, say: the slices are lost
            self.end(ClosedError("the scan was interrupted"))
            raise
        if self._reverse:
            return zip(reversed(keys), reversed(values), strict=True)
        return zip(keys, values, strict=True)


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
