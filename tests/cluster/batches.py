"""Batch headers and batches for the tests of the cluster."""

from __future__ import annotations

from streambus_protocol import (
    BatchHeader,
    ProducerStamp,
    encode_batch,
    read_batch_header,
    stamp_batch,
)


def batch_of(
    *values: bytes,
    producer: tuple[int, int, int] = (-1, -1, -1),
    base_offset: int = 0,
    leader_epoch: int = 0,
    timestamp_ms: int = 1_000,
) -> bytes:
    """A batch with one record for each value."""
    batch = encode_batch(
        list(values or (b"x",)),
        None,
        base_timestamp_ms=timestamp_ms,
        producer=ProducerStamp(*producer),
    )
    return stamp_batch(batch, base_offset, leader_epoch)


def header_of(count: int, producer: int, epoch: int, sequence: int) -> BatchHeader:
    """The header of a batch of ``count`` records."""
    return read_batch_header(batch_of(*[b"x"] * count, producer=(producer, epoch, sequence)))
