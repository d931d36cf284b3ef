"""Turns one ascending stream of slices into table files, split where they should be.

A file ends when it has reached `table_bytes`, or where the partition changes, if the partition
that ends, or the one that begins, is worth a file of its own (`partition_bytes`). Splits fall
between two keys, and a key has one version only: no key is ever in two files.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from streambus_storage._sstable_writer import TableWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streambus_storage._filesystem import FileSystem
    from streambus_storage._levels import TableMeta
    from streambus_storage._options import KeyPartitioner, Options

PIECE_KEYS = 1024
"""Keys handed to a writer at once: some hundred microseconds of work."""


def partitions(keys: list[bytes], partitioner: KeyPartitioner) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of each run of keys of one partition.

    Cost: O(log n) calls of the partitioner for each run.
    """
    begin = 0
    while begin < len(keys):
        prefix = partitioner(keys[begin])
        if partitioner(keys[-1]) == prefix:
            end = len(keys)
        else:
            end = bisect_right(keys, prefix, begin, key=partitioner)
        yield begin, end
        begin = end


def bytes_of(keys: list[bytes], values: list[bytes | None]) -> int:
    """Return the size of keys and values."""
    present = values if None not in values else [value for value in values if value is not None]
    return sum(map(len, keys)) + sum(map(len, present))  # type: ignore[arg-type]  # no None left


class TableBuilder:
    """Builds tables from slices. Not thread-safe; ends with `finish` or `abandon`.

    Attributes:
        tables: The finished ones.
    """

    def __init__(
        self,
        file_system: FileSystem,
        options: Options,
        new_path: Callable[[], tuple[int, str]],
        clean: int,
        tick: Callable[[int], None],
    ) -> None:
        """Begin without a file.

        Args:
            file_system: The door.
            options: Sizes and partitioner.
            new_path: Returns number and path for the next table.
            clean: Of the new tables.
            tick: Called after each little piece of work with the bytes written.
        """
        self.tables: list[TableMeta] = []
        self._file_system = file_system
        self._options = options
        self._new_path = new_path
        self._clean = clean
        self._tick = tick
        self._writer: TableWriter | None = None
        self._number = 0
        self._prefix: bytes | None = None
        self._partition_bytes = 0
        self._file_bytes = 0
        self._done: list[str] = []

    def add(self, keys: list[bytes], values: list[bytes | None]) -> None:
        """Append a slice of at least one key, greater than all before.

        Raises:
            OSError: Writing failed; call `abandon`.
        """
        partitioner = self._options.key_partitioner
        if partitioner is None:
            self._add_pieces(keys, values)
            return
        for begin, end in partitions(keys, partitioner):
            run_keys, run_values = keys[begin:end], values[begin:end]
            prefix = partitioner(run_keys[0])
            if prefix != self._prefix:
                least = self._options.partition_bytes
                if self._partition_bytes >= least or bytes_of(run_keys, run_values) >= least:
                    self._end_file()
                self._prefix = prefix
                self._partition_bytes = 0
            self._add_pieces(run_keys, run_values)

    def _add_pieces(self, keys: list[bytes], values: list[bytes | None]) -> None:
        for begin in range(0, len(keys), PIECE_KEYS):
            piece_keys, piece_values = (
                keys[begin : begin + PIECE_KEYS],
                values[begin : begin + PIECE_KEYS],
            )
            size = bytes_of(piece_keys, piece_values)
            if size > self._options.table_bytes and len(piece_keys) > 1:
                middle = len(piece_keys) // 2
                self._add_pieces(piece_keys[:middle], piece_values[:middle])
                self._add_pieces(piece_keys[middle:], piece_values[middle:])
                continue
            if self._file_bytes and self._file_bytes + size > self._options.table_bytes:
                self._end_file()
            if self._writer is None:
                self._number, path = self._new_path()
                self._writer = TableWriter(self._file_system, path, self._options, self._tick)
            self._writer.extend(piece_keys, piece_values)
            self._file_bytes += size
            self._partition_bytes += size

    def _end_file(self) -> None:
        if self._writer is not None:
            self.tables.append(self._writer.finish(self._number, self._clean))
            self._done.append(self._writer.path)
            self._writer = None
            self._file_bytes = 0
            self._partition_bytes = 0

    def finish(self) -> list[TableMeta]:
        """Finish the last file; return all tables. Their names are not durable yet.

        Raises:
            OSError: Writing or syncing failed; call `abandon`.
        """
        self._end_file()
        return self.tables

    def abandon(self) -> None:
        """Remove everything that was built. What cannot be removed the next open removes."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        for path in self._done:
            try:
                self._file_system.unlink(path)
            except OSError:
                continue
        self._done = []
