"""The fixed header of a record batch, and what a broker does with a batch: check it, stamp it.

A broker never opens the columns. It reads this header, verifies the checksum, and writes the base
offset and the leader epoch into the first 12 bytes, which is why the checksum leaves them out
(``docs/formats/batch.md``). Everything is big-endian::

     0  i64 base_offset          28  u32 record_count         56  i64 producer_id
     8  i32 leader_epoch         32  u32 last_offset_delta    64  i32 base_sequence
    12  u64 checksum             36  u32 columns_length       68  i16 producer_epoch
    20  u32 length               40  i64 base_timestamp_ms    70  u16 reserved (0)
    24  u8  magic (1)            48  i64 max_timestamp_ms     72  columns
    25  u8  codec
    26  u16 flags
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import TYPE_CHECKING, NamedTuple

from xxhash import xxh3_64_intdigest

from streambus_protocol._codec import Codec
from streambus_protocol.errors import (
    BatchTooLargeError,
    CorruptBatchError,
    UnsupportedBatchError,
    UnsupportedCodecError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = struct.Struct(">qiQIBBHIIIqqqihH")
BATCH_HEADER_BYTES = HEADER.size
STAMP = struct.Struct(">qi")
"""The part of the header that the leader writes: base offset and leader epoch."""
STAMP_BYTES = STAMP.size
PREFIX = struct.Struct(">qiQ")
CHECKED_FROM = PREFIX.size
"""The checksum covers every byte from here to the end of the batch."""
CHECKED_HEADER = struct.Struct(">IBBHIIIqqqihH")

MAGIC = 1
_COPY_BYTES_MAX = 4096
_EXPANSION_MAX = 4  # a consumer takes memory for what a batch expands to: no bombs in the log
RECORDS_MAX = 1_000_000
"""The most records that one batch may hold."""
NO_PRODUCER_ID = -1
_new_tuple = tuple.__new__
_CODEC_MAX = int(max(Codec))


class BatchFlags(IntFlag):
    """What the header's flags say; the other bits are reserved and must be 0."""

    TRANSACTIONAL = 1
    CONTROL = 2
    """The records are markers for the brokers, not data."""
    LOG_APPEND_TIME = 4
    """Every record's timestamp is max_timestamp_ms, set by the leader."""


_KNOWN_FLAGS = int(BatchFlags.TRANSACTIONAL | BatchFlags.CONTROL | BatchFlags.LOG_APPEND_TIME)
_PRODUCED_FLAGS = int(BatchFlags.TRANSACTIONAL | BatchFlags.LOG_APPEND_TIME)
# Plain ints for the paths that run for every batch: an operation on an IntFlag costs a microsecond.
_CONTROL = int(BatchFlags.CONTROL)
LOG_APPEND_TIME = int(BatchFlags.LOG_APPEND_TIME)


class BatchHeader(NamedTuple):
    """A batch's header, field by field in its stored order.

    Attributes:
        base_offset: offset of the first record.
        leader_epoch: epoch of the leader that took it; -1 before that.
        checksum: xxh3-64 of the batch from byte 20 on.
        length: bytes of the whole batch, header included.
        magic: format version, 1.
        codec: a Codec number.
        flags: BatchFlags bits.
        record_count: 1 to RECORDS_MAX.
        last_offset_delta: last record's offset minus base_offset; at least record_count - 1, and
            more where compaction has removed records.
        columns_length: bytes of the columns before compression.
        base_timestamp_ms: the timestamp that the timestamp deltas count from.
        max_timestamp_ms: the largest timestamp of a record.
        producer_id: -1, or the id of an idempotent producer.
        base_sequence: -1, or the producer's sequence number of the first record.
        producer_epoch: -1, or the producer's epoch.
        reserved: 0.
    """

    base_offset: int
    leader_epoch: int
    checksum: int
    length: int
    magic: int
    codec: int
    flags: int
    record_count: int
    last_offset_delta: int
    columns_length: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    base_sequence: int
    producer_epoch: int
    reserved: int

    @property
    def last_offset(self) -> int:
        """The offset of the last record."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """The offset that follows the batch."""
        return self.base_offset + self.last_offset_delta + 1


def read_batch_header(data: bytes | memoryview, position: int = 0) -> BatchHeader:
    """Read a header and check it against itself and the bytes that are there; no checksum.

    Raises:
        CorruptBatchError: fewer bytes than declared, or fields that contradict each other.
        UnsupportedBatchError: unknown magic, flags or reserved field.
        UnsupportedCodecError: unknown codec.
    """
    available = len(data) - position
    if available < BATCH_HEADER_BYTES:
        raise CorruptBatchError(
            f"{available} bytes where a batch header of {BATCH_HEADER_BYTES} is expected"
        )
    header: BatchHeader = _new_tuple(BatchHeader, HEADER.unpack_from(data, position))
    (_, _, _, length, magic, codec, flags, count, last_delta, _, _, _, _, _, _, reserved) = header
    if magic != MAGIC or flags & ~_KNOWN_FLAGS or reserved:
        raise UnsupportedBatchError(
            f"batch of magic {magic}, flags 0x{flags:04x}, reserved {reserved}: only magic {MAGIC} "
            f"and flags 0x{_KNOWN_FLAGS:04x} are known; upgrade this side"
        )
    if codec > _CODEC_MAX:
        raise UnsupportedCodecError(codec)
    if not BATCH_HEADER_BYTES < length <= available:
        raise CorruptBatchError(f"a batch declares {length} bytes, {available} are there")
    if not 0 < count <= RECORDS_MAX or last_delta < count - 1:
        raise CorruptBatchError(f"a batch of {count} records with last offset delta {last_delta}")
    return header


def check_batch(data: bytes | memoryview, position: int = 0) -> BatchHeader:
    """Read a header and verify the checksum: what a receiver does before it keeps a batch.

    Raises:
        CorruptBatchError: as for ``read_batch_header``, or the checksum is wrong.
    """
    header = read_batch_header(data, position)
    start, stop = position + CHECKED_FROM, position + header[3]
    # Copying a few bytes is cheaper than making two views of them.
    covered = data[start:stop] if stop - start <= _COPY_BYTES_MAX else memoryview(data)[start:stop]
    if xxh3_64_intdigest(covered) != header[2]:
        raise CorruptBatchError(
            f"checksum of a batch of {header.length} bytes does not match: it was damaged"
        )
    return header


def check_produced_batch(data: bytes | memoryview, batch_bytes_max: int) -> BatchHeader:
    """Check what a producer sent as exactly one new batch.

    Args:
        data: the whole of it; its offset and leader epoch are not looked at.
        batch_bytes_max: the topic's max_message_bytes.

    Raises:
        BatchTooLargeError: it is over the limit, or expands to more than 4 times the limit.
        CorruptBatchError: checksum, layout, or more bytes than the one batch.
        UnsupportedBatchError: a control batch (only brokers write those), or as for the header.
    """
    size = len(data)
    if BATCH_HEADER_BYTES < size <= batch_bytes_max:
        header = HEADER.unpack_from(data)
        (
            _, _, checksum, length, magic, codec, flags, count, last_delta, columns_length,
            _, _, _, _, _, reserved,
        ) = header  # fmt: skip
        covered = (
            data[CHECKED_FROM:] if size <= _COPY_BYTES_MAX else memoryview(data)[CHECKED_FROM:]
        )
        if (
            length == size
            and magic == MAGIC
            and codec <= _CODEC_MAX
            and not flags & ~_PRODUCED_FLAGS
            and not reserved
            and 0 < count <= RECORDS_MAX
            and last_delta == count - 1
            and columns_length <= _EXPANSION_MAX * batch_bytes_max
            and xxh3_64_intdigest(covered) == checksum
        ):
            good: BatchHeader = _new_tuple(BatchHeader, header)
            return good
    return _judge_produced_batch(data, batch_bytes_max)


def _judge_produced_batch(data: bytes | memoryview, batch_bytes_max: int) -> BatchHeader:
    """Find out what is wrong with a batch that is not as it should be."""
    if len(data) > batch_bytes_max:
        raise BatchTooLargeError("a batch", len(data), batch_bytes_max)
    header = check_batch(data)
    if header.columns_length > _EXPANSION_MAX * batch_bytes_max:
        limit = _EXPANSION_MAX * batch_bytes_max
        raise BatchTooLargeError("decompressed columns", header.columns_length, limit)
    if header.length != len(data):
        raise CorruptBatchError(f"{len(data) - header.length} bytes follow the batch")
    if header.last_offset_delta != header.record_count - 1:
        raise CorruptBatchError("a new batch has gaps between its offsets")
    if header.flags & _CONTROL:
        raise UnsupportedBatchError("a producer may not send a control batch")
    return header


def stamp_batch(data: bytes, base_offset: int, leader_epoch: int) -> bytes:
    """Give the batch with its offset and its leader's epoch; the checksum stays valid."""
    return STAMP.pack(base_offset, leader_epoch) + data[STAMP_BYTES:]


def set_append_time(data: bytes, timestamp_ms: int) -> bytes:
    """Give the batch with the leader's time as every record's timestamp, and a new checksum."""
    header = HEADER.unpack_from(data)
    checked = (
        CHECKED_HEADER.pack(
            *header[3:6],
            header[6] | LOG_APPEND_TIME,
            *header[7:11],
            timestamp_ms,
            *header[12:],
        )
        + data[BATCH_HEADER_BYTES:]
    )
    return PREFIX.pack(header[0], header[1], xxh3_64_intdigest(checked)) + checked


def set_producer(data: bytes, producer_id: int, producer_epoch: int, base_sequence: int) -> bytes:
    """Give the batch as another producer, epoch or sequence number's, with a new checksum.

    Cost: a copy of the batch and its checksum; the columns are not opened.
    """
    header = HEADER.unpack_from(data)
    checked = (
        CHECKED_HEADER.pack(*header[3:12], producer_id, base_sequence, producer_epoch, header[15])
        + data[BATCH_HEADER_BYTES:]
    )
    return PREFIX.pack(header[0], header[1], xxh3_64_intdigest(checked)) + checked


def iterate_batches(data: bytes | memoryview) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Walk over whole batches that lie one behind the other, as a fetch returns them.

    Yields:
        Each header with a view of its batch; checksums are left to who opens the columns.

    Raises:
        CorruptBatchError: the bytes do not divide into whole batches.
    """
    view = memoryview(data)
    position = 0
    while position < len(view):
        header = read_batch_header(view, position)
        stop = position + header.length
        yield header, view[position:stop]
        position = stop
