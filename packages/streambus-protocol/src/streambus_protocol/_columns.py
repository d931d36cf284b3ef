"""The columns of a record batch: encode many records at once, decode them at once.

One msgpack array of five columns: values, keys, timestamp deltas, headers, offset deltas. A column
that is all default is nil: no values, no keys, every record at the base timestamp, no headers,
offsets without gaps. Null and empty are different, and headers keep their order and repetitions.
A record's headers are one flat array: name, value, name, value ...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import NamedTuple, TypeAlias

import msgpack
from xxhash import xxh3_64_intdigest

from streambus_protocol._batch_header import (
    BATCH_HEADER_BYTES,
    CHECKED_HEADER,
    MAGIC,
    NO_PRODUCER_ID,
    PREFIX,
    RECORDS_MAX,
    BatchFlags,
    BatchHeader,
    check_batch,
    read_batch_header,
)
from streambus_protocol._codec import DECOMPRESSED_BYTES_MAX, Codec, compress, decompress
from streambus_protocol.errors import CorruptBatchError, InvalidRecordError

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]

_BYTES_OR_NONE = frozenset({bytes, type(None)})
_DELTA_MAX = 2**62
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


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
        if header.flags & BatchFlags.LOG_APPEND_TIME:
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
        InvalidRecordError: a name is not a str, or a value neither bytes nor None.
    """
    flat: list[str | bytes | None] = []
    for name, value in headers:
        if type(name) is not str or not (value is None or type(value) is bytes):
            raise InvalidRecordError(
                f"header {name!r}: a name is a str, a value is bytes or None, "
                f"not {type(value).__name__}"
            )
        flat += (name, value)
    return flat


def encode_batch(
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None] | None = None,
    *,
    base_timestamp_ms: int,
    timestamp_deltas: Sequence[int] | None = None,
    flat_headers: Sequence[list[str | bytes | None] | None] | None = None,
    offset_deltas: Sequence[int] | None = None,
    codec: int = Codec.NONE,
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
    columns = (values, keys, timestamp_deltas, flat_headers, offset_deltas)
    if not 0 < count <= RECORDS_MAX:
        raise InvalidRecordError(f"a batch holds 1 to {RECORDS_MAX} records, not {count}")
    if not set(map(type, values)) <= _BYTES_OR_NONE:
        raise InvalidRecordError("every value is bytes or None: encode other types first")
    max_timestamp_ms = base_timestamp_ms
    if any(column is not None for column in columns[1:]):
        _check_columns(count, keys, columns)
        if timestamp_deltas is not None:
            max_timestamp_ms += max(timestamp_deltas)
    try:
        plain: bytes = _pack(columns)
    except (TypeError, ValueError, OverflowError) as error:
        _pack.__self__.reset()
        raise InvalidRecordError(f"a record cannot be encoded: {error}") from error
    payload = plain
    if codec:
        payload = compress(codec, plain)
        if len(payload) >= len(plain):
            codec, payload = Codec.NONE, plain
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
            producer.producer_id,
            producer.base_sequence,
            producer.producer_epoch,
            0,
        )
        + payload
    )
    return PREFIX.pack(base_offset, leader_epoch, xxh3_64_intdigest(checked)) + checked


def _check_columns(
    count: int, keys: Sequence[bytes | None] | None, columns: tuple[Sequence[object] | None, ...]
) -> None:
    """Refuse columns that a decoder would refuse; values were checked before."""
    for column in columns:
        if column is not None and len(column) != count:
            raise InvalidRecordError(f"a column of {len(column)} entries beside {count} values")
    if keys is not None and not set(map(type, keys)) <= _BYTES_OR_NONE:
        raise InvalidRecordError("every key is bytes or None: encode other types first")
    problem = _invalid_rest(*columns[2:])
    if problem:
        raise InvalidRecordError(problem)


def _invalid_rest(deltas: object, flat_headers: object, offset_deltas: object) -> str | None:
    """Say what is wrong with the columns beside keys and values, or None."""
    if deltas is not None and not _are_deltas(deltas):
        return "timestamp deltas are not integers within range"
    if (
        offset_deltas is not None
        and not (
            _are_deltas(offset_deltas)
            and offset_deltas[0] == 0  # type: ignore[index]  # a non-empty sequence of int
            and all(map(int.__lt__, offset_deltas, offset_deltas[1:]))  # type: ignore[call-overload, index]
        )
    ):
        return "offset deltas do not ascend from 0"
    if flat_headers is not None:
        for flat in flat_headers:  # type: ignore[attr-defined]  # a sequence, by its caller
            if flat is not None and not _is_flat_headers(flat):
                return "headers are not name, value, name, value ..."
    return None


def _are_deltas(column: object) -> bool:
    numbers: Sequence[int] = column  # type: ignore[assignment]  # judged here
    return set(map(type, numbers)) == {int} and all(
        map(int.__le__, map(abs, numbers), repeat(_DELTA_MAX))
    )


def _is_flat_headers(flat: object) -> bool:
    return (
        type(flat) is list
        and len(flat) % 2 == 0
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
    payload = memoryview(batch)[BATCH_HEADER_BYTES : header.length]
    plain = decompress(header.codec, payload, header.columns_length, decompressed_bytes_max)
    count = header.record_count
    try:
        columns = msgpack.unpackb(plain, max_array_len=max(count, 5), max_map_len=0, max_ext_len=0)
    except (ValueError, MemoryError, msgpack.UnpackException) as error:
        raise CorruptBatchError(f"the columns of a batch cannot be read: {error}") from error
    if type(columns) is not list or len(columns) != 5:
        raise CorruptBatchError("a batch does not consist of five columns")
    for column in columns:
        if column is not None and (type(column) is not list or len(column) != count):
            raise CorruptBatchError(f"a column does not have the {count} entries of its batch")
    values, keys, deltas, flat_headers, offset_deltas = columns
    if values is None or not set(map(type, values)) <= _BYTES_OR_NONE:
        raise CorruptBatchError("a value is neither bytes nor nil")
    if keys is not None and not set(map(type, keys)) <= _BYTES_OR_NONE:
        raise CorruptBatchError("a key is neither bytes nor nil")
    problem = _invalid_rest(deltas, flat_headers, offset_deltas)
    if problem is None and offset_deltas is not None:
        problem = (
            None if offset_deltas[-1] == header.last_offset_delta else "last offset delta differs"
        )
    elif problem is None and header.last_offset_delta != count - 1:
        problem = "offsets have gaps, but no column says where"
    if problem:
        raise CorruptBatchError(problem)
    return Columns(header, values, keys, deltas, flat_headers, offset_deltas)
