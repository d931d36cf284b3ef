"""A fetched batch that was decoded, and how far it was handed out."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

from streambus_client._types import Record, RecordColumns, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_protocol import Columns


class OpenBatch:
    """A decoded batch and how far it was handed out."""

    __slots__ = ("_columns", "_index", "_made", "_made_from", "_offsets", "_timestamps_ms", "view")

    def __init__(self, columns: Columns, view: memoryview, position: int) -> None:
        self._columns = columns
        self._offsets = columns.offsets
        self._timestamps_ms = columns.timestamps_ms
        self.view = view
        self._made: list[Record] | None = None
        self._made_from = 0
        self._index = 0
        if position > self._offsets[0]:
            self._index = next(
                (index for index, offset in enumerate(self._offsets) if offset >= position),
                len(self._offsets),
            )

    @property
    def exhausted(self) -> bool:
        return self._index >= len(self._offsets)

    @property
    def position(self) -> int:
        return self._offsets[self._index]

    @property
    def next_offset(self) -> int:
        return self._columns.header.next_offset

    def rest(self, where: TopicPartition) -> RecordColumns:
        """All that was not handed out."""
        columns, index = self._columns, self._index
        keys: Any = columns.keys
        headers = None
        if columns.flat_headers is not None:
            count = len(self._offsets)
            headers = [columns.headers(number) for number in range(index, count)]
        if index == 0:
            return RecordColumns(
                where.topic,
                where.partition,
                self._offsets,
                self._timestamps_ms,
                keys if keys is not None else [None] * len(self._offsets),
                columns.values,
                headers,
            )
        values = columns.values[index:]
        return RecordColumns(
            where.topic,
            where.partition,
            self._offsets[index:],
            self._timestamps_ms[index:],
            keys[index:] if keys is not None else [None] * len(values),
            values,
            headers,
        )

    def one(self, where: TopicPartition) -> Record:
        """The next one; all that are left are made at the first."""
        index = self._index
        if self._made is None:
            self._made = self.records(where, len(self._offsets))
            self._made_from = index
        self._index = index + 1
        return self._made[index - self._made_from]

    def records(self, where: TopicPartition, records_max: int) -> list[Record]:
        """The next ones, ``records_max`` at most."""
        columns, first = self._columns, self._index
        last = min(first + records_max, len(self._offsets))
        self._index = last
        keys: Any = repeat(None) if columns.keys is None else columns.keys[first:last]
        headers: Any = repeat(())
        if columns.flat_headers is not None:
            headers = [columns.headers(number) for number in range(first, last)]
        make: Callable[..., Record] = Record
        return list(
            map(
                make,
                repeat(where.topic),
                repeat(where.partition),
                self._offsets[first:last],
                self._timestamps_ms[first:last],
                keys,
                columns.values[first:last],
                headers,
            )
        )
