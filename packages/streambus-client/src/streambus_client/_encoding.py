"""Records to batches, and the frame of one record in as few steps as there are.

The blocking ``send`` of a single record is measured against a bare TCP echo, so its frame is put
together from parts that are prepared once for each partition; everything else goes through the
protocol's general encoder.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64_intdigest

from streambus_client.errors import InvalidArgumentError
from streambus_protocol import (
    BATCH_HEADER_BYTES,
    NO_PRODUCER,
    ApiKey,
    FrameFlags,
    ProducePartition,
    ProduceRequest,
    ProducerStamp,
    encode_batch,
    encode_message,
    flatten_headers,
    plain_produced,
)
from streambus_protocol.errors import InvalidRecordError

if TYPE_CHECKING:
    from streambus_client._accumulator import PendingBatch
    from streambus_client._types import Headers

_BYTES_OR_NONE = frozenset({bytes, type(None)})
_FRAME = struct.Struct(">IHBBI")
_BIN_32 = struct.Struct(">BI")
_CHECKED_HEAD = struct.Struct(">IBBHIII")
"""A batch's header, from the first byte that its checksum covers up to the timestamps."""
_SHORT_BYTES_MAX = 255
_NOTHING_ELSE = b"\xc0\xc0\xc0\xc0"  # no keys, times, headers or gaps
_PRODUCE = int(ApiKey.PRODUCE)
_TRACED = int(FrameFlags.TRACED)
_BIN_8_MARK, _BIN_32_MARK, _EMPTY_BIN = 0xC4, 0xC6, b"\xc4\x00"
_FRAME_OVERHEAD = 8
"""Bytes of a frame's header that its length counts."""


def encode_pending(batch: PendingBatch, codec: int) -> bytes:
    """Encode a batch once; a retry sends the same bytes.

    Raises:
        InvalidArgumentError: a record cannot be encoded.
    """
    if batch.encoded is None:
        deltas = None
        if batch.timestamps_ms is not None:
            base = batch.timestamp_ms
            deltas = [timestamp_ms - base for timestamp_ms in batch.timestamps_ms]
        flat = None
        if batch.headers is not None:
            flat = [flatten_headers(headers) if headers else None for headers in batch.headers]
        try:
            batch.encoded = encode_batch(
                batch.values,
                batch.keys,
                base_timestamp_ms=batch.timestamp_ms,
                timestamp_deltas=deltas,
                flat_headers=flat,
                codec=codec,
                producer=batch.stamp or NO_PRODUCER,
            )
        except InvalidRecordError as error:
            raise InvalidArgumentError("record", f"cannot be encoded: {error}") from error
    return batch.encoded


def encode_record(
    value: bytes | None,
    key: bytes | None,
    headers: Headers | None,
    timestamp_ms: int,
    codec: int,
    producer: ProducerStamp = NO_PRODUCER,
) -> bytes:
    """Encode a batch of one record.

    Raises:
        InvalidArgumentError: the record is not one.
    """
    try:
        return encode_batch(
            (value,),
            None if key is None else (key,),
            base_timestamp_ms=timestamp_ms,
            flat_headers=(flatten_headers(headers),) if headers else None,
            codec=codec,
            producer=producer,
        )
    except InvalidRecordError as error:
        check_bytes("value", value)
        check_bytes("key", key)
        raise InvalidArgumentError("record", f"cannot be encoded: {error}") from error


class _Shape:
    """The frame of one plain record whose value has a certain length: two structs and constants.

    Attributes:
        checked: Packs what the batch's checksum covers.
        head: Its bytes before the timestamps.
        mark: Its bytes between the header and the value.
        frame: Packs what stands before that.
        length: What the frame declares.
        prefix: The request's bytes up to the batch.
    """

    __slots__ = ("checked", "frame", "head", "length", "mark", "prefix")

    def __init__(self, request_prefix: bytes, value_bytes: int) -> None:
        self.mark = b"\x95\x91\xc4%c" % value_bytes
        columns_bytes = len(self.mark) + value_bytes + len(_NOTHING_ELSE)
        self.head = _CHECKED_HEAD.pack(
            BATCH_HEADER_BYTES + columns_bytes,
            *(1, 0, 0, 1, 0),  # magic, codec, flags, record count, last offset delta
            columns_bytes,
        )
        self.checked = struct.Struct(
            f">{len(self.head)}sqqqihH{len(self.mark)}s{value_bytes}s{len(_NOTHING_ELSE)}s"
        )
        batch_bytes = BATCH_HEADER_BYTES + columns_bytes
        self.prefix = request_prefix + _bin_mark(batch_bytes)
        self.frame = struct.Struct(f">IHBBI{len(self.prefix)}sqiQ")
        self.length = _FRAME_OVERHEAD + len(self.prefix) + batch_bytes


class ProduceTemplate:
    """The frame of a produce request for one batch of one partition, all but the batch.

    Args:
        topic: where it goes.
        partition: the same.
        acks: as on the wire.
        timeout_ms: for the acknowledgement.
        version: the negotiated version of PRODUCE.

    Attributes:
        read_offset: ``PlainProduced.read`` of that version.
    """

    __slots__ = ("_prefix", "_prefix_bytes", "_shapes", "_version", "read_offset")

    def __init__(
        self, topic: str, partition: int, acks: int, timeout_ms: int, version: int
    ) -> None:
        request = ProduceRequest(acks, timeout_ms, (ProducePartition(topic, partition, b""),))
        body = encode_message(request, version)
        assert body.endswith(_EMPTY_BIN), "the batch is the last field of a produce request"
        self._prefix = body[: -len(_EMPTY_BIN)]
        self._prefix_bytes = len(self._prefix)
        self._shapes: dict[int, _Shape] = {}  # by length of the value, 255 at most
        self._version = version
        self.read_offset = plain_produced(version).read

    def record_frame(
        self,
        correlation_id: int,
        value: bytes | None,
        key: bytes | None,
        timestamp_ms: int,
        producer: ProducerStamp = NO_PRODUCER,
    ) -> bytes:
        """Put the frame of one plain record together: no headers, no compression.

        The same bytes as ``frame(correlation_id, encode_record(...))``, in fewer steps where there
        is a short value and no key (docs/formats/batch.md has the layout).

        Raises:
            InvalidArgumentError: value or key is neither bytes nor None.
        """
        if key is not None or type(value) is not bytes or len(value) > _SHORT_BYTES_MAX:
            batch = encode_record(value, key, None, timestamp_ms, 0, producer)
            return self.frame(correlation_id, batch)
        shape = self._shapes.get(len(value))
        if shape is None:
            shape = self._shapes[len(value)] = _Shape(self._prefix, len(value))
        producer_id, producer_epoch, base_sequence = producer
        checked = shape.checked.pack(
            shape.head,
            timestamp_ms,
            timestamp_ms,
            producer_id,
            base_sequence,
            producer_epoch,
            0,
            shape.mark,
            value,
            _NOTHING_ELSE,
        )
        return (
            shape.frame.pack(
                shape.length,
                _PRODUCE,
                self._version,
                0,
                correlation_id,
                shape.prefix,
                0,
                -1,
                xxh3_64_intdigest(checked),
            )
            + checked
        )

    def frame(self, correlation_id: int, batch: bytes, context: bytes = b"") -> bytes:
        """Put header, trace context (if any), request and batch together."""
        size = len(batch)
        mark = _bin_mark(size)
        length = _FRAME_OVERHEAD + len(context) + self._prefix_bytes + len(mark) + size
        flags = _TRACED if context else 0
        header = _FRAME.pack(length, _PRODUCE, self._version, flags, correlation_id)
        return b"".join((header, context, self._prefix, mark, batch))


def _bin_mark(size: int) -> bytes:
    """What msgpack writes before so many bytes; wider than it must be from 256 on."""
    return bytes((_BIN_8_MARK, size)) if size < 256 else _BIN_32.pack(_BIN_32_MARK, size)


def check_bytes(argument: str, value: Any) -> None:
    """Refuse what is neither bytes nor None.

    Raises:
        InvalidArgumentError: with the type that was given.
    """
    if value is not None and type(value) is not bytes:
        advice = "; encode it first" if isinstance(value, str) else ""
        raise InvalidArgumentError(argument, f"is {type(value).__name__}, not bytes{advice}")


def check_column(argument: str, column: Any) -> None:
    """Refuse a column with anything but bytes and None in it.

    Raises:
        InvalidArgumentError: with the first type that does not belong.
    """
    if not set(map(type, column)) <= _BYTES_OR_NONE:
        for index, value in enumerate(column):
            check_bytes(f"{argument}[{index}]", value)


def header_bytes(headers: Headers) -> int:
    """Check headers and estimate their encoded size, in bytes.

    Raises:
        InvalidArgumentError: a name is not a str, or a value neither bytes nor None.
    """
    try:
        flat = flatten_headers(headers)
    except (InvalidRecordError, TypeError, ValueError) as error:
        raise InvalidArgumentError(
            "headers", f"are not pairs of a name and bytes: {error}"
        ) from error
    return sum(len(item) + 5 for item in flat if item is not None)
