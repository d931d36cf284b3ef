"""What a replica holds, as a digest that can be compared with that of another replica."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streambus_broker.log.keys import TOTALS_BYTES, batch_key
from streambus_protocol import (
    EpochStart,
    ErrorCode,
    ReplicaDigestRequest,
    ReplicaDigestResponse,
    check_batch,
    read_batch_header,
)
from streambus_protocol.errors import CorruptBatchError

if TYPE_CHECKING:
    from streambus_broker.cluster.node import ClusterNode

SLICE_BYTES = 256 * 1024
"""Read at once: other requests have their turn after less than a millisecond."""


async def digest_of(node: ClusterNode, request: ReplicaDigestRequest) -> ReplicaDigestResponse:
    """Read this broker's replica from the disk, and check every batch's own checksum.

    Raises:
        StorageError: It cannot be read.
    """
    import xxhash

    log = node.logs.get((request.topic, request.partition))
    replica = None if log is None else node.replicas.get(log.partition_id)
    if log is None or replica is None:
        return _problem(ErrorCode.UNKNOWN_PARTITION, "this broker holds no replica of it")
    start, stop = request.start_offset, min(request.stop_offset, log.next_offset)
    if start < stop and start < log.log_start_offset:
        return _problem(ErrorCode.OFFSET_OUT_OF_RANGE, f"it begins at {log.log_start_offset}")
    digest, batches, size_bytes, position = xxhash.xxh3_64(), 0, 0, start
    while position < stop and (not batches or size_bytes < request.bytes_max):
        found = node.store.tree.scan(
            batch_key(log.partition_id, position), batch_key(log.partition_id, stop)
        )
        taken_bytes = 0
        try:
            for _, value in found:
                batch = memoryview(value)[TOTALS_BYTES:]
                header = read_batch_header(batch)
                try:
                    check_batch(batch)
                except CorruptBatchError as error:
                    return _problem(
                        ErrorCode.CORRUPT_BATCH, f"a batch is damaged: {error}", header.base_offset
                    )
                digest.update(batch)
                batches += 1
                size_bytes += len(batch)
                taken_bytes += len(batch)
                position = header.next_offset
                if taken_bytes >= SLICE_BYTES or size_bytes >= request.bytes_max:
                    break
        finally:
            found.close()
        if not taken_bytes:
            position = stop  # nothing more is there
        await asyncio.sleep(0)
    epochs = replica.stored.epochs
    return ReplicaDigestResponse(
        0,
        None,
        log.log_start_offset,
        log.high_watermark,
        log.next_offset,
        tuple(map(EpochStart, epochs.epochs, epochs.starts)),
        max(position, start),
        batches,
        size_bytes,
        digest.digest(),
    )


def _problem(code: ErrorCode, detail: str, offset: int = -1) -> ReplicaDigestResponse:
    return ReplicaDigestResponse(code, detail, -1, -1, -1, (), offset, 0, 0, b"")
