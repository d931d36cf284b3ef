"""The batch of one plain record: read in as few steps as there are.

Who asks for one record at a time waits for all of them, so the batch that a single ``send`` makes
(docs/formats/batch.md) is read by one struct, and everything else by the general decoder.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from streambus_protocol._batch_header import BATCH_HEADER_BYTES, CHECKED_FROM, HEADER, MAGIC

_BATCH = struct.Struct(HEADER.format + "3sB")
"""A batch's header, and the beginning of its columns up to the length of a short value."""
_VALUE_AT = _BATCH.size
_VALUES = b"\x95\x91\xc4"  # five columns; the first holds one value of up to 255 bytes
_NOTHING_ELSE = b"\xc0\xc0\xc0\xc0"  # no key, times, headers or gaps
_KEYS = b"\x91\xc4"
_NOTHING_BEHIND_KEY = b"\xc0\xc0\xc0"
_new_tuple = tuple.__new__


class LoneRecord(NamedTuple):
    """The one record of a batch; it has a value and no headers."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes


def read_lone_record(batch: bytes) -> LoneRecord | None:
    """Read a batch of exactly one plain record, its checksum verified.

    Returns:
        None where anything is out of the ordinary, damage included: ``decode_columns`` then judges
        the same bytes.
    """
    size = len(batch)
    if size < _VALUE_AT:
        return None
    (
        base_offset, _, checksum, length, magic, codec, flags, count, last_delta, columns_length,
        timestamp_ms, _, _, _, _, reserved, mark, value_bytes,
    ) = _BATCH.unpack_from(batch)  # fmt: skip
    if (
        length != size
        or mark != _VALUES
        or count != 1
        or codec
        or flags
        or magic != MAGIC
        or last_delta
        or reserved
        or columns_length != size - BATCH_HEADER_BYTES
        or xxh3_64_intdigest(batch[CHECKED_FROM:]) != checksum
    ):
        return None
    stop = _VALUE_AT + value_bytes
    behind = batch[stop:]
    if behind == _NOTHING_ELSE:
        key = None
    else:
        key_bytes = len(behind) - 6  # two marks, the length, and what stands behind the key
        if (
            key_bytes < 0
            or behind[:2] != _KEYS
            or behind[2] != key_bytes
            or behind[-3:] != _NOTHING_BEHIND_KEY
        ):
            return None
        key = behind[3:-3]
    record: LoneRecord = _new_tuple(
        LoneRecord, (base_offset, timestamp_ms, key, batch[_VALUE_AT:stop])
    )
    return record
