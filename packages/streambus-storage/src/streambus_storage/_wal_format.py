"""The bytes of the write-ahead log; docs/formats/wal.md describes them for other languages.

Rules:

- A record's checksum is seeded with the checksum of its segment's header, which holds a random
  salt: a record is valid in its own file only. Recovery looks for records in what a loss of power
  left; without the salt a value that holds a copy of another log would be taken for evidence.
- Every record carries the sequence number up to which the log was known to be durable when it
  was written. That is how recovery tells a torn tail from damage: see `_wal_reader`.
- Sequence numbers are consecutive over all records of all segments.

All integers are little-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import msgpack
from xxhash import xxh3_64, xxh3_64_intdigest

from streambus_storage.errors import CorruptionError, FormatVersionError

WAL_MAGIC = b"SBUSWAL\n"
WAL_VERSION = 1
_HEADER = struct.Struct("<8sIIQ")  # magic, version, salt, segment; then the checksum of these
_CHECKSUM = struct.Struct("<Q")
WAL_HEADER_BYTES = _HEADER.size + _CHECKSUM.size

RECORD_MAGIC = b"\xb5\x1a\x9d"
PUT, DELETE, BATCH, MARK = 1, 2, 3, 4
_TAGS = {kind: int.from_bytes(RECORD_MAGIC + bytes((kind,)), "little") for kind in range(1, 5)}
_KINDS = {tag: kind for kind, tag in _TAGS.items()}
_PUT_TAG, _DELETE_TAG, _BATCH_TAG, _MARK_TAG = (_TAGS[k] for k in (PUT, DELETE, BATCH, MARK))

_HEAD = struct.Struct("<IIQQ")  # tag, payload length, first sequence, durable sequence
_KEYED_HEAD = struct.Struct("<IIQQH")  # the same, and the key's length: the payload's beginning
RECORD_HEADER_BYTES = _CHECKSUM.size + _HEAD.size
_KEY_LENGTH = struct.Struct("<H")
_WHOLE_PUT = struct.Struct("<QIIQQH")  # checksum, head and key length of a put

_KEY_KINDS = frozenset((bytes,))
_VALUE_KINDS = frozenset((bytes, type(None)))

RangeOperation = tuple[int, bytes, bytes]
"""(position among the batch's operations, start, stop)"""


class WalRecord(NamedTuple):
    """A decoded record.

    Attributes:
        offset: Where it begins in its file.
        end: Where the next one begins.
        sequence: Sequence number of its first operation.
        durable: Sequence number up to which all was durable when it was written.
        keys: Keys in order of operation.
        values: Beside the keys; None deletes.
        ranges: Range deletes with their position among all operations.
        joined: Records that were joined into this one, see `decode_puts`.
    """

    offset: int
    end: int
    sequence: int
    durable: int
    keys: list[bytes]
    values: list[bytes | None]
    ranges: list[RangeOperation]
    joined: int = 1

    @property
    def is_mark(self) -> bool:
        """Whether it has no operations, and only says what is durable."""
        return not (self.keys or self.ranges)

    @property
    def last_sequence(self) -> int:
        """Sequence number of its last operation; of the one before it, for a mark."""
        return self.sequence + len(self.keys) + len(self.ranges) - 1


def encode_wal_header(segment: int, salt: int) -> bytes:
    """Return the first bytes of a segment's file; ``salt``: 32 random bits."""
    head = _HEADER.pack(WAL_MAGIC, WAL_VERSION, salt, segment)
    return head + _CHECKSUM.pack(xxh3_64_intdigest(head))


def check_wal_header(data: bytes, segment: int, path: str) -> int:
    """Check the first bytes of a segment's file; return the seed of its records' checksums.

    Raises:
        CorruptionError: They are cut short, damaged, or those of another segment.
        FormatVersionError: The file is of a later format.
    """
    if len(data) < WAL_HEADER_BYTES:
        raise CorruptionError(path, len(data), "the segment's header is cut short")
    magic, version, _, found = _HEADER.unpack_from(data)
    if magic != WAL_MAGIC or wal_seed(data) != xxh3_64_intdigest(data[: _HEADER.size]):
        raise CorruptionError(path, 0, "the segment's header is damaged")
    if version > WAL_VERSION:
        raise FormatVersionError(path, version, WAL_VERSION)
    if found != segment:
        raise CorruptionError(path, 16, f"the header is that of segment {found}")
    return wal_seed(data)


def wal_seed(header: bytes) -> int:
    """Return the seed of the records' checksums: the checksum of the segment's header."""
    seed: int = _CHECKSUM.unpack_from(header, _HEADER.size)[0]
    return seed


def encode_put(seed: int, sequence: int, durable: int, key: bytes, value: bytes) -> bytes:
    """Return the record of one put. On the hot path: one struct, one hash, one join."""
    size = len(key)
    body = _KEYED_HEAD.pack(_PUT_TAG, 2 + size + len(value), sequence, durable, size) + key + value
    return xxh3_64_intdigest(body, seed).to_bytes(8, "little") + body


def put_parts(
    seed: int, sequence: int, durable: int, key: bytes, value: bytes
) -> tuple[bytes, bytes]:
    """Return the record of one put in two parts, so that a large value is not copied."""
    size = len(key)
    head = _KEYED_HEAD.pack(_PUT_TAG, 2 + size + len(value), sequence, durable, size) + key
    checksum = xxh3_64(head, seed)
    checksum.update(value)
    return _CHECKSUM.pack(checksum.intdigest()) + head, value


def encode_delete(seed: int, sequence: int, durable: int, key: bytes) -> bytes:
    """Return the record of one delete."""
    size = len(key)
    body = _KEYED_HEAD.pack(_DELETE_TAG, 2 + size, sequence, durable, size) + key
    return _CHECKSUM.pack(xxh3_64_intdigest(body, seed)) + body


def encode_mark(seed: int, sequence: int, durable: int) -> bytes:
    """Return a record that only says what is durable; ``sequence`` is the next one to come."""
    body = _HEAD.pack(_MARK_TAG, 0, sequence, durable)
    return _CHECKSUM.pack(xxh3_64_intdigest(body, seed)) + body


def encode_batch_payload(
    keys: list[bytes], values: list[bytes | None], ranges: list[RangeOperation]
) -> bytes:
    """Return a batch as msgpack columns: [keys, values, ranges]."""
    packed: bytes = msgpack.packb([keys, values, ranges])
    return packed


def encode_batch(seed: int, sequence: int, durable: int, payload: bytes) -> bytes:
    """Return the record of a batch whose payload was encoded before."""
    body = _HEAD.pack(_BATCH_TAG, len(payload), sequence, durable) + payload
    return _CHECKSUM.pack(xxh3_64_intdigest(body, seed)) + body


def decode_record(data: bytes, offset: int, seed: int) -> WalRecord | str:
    """Decode the record at ``offset``, or say what is wrong with the bytes there."""
    if offset + RECORD_HEADER_BYTES > len(data):
        return "a record's header is cut short"
    tag, length, sequence, durable = _HEAD.unpack_from(data, offset + 8)
    kind = _KINDS.get(tag)
    if kind is None:
        return "no record begins here"
    end = offset + RECORD_HEADER_BYTES + length
    if end > len(data):
        return "a record is cut short"
    (checksum,) = _CHECKSUM.unpack_from(data, offset)
    if checksum != xxh3_64_intdigest(memoryview(data)[offset + 8 : end], seed):
        return "a record's checksum does not match"
    payload = offset + RECORD_HEADER_BYTES
    keys: list[bytes] = []
    values: list[bytes | None] = []
    ranges: list[RangeOperation] = []
    if kind in (PUT, DELETE):
        if length < 2:
            return "a record has no key"
        (size,) = _KEY_LENGTH.unpack_from(data, payload)
        split = payload + 2 + size
        if split > end:
            return "a record's key is longer than the record"
        keys = [data[payload + 2 : split]]
        values = [data[split:end] if kind == PUT else None]
    elif kind == BATCH:
        columns = _decode_columns(data[payload:end])
        if columns is None:
            return "a batch does not hold columns"
        keys, values, ranges = columns
    return WalRecord(offset, end, sequence, durable, keys, values, ranges)


def decode_puts(
    data: bytes, offset: int, seed: int, sequence: int, count_max: int = 256
) -> WalRecord | None:
    """Decode a run of puts with consecutive sequence numbers as one record with many keys.

    The fast way through a log of single puts: about a third of the time of `decode_record`.
    Whatever is not a sound put ends the run, and is left to `decode_record` to judge.

    Returns:
        The joined record; None: no run of at least two begins here.
    """
    unpack, view, size = _WHOLE_PUT.unpack_from, memoryview(data), len(data)
    keys: list[bytes] = []
    values: list[bytes | None] = []
    begin, newest, following = offset, 0, sequence
    while offset + _WHOLE_PUT.size <= size and len(keys) < count_max:
        checksum, tag, length, found, durable, key_bytes = unpack(data, offset)
        end = offset + RECORD_HEADER_BYTES + length
        split = offset + _WHOLE_PUT.size + key_bytes
        if tag != _PUT_TAG or found != following or split > end or end > size:
            break
        if xxh3_64_intdigest(view[offset + 8 : end], seed) != checksum:
            break
        keys.append(data[offset + _WHOLE_PUT.size : split])
        values.append(data[split:end])
        newest = max(newest, durable)
        following += 1
        offset = end
    if len(keys) < 2:
        return None
    return WalRecord(begin, offset, sequence, newest, keys, values, [], len(keys))


def _decode_columns(
    payload: bytes,
) -> tuple[list[bytes], list[bytes | None], list[RangeOperation]] | None:
    """Decode a batch, checking its shape: a valid checksum does not make a stranger a friend."""
    try:
        columns = msgpack.unpackb(payload, use_list=True)
    except (ValueError, msgpack.UnpackException):
        return None
    if not (isinstance(columns, list) and len(columns) == 3):
        return None
    keys, values, rows = columns
    if not all(isinstance(column, list) for column in columns) or len(keys) != len(values):
        return None
    if not (set(map(type, keys)) <= _KEY_KINDS and set(map(type, values)) <= _VALUE_KINDS):
        return None
    ranges: list[RangeOperation] = []
    for row in rows:
        if not (isinstance(row, list) and [type(cell) for cell in row] == [int, bytes, bytes]):
            return None
        ranges.append((row[0], row[1], row[2]))
    return keys, values, ranges


def newest_durable_mark(data: bytes, offset: int, seed: int, above: int) -> int:
    """Search valid records anywhere after ``offset`` for a durable sequence greater than ``above``.

    Returns:
        The greatest one found, or ``above``.
    """
    newest = above
    at = data.find(RECORD_MAGIC, offset)
    while at >= 0:
        begin = at - 8
        if begin >= offset and begin + RECORD_HEADER_BYTES <= len(data):
            durable = _HEAD.unpack_from(data, at)[3]
            # Only a record that would prove damage is worth the cost of its checksum.
            if durable > newest and isinstance(decode_record(data, begin, seed), WalRecord):
                newest = durable
        at = data.find(RECORD_MAGIC, at + 1)
    return newest
