"""Writes one table file from ascending slices of entries.

Everything is done in bulk: a slice of keys and values becomes blocks by list slicing and one
msgpack call per block, a list of buffers and few system calls per slice.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Any

import msgpack
from xxhash import xxh3_64_intdigest

from streambus_storage._block import CODECS, encode_entries, seal
from streambus_storage._bloom import build_slices, hash_key
from streambus_storage._keys import successor
from streambus_storage._levels import TableMeta
from streambus_storage._sstable_format import Footer, encode_footer

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_storage._filesystem import AppendFile, Buffer, FileSystem
    from streambus_storage._options import Options

RAW_BYTES_PER_BLOCK = 1 << 20
"""A block's raw values span about this much at most, so that a reader of one is near the next."""

WRITE_BYTES = 1 << 20
"""Blocks are written when there is so much of them: a system call of some hundred microseconds.

One of ten times that is not interrupted before the scheduler's next tick, 4 ms away perhaps, and
an event loop that has to share the core waits for it.
"""


class TableWriter:
    """Writes one table. Not thread-safe; `abandon` or `finish` ends it.

    Attributes:
        path: The file.
        entries: Entries so far.
    """

    def __init__(
        self, file_system: FileSystem, path: str, options: Options, tick: Callable[[int], None]
    ) -> None:
        self.path = path
        self.entries = 0
        self._options = options
        self._file_system = file_system
        self._tick = tick
        self._codec = CODECS[options.compression]
        self._file: AppendFile = file_system.create(path)
        self._tombstones = 0
        self._hashes = array("Q")
        self._last_keys: list[bytes] = []
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._counts: list[int] = []
        self._lower = b""
        self._left: tuple[list[bytes], list[Any]] = ([], [])  # less than a block, waiting

    def extend(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """Append entries, at least one, greater than all before. A None value is a delete.

        Raises:
            OSError: Writing failed; call `abandon`.
        """
        if not self.entries:
            self._lower = keys[0]
        self.entries += len(keys)
        if self._options.filter_bits_per_key:
            self._hashes.extend(map(hash_key, keys))
        left_keys, left_values = self._left
        if left_keys:
            keys, values = left_keys + keys, left_values + values
        self._write_blocks(keys, values, final=False)

    def _write_blocks(self, keys: list[bytes], values: list[Any], *, final: bool) -> None:
        """Cut entries into blocks and write them; what does not fill one waits, unless final."""
        raw_least = self._options.raw_value_bytes
        if None in values:  # identity is compared first: fast
            sizes = [0 if value is None else len(value) for value in values]
        else:
            sizes = list(map(len, values))
        has_raw = max(sizes) >= raw_least
        inline = [size if size < raw_least else 24 for size in sizes] if has_raw else sizes
        ends = list(accumulate(map(add, inline, map(len, keys))))
        raw_ends = list(accumulate(s if s >= raw_least else 0 for s in sizes)) if has_raw else []
        begin, done, raw_done, count = 0, 0, 0, len(keys)
        target = self._options.block_bytes
        parts: list[Buffer] = []
        position = self._file.size
        while begin < count:
            end = bisect_left(ends, done + target, begin) + 1
            if has_raw:
                end = min(end, bisect_left(raw_ends, raw_done + RAW_BYTES_PER_BLOCK, begin) + 1)
            if end > count:
                if not final:
                    break
                end = count
            block_values = values[begin:end]
            if has_raw:
                block_values, position = self._place_raw(block_values, parts, position)
                raw_done = raw_ends[end - 1]
            stored = seal(encode_entries(keys[begin:end], block_values), position, self._codec)
            parts.append(stored)
            self._last_keys.append(keys[end - 1])
            self._offsets.append(position)
            self._lengths.append(len(stored))
            self._counts.append(end - begin)
            position += len(stored)
            done = ends[end - 1]
            begin = end
            if position - self._file.size >= WRITE_BYTES:
                self._file.append_parts(parts)
                parts = []
            self._tick(len(stored))
        self._tombstones += values[:begin].count(None)
        self._left = (keys[begin:], values[begin:])
        if parts:
            self._file.append_parts(parts)

    def _place_raw(
        self, values: list[Any], parts: list[Buffer], position: int
    ) -> tuple[list[Any], int]:
        """Move large values out of a block: in front of it, one after the other."""
        placed: list[Any] = []
        least = self._options.raw_value_bytes
        for value in values:
            if value is None or len(value) < least:
                placed.append(value)
                continue
            placed.append((position, len(value), xxh3_64_intdigest(value)))
            parts.append(value)
            position += len(value)
            self._tick(len(value))
        return placed, position

    def finish(self, number: int, clean: int) -> TableMeta:
        """Write what is left, filter, index and footer; sync and close the file.

        Raises:
            OSError: Writing or syncing failed; call `abandon`.
        """
        keys, values = self._left
        if keys:
            self._write_blocks(keys, values, final=True)
        filter_offset, filter_length = self._file.size, 0
        if self._options.filter_bits_per_key:
            for built in build_slices(self._hashes, self._options.filter_bits_per_key):
                self._tick(0)
                if built is not None:
                    stored = seal(built.to_bytes(), filter_offset)
                    filter_length = len(stored)
                    self._file.append(stored)
        index = msgpack.packb([self._last_keys, self._offsets, self._lengths, self._counts])
        index_offset = self._file.size
        stored = seal(index, index_offset, self._codec)
        footer = Footer(
            index_offset, len(stored), filter_offset, filter_length, self.entries, self._tombstones
        )
        self._file.append(stored + encode_footer(footer))
        self._file.sync()
        self._file.close()
        return TableMeta(
            number=number,
            size=self._file.size,
            entries=self.entries,
            tombstones=self._tombstones,
            lower=self._lower,
            upper=successor(self._last_keys[-1]),
            clean=clean,
        )

    def abandon(self) -> None:
        """Close and remove the unfinished file; a failure to remove it is left to the next open."""
        self._file.close()
        try:
            self._file_system.unlink(self.path)
        except OSError:
            return
