"""A table's blocks: columns that one C call encodes and one decodes.

A block on disk is its payload, then a trailer: one byte for the codec and the xxh3-64 checksum
of payload and codec, seeded with the block's offset in its file (so that a block read from the
wrong place is found out). The payload of a data block is msgpack: ``[keys, values]``. A value
is bytes, or nil (deleted), or ``[offset, length, checksum]`` of a raw value elsewhere in the
same file.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgpack
from xxhash import xxh3_64_intdigest

from streambus_storage.errors import CorruptionError, StorageError

CODEC_NONE, CODEC_LZ4, CODEC_ZSTD = 0, 1, 2
CODECS = {None: CODEC_NONE, "lz4": CODEC_LZ4, "zstd": CODEC_ZSTD}
_TRAILER = struct.Struct("<BQ")
TRAILER_BYTES = _TRAILER.size

INFLATED_BYTES_MAX = 1 << 31
"""No block is larger; a damaged length must not take the memory of the machine."""

ENTRY_BYTES = 120
"""What Python needs for a decoded entry: two bytes headers (66), list slots, allocation."""


class RawValue(NamedTuple):
    """Where a raw value lies in its table's file."""

    offset: int
    length: int
    checksum: int


StoredValue = bytes | RawValue | None


class Block:
    """A decoded data block.

    Attributes:
        keys: Ascending.
        values: Beside the keys: bytes, `RawValue`, or None for a deleted key.
        plain: All values are bytes: they can be handed on as they are.
        cost: Bytes that it takes in a cache.
        used: Raised by readers that find it, cleared by the cache's clock hand.
    """

    __slots__ = ("cost", "keys", "plain", "used", "values")

    def __init__(self, keys: list[bytes], values: list[Any], stored: int, plain: bool) -> None:
        self.keys = keys
        self.values = values
        self.plain = plain
        self.cost = stored + ENTRY_BYTES * len(keys)
        self.used = 0


class CodecMissingError(StorageError):
    """A block is compressed and the library that can expand it is not installed."""


def _cramjam() -> Any:
    try:
        import cramjam
    except ImportError as exc:
        raise CodecMissingError(
            "compression needs cramjam: pip install 'streambus-storage[compression]'"
        ) from exc
    return cramjam


def compress(payload: bytes, codec: int) -> tuple[bytes, int]:
    """Return (bytes to store, codec); the payload itself where compression does not help.

    Raises:
        CodecMissingError: The compression library is not installed.
    """
    if codec == CODEC_NONE:
        return payload, codec
    cramjam = _cramjam()
    if codec == CODEC_LZ4:
        packed = bytes(cramjam.lz4.compress_block(payload))
    else:
        packed = bytes(cramjam.zstd.compress(payload, 3))
    return (packed, codec) if len(packed) < len(payload) else (payload, CODEC_NONE)


def _expand(stored: bytes, codec: int, path: str, offset: int) -> bytes:
    if codec == CODEC_NONE:
        return stored
    if codec not in (CODEC_LZ4, CODEC_ZSTD):
        raise CorruptionError(path, offset, f"unknown block codec {codec}")
    cramjam = _cramjam()
    try:
        if codec == CODEC_LZ4:
            (length,) = struct.unpack_from("<I", stored)
            if length > INFLATED_BYTES_MAX:
                raise CorruptionError(path, offset, f"a block claims {length} bytes")
            return bytes(cramjam.lz4.decompress_block(stored))
        return bytes(cramjam.zstd.decompress(stored))
    except (cramjam.DecompressionError, struct.error) as exc:
        raise CorruptionError(path, offset, f"a block does not expand: {exc}") from exc


def seal(payload: bytes, offset: int, codec: int = CODEC_NONE) -> bytes:
    """Return the payload with its trailer, as it is stored at ``offset``."""
    stored, used = compress(payload, codec)
    tagged = stored + bytes((used,))
    return tagged + xxh3_64_intdigest(tagged, offset).to_bytes(8, "little")


def unseal(data: bytes, path: str, offset: int) -> bytes:
    """Return the payload of a stored block, checked and expanded.

    Raises:
        CorruptionError: It is cut short, its checksum does not match, or it does not expand.
        CodecMissingError: The library that expands it is not installed.
    """
    size = len(data) - TRAILER_BYTES
    if size < 0:
        raise CorruptionError(path, offset, "a block is cut short")
    codec, checksum = _TRAILER.unpack_from(data, size)
    if checksum != xxh3_64_intdigest(memoryview(data)[: size + 1], offset):
        raise CorruptionError(path, offset, "a block's checksum does not match")
    return _expand(data[:size], codec, path, offset)


def encode_entries(keys: list[bytes], values: list[StoredValue]) -> bytes:
    """Return the payload of a data block."""
    payload: bytes = msgpack.packb([keys, values])
    return payload


def unpack(payload: bytes, path: str, offset: int) -> Any:
    """Decode msgpack of ours.

    Raises:
        CorruptionError: It is not msgpack.
    """
    try:
        return msgpack.unpackb(payload, use_list=True, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as exc:
        # TypeError: a map whose key is a map or a list.
        raise CorruptionError(path, offset, f"not msgpack: {exc}") from exc


def decode_entries(payload: bytes, path: str, offset: int) -> Block:
    """Decode the payload of a data block.

    Raises:
        CorruptionError: It does not have the shape of one.
    """
    columns = unpack(payload, path, offset)
    if not (
        isinstance(columns, list)
        and len(columns) == 2
        and isinstance(columns[0], list)
        and isinstance(columns[1], list)
        and len(columns[0]) == len(columns[1])
        and columns[0]
    ):
        raise CorruptionError(path, offset, "a block does not hold two columns")
    keys, values = columns
    kinds = set(map(type, values))
    if set(map(type, keys)) != {bytes} or not kinds <= {bytes, type(None), list}:
        raise CorruptionError(path, offset, "a block holds what is neither key nor value")
    if list in kinds:
        values = [_raw(value, path, offset) if type(value) is list else value for value in values]
    return Block(keys, values, len(payload), kinds == {bytes})


def _raw(row: list[Any], path: str, offset: int) -> RawValue:
    if [type(cell) for cell in row] != [int, int, int]:
        raise CorruptionError(path, offset, "a raw value's place is not three numbers")
    return RawValue(*row)
