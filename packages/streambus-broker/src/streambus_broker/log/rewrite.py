"""What a topic's settings ask the broker to change in a batch before it is appended.

Usually nothing: a batch is stored as it was sent. ``message_timestamp_type = append_time`` writes
the broker's clock into the header; ``compression`` other than ``producer`` opens a batch that came
with another codec, and compresses it anew (the one case in which the broker opens batches).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_protocol import (
    BatchFlags,
    Codec,
    ProducerStamp,
    decode_columns,
    encode_batch,
    set_append_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_broker.config.topics import TopicSettings
    from streambus_protocol import BatchHeader


def rewrite_for(settings: TopicSettings) -> Callable[[bytes, BatchHeader, int], bytes] | None:
    """Choose the rewriting that a topic needs: ``rewrite(batch, header, now_ms)``, or None."""
    append_time = settings.message_timestamp_type == "append_time"
    codec = None if settings.compression == "producer" else Codec.parse(settings.compression)
    if codec is None:
        return _stamp_time if append_time else None

    def rewrite(batch: bytes, header: BatchHeader, now_ms: int) -> bytes:
        if header.codec != codec:
            batch = recompress(batch, codec)
        return set_append_time(batch, now_ms) if append_time else batch

    return rewrite


def _stamp_time(batch: bytes, header: BatchHeader, now_ms: int) -> bytes:  # noqa: ARG001 - one shape
    return set_append_time(batch, now_ms)


def recompress(batch: bytes, codec: Codec) -> bytes:
    """Encode a verified batch anew with another codec.

    Raises:
        BatchError: Its columns are damaged or too large.
    """
    columns = decode_columns(batch, verify=False)
    header = columns.header
    return encode_batch(
        columns.values,
        columns.keys,
        base_timestamp_ms=header.base_timestamp_ms,
        timestamp_deltas=columns.timestamp_deltas,
        flat_headers=columns.flat_headers,
        codec=codec,
        flags=header.flags & ~BatchFlags.LOG_APPEND_TIME,
        producer=ProducerStamp(header.producer_id, header.producer_epoch, header.base_sequence),
    )
