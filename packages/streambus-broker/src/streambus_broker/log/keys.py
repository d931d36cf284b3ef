"""How partition logs lie in the data tree.

Keys, all big-endian, so that order in the tree is order in the log::

    u64 partition_id  u64 base_offset        one record batch
    u64 0             u64 partition_id       the partition's start mark
    u64 0             u64 partition_id | 1 << 61   its leader epochs (in a cluster)
    u64 0             u64 partition_id | 2 << 61   its high watermark and producer states
    u64 0             u64 0                what a write is tried with; deleted at once

A batch's value is 16 bytes of running totals and the batch as it travels::

    u64 position          bytes of all batches before it in this log, deleted ones included
    i64 max_timestamp_ms  largest timestamp in the log up to and including this batch
    ...                   the batch

Both totals never fall from one batch to the next, so that size, retention and search by time are
binary searches over a few batches, and never a walk over the log.

A start mark says where a log begins after its head was deleted; it matters most when nothing is
left. Partition ids start at 1, so 0 is free for it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

KEY = struct.Struct(">QQ")
TOTALS = struct.Struct(">Qq")
TOTALS_BYTES = TOTALS.size
STAMPED_TOTALS = struct.Struct(">Qqqi")
"""The totals and, behind them, the first 12 bytes of the batch: base offset and leader epoch."""
STAMP_BYTES = 12

_START_MARK = struct.Struct(">qqQq")


class StartMark(NamedTuple):
    """Where a log begins, and what it had reached when that was written.

    Attributes:
        log_start_offset: The first offset that is kept.
        next_offset: The offset that the next record had at that time.
        end_position: The position behind the last batch at that time.
        max_timestamp_ms: The largest timestamp so far, -1 for none.
    """

    log_start_offset: int
    next_offset: int
    end_position: int
    max_timestamp_ms: int


NO_START_MARK = StartMark(0, 0, 0, -1)
TRIAL_KEY = KEY.pack(0, 0)
"""Bytes of no meaning, by which a storage that refused writes is tried."""


def batch_key(partition_id: int, base_offset: int) -> bytes:
    """Build the key of a batch."""
    return KEY.pack(partition_id, base_offset)


def partition_prefix(partition_id: int) -> bytes:
    """Build the prefix of all the batches of a partition; also the tree's key partitioner."""
    return partition_id.to_bytes(8, "big")


def partition_of(key: bytes) -> bytes:
    """Take the partition's prefix off a key."""
    return key[:8]


def start_mark_key(partition_id: int) -> bytes:
    """Build the key of a partition's start mark."""
    return KEY.pack(0, partition_id)


def epochs_key(partition_id: int) -> bytes:
    """Build the key of a partition's leader epochs."""
    return KEY.pack(0, partition_id | 1 << 61)


def state_key(partition_id: int) -> bytes:
    """Build the key of a partition's high watermark and producer states."""
    return KEY.pack(0, partition_id | 2 << 61)


def encode_start_mark(mark: StartMark) -> bytes:
    """Encode a start mark's value."""
    return _START_MARK.pack(*mark)


def decode_start_mark(value: bytes | memoryview) -> StartMark:
    """Decode a start mark's value.

    Raises:
        struct.error: It has another length.
    """
    return StartMark._make(_START_MARK.unpack(value))


def marked_partition(key: bytes) -> int:
    """The partition that a key under partition 0 belongs to."""
    return int(KEY.unpack(key)[1]) & ((1 << 61) - 1)
