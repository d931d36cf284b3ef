"""`Table`: a table file, opened when it is first read.

Rules:

- Every block that comes from the disk is checked before it is used.
- Thread-safe: what is loaded lazily is loaded under ``_lock``, and only ever replaced whole.
- A table lives by reference: versions, snapshots and scans hold it. When the last of them lets
  go, its file handle is closed, and if the table was given up (`give_up`), its number is put on
  the list of files to be removed.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, NamedTuple

from xxhash import xxh3_64_intdigest

from streambus_storage._block import (
    Block,
    RawValue,
    StoredValue,
    decode_entries,
    unpack,
    unseal,
)
from streambus_storage._bloom import Filter, from_bytes
from streambus_storage._errors_io import translate
from streambus_storage._merge import PlainSlice
from streambus_storage._sstable_format import FOOTER_BYTES, Footer, decode_footer
from streambus_storage.errors import CorruptionError, StorageIOError

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

    from streambus_storage._cache import BlockCache
    from streambus_storage._filesystem import FileSystem, ReadFile
    from streambus_storage._levels import TableMeta
    from streambus_storage._open_files import OpenFiles


class Missing:
    """The type of `MISSING`."""

    __slots__ = ()


MISSING = Missing()
"""Returned for a key that is not in a table, which is not the same as one deleted there."""


class ValueLocation(NamedTuple):
    """Where a value lies raw in a file: for sendfile, or for reading it elsewhere.

    Attributes:
        path: The table's file. It stays as long as the tree, or a snapshot, has the value.
        offset: Of the first byte.
        length: In bytes.
    """

    path: str
    offset: int
    length: int


class TableIndex(NamedTuple):
    """The rows of the index block as columns."""

    last_keys: list[bytes]
    offsets: list[int]
    lengths: list[int]
    counts: list[int]


class Table:
    """See the module's rules.

    Attributes:
        meta: What the manifest knows about it.
        path: Its file.
        blocks: Decoded blocks that the cache keeps, by number of block; managed by the cache.
    """

    def __init__(
        self,
        file_system: FileSystem,
        path: str,
        meta: TableMeta,
        cache: BlockCache,
        unwanted: deque[int],
        open_files: OpenFiles,
    ) -> None:
        self.meta = meta
        self.path = path
        self.number = meta.number
        self.lower = meta.lower
        self.upper = meta.upper
        self.blocks: list[Block | None] = []
        self._file_system = file_system
        self._cache = cache
        self._unwanted = unwanted
        self._given_up = False
        self._held = False  # True: the handle stays, the name may go
        self._open_files = open_files
        self._lock = threading.Lock()
        self._file: ReadFile | None = None
        self._footer: Footer | None = None
        self._index: TableIndex | None = None
        self._last_keys: list[bytes] | None = None  # of the index: one step less for `get`
        self._filter: Filter | None = None
        self._filter_known = False

    def give_up(self) -> None:
        """Let the file be removed as soon as nobody reads the table any more."""
        self._given_up = True

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()
        if getattr(self, "_given_up", False):
            self._unwanted.append(self.number)
        blocks = getattr(self, "blocks", None)
        if blocks:
            self._cache.leave(blocks)

    def hold(self) -> None:
        """Open the file now, so that it can be read even after its name is gone.

        Raises:
            CorruptionError, StorageIOError: It cannot be opened, or is not what it should be.
        """
        with self._lock:
            self._held = True
            self._open()

    def let_go(self) -> None:
        """Drop the handle, unless it is held; whoever reads from it now, ends in peace."""
        if not self._held:
            self._file = None

    def _open(self) -> ReadFile:
        """Return the file, opened and with a checked footer. Call under the lock."""
        if self._file is None:
            try:
                with translate(self.path, "open"):
                    file = self._file_system.open_read(self.path)
            except StorageIOError as exc:
                if isinstance(exc.__cause__, FileNotFoundError):
                    raise CorruptionError(self.path, 0, "the table is missing") from exc
                raise
            try:
                with translate(self.path, "read"):
                    size = file.size()
                    if size != self.meta.size:
                        raise CorruptionError(
                            self.path,
                            min(size, self.meta.size),
                            f"{size} bytes long, not {self.meta.size} as the manifest says",
                        )
                    begin = max(0, size - FOOTER_BYTES)
                    footer = decode_footer(file.read(begin, FOOTER_BYTES), self.path, begin)
                    if footer.entries != self.meta.entries:
                        raise CorruptionError(self.path, begin, "not the table of the manifest")
            except BaseException:
                file.close()
                raise
            self._file, self._footer = file, footer
            self._open_files.add(self)
            return file
        return self._file

    def _payload(self, offset: int, length: int) -> bytes:
        """Read and check one block."""
        file = self._file
        if file is None:
            with self._lock:
                file = self._open()
        with translate(self.path, "read"):
            data = file.read(offset, length)
        if len(data) != length:
            raise CorruptionError(self.path, offset, "a block is cut short")
        return unseal(data, self.path, offset)

    def index(self) -> TableIndex:
        """Return the index, loading it the first time.

        Raises:
            CorruptionError: File, footer or index are damaged.
            StorageIOError: The file cannot be read.
        """
        if self._index is not None:
            return self._index
        with self._lock:
            self._open()
            footer = self._footer
        assert footer is not None
        payload = self._payload(footer.index_offset, footer.index_length)
        columns = unpack(payload, self.path, footer.index_offset)
        if not (
            isinstance(columns, list)
            and len(columns) == 4
            and all(isinstance(column, list) for column in columns)
            and len({len(column) for column in columns}) == 1
            and columns[0]
            and all(type(key) is bytes for key in columns[0])
            and all(type(cell) is int for column in columns[1:] for cell in column)
        ):
            raise CorruptionError(self.path, footer.index_offset, "the index has no four columns")
        index = TableIndex(*columns)
        with self._lock:
            if self._index is None:
                self.blocks = [None] * len(index.offsets)
                self._last_keys = index.last_keys
                self._index = index
        return self._index

    def filter(self) -> Filter | None:
        """Return the bloom filter, loading it the first time; None if the table has none."""
        if not self._filter_known:
            self.index()
            footer = self._footer
            assert footer is not None
            if footer.filter_length:
                self._filter = from_bytes(self._payload(footer.filter_offset, footer.filter_length))
            self._filter_known = True
        return self._filter

    def block(self, number: int, *, keep: bool = True) -> Block:
        """Return a decoded block, from the cache or from the disk; ``keep``: put it there.

        Raises:
            CorruptionError: It is damaged.
            StorageIOError: It cannot be read.
        """
        index = self._index or self.index()
        block = self.blocks[number]
        if block is not None:
            block.used += 1
            return block
        self._cache.misses += 1
        offset = index.offsets[number]
        block = decode_entries(self._payload(offset, index.lengths[number]), self.path, offset)
        if block.keys[-1] != index.last_keys[number]:
            raise CorruptionError(self.path, offset, "a block does not end as the index says")
        if keep:
            self._cache.put(self, number, block)
        return block

    def get(self, key: bytes) -> StoredValue | Missing:
        """Return what the table holds for ``key``: a value, a place, None (deleted), `MISSING`."""
        last_keys = self._last_keys
        if last_keys is None:
            last_keys = self.index().last_keys
        number = bisect_left(last_keys, key)
        if number == len(last_keys):
            return MISSING
        block = self.blocks[number]
        if block is None:
            bloom = self._filter if self._filter_known else self.filter()
            if bloom is not None and not bloom.may_hold(key):
                return MISSING
            block = self.block(number)
        else:
            block.used += 1
        keys = block.keys
        at = bisect_left(keys, key)
        if at < len(keys) and keys[at] == key:
            value: StoredValue = block.values[at]
            return value
        return MISSING

    def edge(self, low: bytes, high: bytes, *, last: bool) -> tuple[bytes, StoredValue] | None:
        """Return the first (or last) entry in [low, high), with which the table's range overlaps.

        None: there is no key in it.

        Raises:
            CorruptionError: What holds it is damaged.
            StorageIOError: It cannot be read.
        """
        last_keys = (self._index or self.index()).last_keys
        if last:
            number = min(bisect_left(last_keys, high), len(last_keys) - 1)
            block = self.block(number)
            at = bisect_left(block.keys, high) - 1
            if at < 0:  # all of it is beyond: so is not the table's first key
                block = self.block(number - 1)
        else:
            block = self.block(bisect_left(last_keys, low))
            at = bisect_left(block.keys, low)
        key: bytes = block.keys[at]
        return (key, block.values[at]) if low <= key < high else None

    def read_raw(self, raw: RawValue) -> bytes:
        """Read a raw value and check it.

        Raises:
            CorruptionError: It is damaged.
            StorageIOError: It cannot be read.
        """
        file = self._file
        if file is None:
            with self._lock:
                file = self._open()
        with translate(self.path, "read"):
            data = file.read(raw.offset, raw.length)
        if len(data) != raw.length or xxh3_64_intdigest(data) != raw.checksum:
            raise CorruptionError(self.path, raw.offset, "a raw value is damaged")
        return data

    def slices(
        self, start: bytes, stop: bytes, *, reverse: bool = False, keep: bool = True
    ) -> Iterator[tuple[list[bytes], list[Any]]]:
        """Yield (keys, values) of [start, stop) by blocks; with ``reverse`` the last block first.

        Values are as in `get`, except that raw ones come as `Pending`.
        """
        index = self._index or self.index()
        last_keys = index.last_keys
        first = bisect_left(last_keys, start)
        last = min(bisect_left(last_keys, stop), len(last_keys) - 1)
        numbers = range(first, last + 1)
        for number in reversed(numbers) if reverse else numbers:
            block = self.block(number, keep=keep)
            keys, values = block.keys, block.values
            if not block.plain:
                values = [
                    Pending(self, value) if type(value) is RawValue else value for value in values
                ]
            # The first block may begin before the range, and the last one end after it.
            low = bisect_left(keys, start) if number == first else 0
            high = bisect_left(keys, stop) if number == last else len(keys)
            if low or high < len(keys):
                keys, values = keys[low:high], values[low:high]
            if keys:
                yield PlainSlice((keys, values)) if block.plain else (keys, values)


class Pending:
    """A raw value that was not read yet; a merge may still find that nobody wants it."""

    __slots__ = ("raw", "table")

    def __init__(self, table: Table, raw: RawValue) -> None:
        self.table = table
        self.raw = raw

    def read(self) -> bytes:
        """Read it; see `Table.read_raw`."""
        return self.table.read_raw(self.raw)
