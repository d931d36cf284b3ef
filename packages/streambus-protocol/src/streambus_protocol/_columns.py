"""The columns of a record batch: encode many records at once, decode them at once.

One msgpack array of five columns: values, keys, timestamp deltas, headers, offset deltas. A column
that is all default is nil: no values, no keys, every record at the base timestamp, no headers,
offsets without gaps. Null and empty are different, and headers keep their order and repetitions.
A record's headers are one flat array: name, value, name, value ...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgpack
from xxhash import xxh3_64_intdigest

from streambus_protocol._batch_header import (
    BATCH_HEADER_BYTES,
    CHECKED_HEADER,
    LOG_APPEND_TIME,
    MAGIC,
    NO_PRODUCER_ID,
    PREFIX,
    RECORDS_MAX,
    BatchHeader,
    check_batch,
    read_batch_header,
)
from streambus_protocol._budget import SMALL_BYTES, ListBudget, no_maps
from streambus_protocol._codec import DECOMPRESSED_BYTES_MAX, Codec, compress, decompress
from streambus_protocol._packing import pack
from streambus_protocol.errors import CorruptBatchError, InvalidRecordError

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

_BYTES_OR_NONE = frozenset({bytes, type(None)})
_DELTA_MAX = 2**62
HEADERS_MAX = 1000
"""The most headers of one record."""
_ALL_DEFAULT = [None, None, None, None]
_COLUMNS = 5
_GAPS = "the offsets end elsewhere than the header says"


class ProducerStamp(NamedTuple):
    """Who made a batch, for deduplication.

    Attributes:
        producer_id: given by the cluster, 0 or more; -1 for none.
        producer_epoch: 0 or more; -1 for none.
        base_sequence: sequence number of the first record; -1 for none.
    """

    producer_id: int
    producer_epoch: int
    base_sequence: int


NO_PRODUCER = ProducerStamp(NO_PRODUCER_ID, -1, -1)


class Columns(NamedTuple):
    """The records of one batch, a sequence for each attribute, all of ``record_count`` length.

    Attributes:
        header: the batch's header.
        values: a record's bytes, or None.
        keys: the same for keys; None where no record has one.
        timestamp_deltas: milliseconds after base_timestamp_ms; None where all are 0.
        flat_headers: a record's headers as name, value, name, value ...; None where none has any.
        offset_deltas: ascending, counted from base_offset; None where they are 0, 1, 2 ...
    """

    header: BatchHeader
    values: list[bytes | None]
    keys: list[bytes | None] | None
    timestamp_deltas: list[int] | None
    flat_headers: list[list[str | bytes | None] | None] | None
    offset_deltas: list[int] | None

    @property
    def offsets(self) -> Sequence[int]:
        """The offset of each record."""
        base = self.header.base_offset
        if self.offset_deltas is None:
            return range(base, base + self.header.record_count)
        return [base + delta for delta in self.offset_deltas]

    @property
    def timestamps_ms(self) -> Sequence[int]:
        """The timestamp of each record, in milliseconds since 1970-01-01 UTC."""
        header = self.header
        if header.flags & LOG_APPEND_TIME:
            return [header.max_timestamp_ms] * header.record_count
        if self.timestamp_deltas is None:
            return [header.base_timestamp_ms] * header.record_count
        base = header.base_timestamp_ms
        return [base + delta for delta in self.timestamp_deltas]

    def headers(self, index: int) -> tuple[tuple[str, bytes | None], ...]:
        """The headers of record ``index`` as pairs, in their order."""
        flat = self.flat_headers[index] if self.flat_headers is not None else None
        if not flat:
            return ()
        return tuple(zip(flat[::2], flat[1::2], strict=True))  # type: ignore[arg-type]  # checked


def flatten_headers(headers: Iterable[tuple[str, bytes | None]]) -> list[str | bytes | None]:
    """Turn pairs into the stored flat form.

    Raises:
        InvalidRecordError: a name is not a str, a value neither bytes nor None, or there are more
            than HEADERS_MAX.
    """
    flat: list[str | bytes | None] = []
    for name, value in headers:
        if type(name) is not str or not (value is None or type(value) is bytes):
            raise InvalidRecordError(
                f"header {name!r}: a name is a str, a value is bytes or None, "
                f"not {type(value).__name__}"
            )
        flat += (name, value)
    if len(flat) > 2 * HEADERS_MAX:
        raise InvalidRecordError(f"{len(flat) // 2} headers are over the limit of {HEADERS_MAX}")
    return flat


def encode_batch(
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None] | None = None,
    *,
    base_timestamp_ms: int,
    timestamp_deltas: Sequence[int] | None = None,
    flat_headers: Sequence[list[str | bytes | None] | None] | None = None,
    offset_deltas: Sequence[int] | None = None,
    codec: int = 0,
    flags: int = 0,
    producer: ProducerStamp = NO_PRODUCER,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytes:
    """Encode records into one batch.

    Args:
        values: one for each record, 1 to RECORDS_MAX of them, bytes or None.
        keys: as many as values, or None for no keys at all.
        base_timestamp_ms: milliseconds since 1970-01-01 UTC.
        timestamp_deltas: milliseconds after (or before) it, as many as values; None for all 0.
        flat_headers: as many as values, each from ``flatten_headers`` or None; None for none.
        offset_deltas: ascending from 0, for a batch with gaps; None for no gaps.
        codec: a Codec number; a batch that it would make larger is sent uncompressed.
        flags: BatchFlags bits.
        producer: who sends it, for deduplication.
        base_offset: for who writes a log itself; a leader overwrites it.
        leader_epoch: the same.

    Raises:
        InvalidRecordError: columns of different lengths, none or too many records, or a value,
            key, header or delta of a wrong type; nothing was encoded.
    """
    count = len(values)
    if not 0 < count <= RECORDS_MAX:
        raise InvalidRecordError(f"a batch holds 1 to {RECORDS_MAX} records, not {count}")
    if not set(map(type, values)) <= _BYTES_OR_NONE:
        raise InvalidRecordError("every value is bytes or None: encode other types first")
    max_timestamp_ms = base_timestamp_ms
    columns = [values, keys, timestamp_deltas, flat_headers, offset_deltas]
    if columns[1:] != _ALL_DEFAULT:
        _check_columns(count, keys, columns)
        if timestamp_deltas is not None:
            max_timestamp_ms += max(timestamp_deltas)
    try:
        plain = pack(columns)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRecordError(f"a record cannot be encoded: {error}") from error
    payload = plain
    if codec:
        payload = compress(codec, plain)
        if len(payload) >= len(plain):
            codec, payload = Codec.NONE, plain
    producer_id, producer_epoch, base_sequence = producer
    checked = (
        CHECKED_HEADER.pack(
            BATCH_HEADER_BYTES + len(payload),
            MAGIC,
            codec,
            flags,
            count,
            count - 1 if offset_deltas is None else offset_deltas[-1],
            len(plain),
            base_timestamp_ms,
            max_timestamp_ms,
            producer_id,
            base_sequence,
            producer_epoch,
            0,
        )
        + payload
    )
    return PREFIX.pack(base_offset, leader_epoch, xxh3_64_intdigest(checked)) + checked


def _check_columns(count: int, keys: Sequence[bytes | None] | None, columns: list[Any]) -> None:
    """Refuse columns that a decoder would refuse; values were checked before."""
    for column in columns:
        if column is not None and len(column) != count:
            raise InvalidRecordError(f"a column of {len(column)} entries beside {count} values")
    if keys is not None and not set(map(type, keys)) <= _BYTES_OR_NONE:
        raise InvalidRecordError("every key is bytes or None: encode other types first")
    problem = _invalid_rest(*columns[2:])
    if problem:
        raise InvalidRecordError(problem)


def _invalid_rest(deltas: Any, flat_headers: Any, offset_deltas: Any) -> str | None:
    """Say what is wrong with the columns beside keys and values, or None."""
    if deltas is not None and not _are_deltas(deltas):
        return "timestamp deltas are not integers within range"
    if offset_deltas is not None and not _is_ascending(offset_deltas):
        return "offset deltas do not ascend from 0"
    if flat_headers is not None:
        for flat in flat_headers:
            if flat is not None and not _is_flat_headers(flat):
                return f"headers are not name, value, name, value ..., {HEADERS_MAX} at most"
    return None


def _is_ascending(numbers: Any) -> bool:
    return (
        _are_deltas(numbers) and numbers[0] == 0 and all(map(int.__lt__, numbers[:-1], numbers[1:]))
    )


def _are_deltas(numbers: Any) -> bool:
    return set(map(type, numbers)) == {int} and (
        min(numbers) >= -_DELTA_MAX and max(numbers) <= _DELTA_MAX
    )


def _is_flat_headers(flat: Any) -> bool:
    return (
        type(flat) is list
        and len(flat) % 2 == 0
        and len(flat) <= 2 * HEADERS_MAX
        and set(map(type, flat[::2])) <= {str}
        and set(map(type, flat[1::2])) <= _BYTES_OR_NONE
    )


def decode_columns(
    batch: bytes | memoryview,
    *,
    decompressed_bytes_max: int = DECOMPRESSED_BYTES_MAX,
    verify: bool = True,
) -> Columns:
    """Open a batch.

    Args:
        batch: one whole batch; bytes behind it are ignored.
        decompressed_bytes_max: the most memory that its columns may take.
        verify: check the checksum; False only for bytes that were verified in this process.

    Raises:
        BatchError: damaged, too large or of an unknown kind; see its subclasses.
    """
    header = check_batch(batch) if verify else read_batch_header(batch)
    payload: Any = memoryview(batch)[BATCH_HEADER_BYTES : header.length]
    if header.codec or len(payload) != header.columns_length:
        payload = decompress(header.codec, payload, header.columns_length, decompressed_bytes_max)
    count = header.record_count
    lengths = {"max_array_len": max(count, 2 * HEADERS_MAX), "max_map_len": 0, "max_ext_len": 0}
    hooks: dict[str, Any] = {}
    if len(payload) > SMALL_BYTES:
        hooks = {"list_hook": ListBudget(count + _COLUMNS + 1), "object_hook": no_maps}
    try:
        columns = msgpack.unpackb(payload, **lengths, **hooks)
    except (ValueError, MemoryError, msgpack.UnpackException) as error:
        raise CorruptBatchError(f"the columns of a batch cannot be read: {error}") from error
    if type(columns) is not list or len(columns) != _COLUMNS:
        raise CorruptBatchError("a batch does not consist of five columns")
    for column in columns:
        if column is not None and (type(column) is not list or len(column) != count):
            raise CorruptBatchError(f"a column does not have the {count} entries of its batch")
    values, keys, deltas, flat_headers, offset_deltas = columns
    if values is None or not set(map(type, values)) <= _BYTES_OR_NONE:
        raise CorruptBatchError("a value is neither bytes nor nil")
    if columns[1:] != _ALL_DEFAULT:
        _check_decoded(header, keys, deltas, flat_headers, offset_deltas)
    elif header.last_offset_delta != count - 1:
        raise CorruptBatchError(_GAPS)
    return Columns(header, values, keys, deltas, flat_headers, offset_deltas)


def _check_decoded(
    header: BatchHeader, keys: Any, deltas: Any, flat_headers: Any, offset_deltas: Any
) -> None:
    """Judge the columns that are seldom there."""
    if keys is not None and not set(map(type, keys)) <= _BYTES_OR_NONE:
        raise CorruptBatchError("a key is neither bytes nor nil")
    problem = _invalid_rest(deltas, flat_headers, offset_deltas)
    if problem is None:
        last = header.record_count - 1 if offset_deltas is None else offset_deltas[-1]
        problem = _GAPS if last != header.last_offset_delta else None
    if problem:
        raise CorruptBatchError(problem)
