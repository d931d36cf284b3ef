"""`Snapshot`: the tree as it was at one moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from streambus_storage._keys import as_key
from streambus_storage._reading import Readable
from streambus_storage._sstable_reader import Pending
from streambus_storage._view import resolve
from streambus_storage.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from streambus_storage._block import StoredValue
    from streambus_storage._filesystem import Buffer
    from streambus_storage._scan import Release
    from streambus_storage._sstable_reader import Table
    from streambus_storage._store import Store
    from streambus_storage._view import View

    T = TypeVar("T")


class Snapshot(Readable):
    """Reads as of one sequence number; close it, or use it as a context manager.

    A snapshot keeps the memtables and the table files of its moment: memory and disk space are
    given back when it is closed. Thread-safe.

    Attributes:
        sequence: Sequence number of the last write that it shows.
    """

    __slots__ = ("_release", "_store", "_view", "sequence")

    def __init__(
        self,
        view: View,
        release: Release,
        store: Store,
    ) -> None:
        self.sequence = view.sequence
        self._view: View | None = view
        self._release = release
        self._store = store

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up what the snapshot holds. Scans of it go on. Closing twice does nothing."""
        self._view = None
        self._release.now()
        self._store.remove_unwanted()
        self._store.remains.drop()

    def _open_view(self) -> View:
        self._store.check_open()
        view = self._view
        if view is None:
            raise ClosedError("the snapshot is closed")
        return view

    def _capture(self) -> tuple[View, Release, Callable[[], None]]:
        release = self._store.retain(self.sequence)  # a scan outlives its snapshot
        return self._open_view(), release, self._store.check_open

    @overload
    def get(self, key: Buffer) -> bytes | None: ...
    @overload
    def get(self, key: Buffer, default: T) -> bytes | T: ...
    def get(self, key: Buffer, default: object = None) -> object:
        """Return the value of ``key`` at the snapshot's moment, or ``default``.

        Raises:
            InvalidTypeError: The key is not bytes-like.
            InvalidArgumentError: It is too long.
            ClosedError: The snapshot or the tree is closed.
            CorruptionError: What holds the key is damaged.
        """
        table, value = self._find(key)
        if value is None:
            return default
        if table is None or type(value) is bytes:
            return value
        return resolve(Pending(table, value))  # type: ignore[arg-type]  # neither bytes nor None

    def __contains__(self, key: Buffer) -> bool:
        return self._find(key)[1] is not None

    def _find(self, key: Buffer) -> tuple[Table | None, StoredValue]:
        found = self._open_view().find(as_key(key))
        if self._view is None:  # closed meanwhile: what it kept may have been overwritten
            raise ClosedError("the snapshot is closed")
        return found

    def multi_get(self, keys: Iterable[Buffer]) -> list[bytes | None]:
        """Return the values of many keys, None where there is none, in their order."""
        return [self.get(key) for key in keys]
