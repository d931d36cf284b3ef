"""Keys: what is allowed, and the arithmetic of their order.

Keys are bytes, ordered as bytes. The empty key is allowed, and is the first of all.
Ranges are half-open, ``start <= key < stop``, everywhere in this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_storage._options import KEY_BYTES_MAX, VALUE_BYTES_MAX
from streambus_storage.errors import InvalidArgumentError, InvalidTypeError

if TYPE_CHECKING:
    from streambus_storage._filesystem import Buffer

END_OF_KEYS = b"\xff" * (KEY_BYTES_MAX + 1)
"""Greater than every allowed key: the stop of a range without end."""


def as_key(key: Buffer) -> bytes:
    """Return ``key`` as bytes.

    Raises:
        InvalidTypeError: It is not bytes-like.
        InvalidArgumentError: It is longer than `KEY_BYTES_MAX`.
    """
    if type(key) is not bytes:
        if not isinstance(key, bytes | bytearray | memoryview):
            raise InvalidTypeError(f"a key must be bytes-like, not {type(key).__name__}")
        key = bytes(key)
    if len(key) > KEY_BYTES_MAX:
        raise InvalidArgumentError(f"key of {len(key)} bytes: the longest has {KEY_BYTES_MAX}")
    return key


def as_value(value: Buffer) -> bytes:
    """Return ``value`` as bytes (a copy only where it can change).

    Raises:
        InvalidTypeError: It is not bytes-like.
        InvalidArgumentError: It is longer than `VALUE_BYTES_MAX`.
    """
    if type(value) is not bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise InvalidTypeError(f"a value must be bytes-like, not {type(value).__name__}")
        value = bytes(value)
    if len(value) > VALUE_BYTES_MAX:
        raise InvalidArgumentError(
            f"value of {len(value)} bytes: the longest has {VALUE_BYTES_MAX}"
        )
    return value


def as_range(start: Buffer, stop: Buffer) -> tuple[bytes, bytes]:
    """Return the range of a deletion as bytes.

    Raises:
        InvalidTypeError: A bound is not bytes-like.
        InvalidArgumentError: The range is inverted. (An empty one, start == stop, is fine.)
    """
    first, end = as_key(start), as_key(stop)
    if first > end:
        raise InvalidArgumentError(f"inverted range: start {first!r} is after stop {end!r}")
    return first, end


def prefix_stop(prefix: bytes) -> bytes:
    """Return the least key greater than every key that starts with ``prefix``."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return END_OF_KEYS
    return stripped[:-1] + bytes((stripped[-1] + 1,))


def prefix_bounds(prefix: Buffer) -> tuple[bytes, bytes]:
    """Return the half-open range of the keys that begin with ``prefix``.

    Raises:
        InvalidTypeError: It is not bytes-like.
        InvalidArgumentError: It is too long.
    """
    low = as_key(prefix)
    return low, prefix_stop(low)


def bounds(start: Buffer | None, stop: Buffer | None, prefix: Buffer | None) -> tuple[bytes, bytes]:
    """Combine the three ways to bound a scan into one half-open range.

    Raises:
        InvalidTypeError: A bound is not bytes-like.
        InvalidArgumentError: start is after stop.
    """
    low = b"" if start is None else as_key(start)
    high = END_OF_KEYS if stop is None else as_key(stop)
    if low > high:
        raise InvalidArgumentError(f"inverted range: start {low!r} is after stop {high!r}")
    if prefix is not None:
        first, end = prefix_bounds(prefix)
        low, high = max(low, first), min(high, end)
    return low, high


def successor(key: bytes) -> bytes:
    """Return the least key after ``key``: turns an inclusive upper bound into an exclusive one."""
    return key + b"\x00"
