"""`WriteBatch`: operations that take effect together or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_storage._keys import as_key, as_range, as_value
from streambus_storage._options import KEY_BYTES_MAX, VALUE_BYTES_MAX
from streambus_storage.errors import InvalidArgumentError

if TYPE_CHECKING:
    from streambus_storage._filesystem import Buffer
    from streambus_storage._wal_format import RangeOperation


class WriteBatch:
    """Collects puts, deletes and range deletes; hand it to `LSMTree.write`.

    The operations take effect in the order in which they were added. Adding checks types and
    lengths, so a batch that exists can be written. Not thread-safe; may be written more than
    once.

    Attributes:
        keys: Keys of puts and deletes, in order.
        values: Beside the keys; None deletes.
        ranges: Range deletes, with their position among all operations.
    """

    __slots__ = ("keys", "ranges", "values")

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.values: list[bytes | None] = []
        self.ranges: list[RangeOperation] = []

    def __len__(self) -> int:
        return len(self.keys) + len(self.ranges)

    def put(self, key: Buffer, value: Buffer) -> None:
        """Add a put.

        Raises:
            InvalidTypeError: Key or value are not bytes-like.
            InvalidArgumentError: One of them is too long.
        """
        if type(key) is not bytes or len(key) > KEY_BYTES_MAX:
            key = as_key(key)
        if type(value) is not bytes or len(value) > VALUE_BYTES_MAX:
            value = as_value(value)
        self.keys.append(key)
        self.values.append(value)

    def put_many(self, keys: list[bytes], values: list[bytes]) -> None:
        """Add many puts at once: columns of equal length.

        Raises:
            InvalidTypeError: A key or a value is not bytes-like.
            InvalidArgumentError: One is too long, or the columns differ in length.
        """
        checked_keys = [as_key(key) for key in keys]
        checked_values = [as_value(value) for value in values]
        if len(checked_keys) != len(checked_values):
            raise InvalidArgumentError(f"{len(checked_keys)} keys and {len(checked_values)} values")
        self.keys += checked_keys
        self.values += checked_values

    def delete(self, key: Buffer) -> None:
        """Add a delete.

        Raises:
            InvalidTypeError: The key is not bytes-like.
            InvalidArgumentError: It is too long.
        """
        self.keys.append(as_key(key))
        self.values.append(None)

    def delete_range(self, start: Buffer, stop: Buffer) -> None:
        """Add a delete of everything in [start, stop), of what the batch put before it too.

        Raises:
            InvalidTypeError: A bound is not bytes-like.
            InvalidArgumentError: The range is inverted.
        """
        first, end = as_range(start, stop)
        self.ranges.append((len(self), first, end))

    def clear(self) -> None:
        """Take all operations out."""
        self.keys.clear()
        self.values.clear()
        self.ranges.clear()
