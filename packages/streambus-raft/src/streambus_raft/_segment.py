"""The bytes of a log segment: headers, records, and the verdict on what a crash left.

Pure functions over bytes; ``docs/formats/raft-log.md`` describes the same format for others.

A segment is one header and then records. The checksum of every record is seeded with the number of
its segment and its own position, so that a record that strayed (a recycled block, a write at the
wrong place) never passes for one that belongs there.

Every record carries ``synced``: the position up to which this segment was known to be durable when
the record was written. This is what tells a torn tail from damage. A power cut may leave anything
after the last synced position, even a later record without an earlier one; it never harms what
lies before it. So a bad record at position p is *damage* exactly if some intact record further on
says ``synced > p`` (or if a later segment exists, because a segment is synced whole before its
successor is made, and the successor's header holds its length); otherwise it is a *torn tail*,
which nobody was ever promised.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

MAGIC: Final = b"SBRAFTLG"
VERSION: Final = 1
_HEADER: Final = struct.Struct("<8sIIQQ")  # magic, version, zero, number, bytes of predecessor
_CHECKSUM: Final = struct.Struct("<Q")
HEADER_BYTES: Final = _HEADER.size + _CHECKSUM.size
_LENGTHS: Final = struct.Struct("<II")  # body length, synced position
_RECORD: Final = struct.Struct("<IIQ")  # the same and the checksum
RECORD_BYTES: Final = _RECORD.size
ALIGNMENT: Final = 8
BODY_BYTES_MAX: Final = 1 << 30  # a length beyond this is never believed, let alone read
SEGMENT_BYTES_LIMIT: Final = (1 << 32) - 1  # positions are 32 bits wide
_PADDING: Final = tuple(bytes(count) for count in range(ALIGNMENT))


class Record(NamedTuple):
    """An intact record: where its header begins, and what it says."""

    position: int
    body: bytes


class SegmentScan(NamedTuple):
    """What a segment's bytes hold.

    Attributes:
        predecessor_bytes: Length of the segment before this one; -1 if the header is bad.
        records: The intact records from the start up to the first bad one.
        end: Position behind the last of them; 0 if even the header is bad.
        size: Length of the scanned bytes; ``end < size`` means that something is bad.
        problem: What is wrong at ``end``, empty if nothing is.
        damaged: Whether bytes before the last synced position are bad (else: a torn tail).
        version: The format version, or 0 if the header is bad.
    """

    predecessor_bytes: int
    records: list[Record]
    end: int
    size: int
    problem: str
    damaged: bool
    version: int


def encode_header(number: int, predecessor_bytes: int) -> bytes:
    """Encode the header of segment ``number`` (from 1); 0 predecessor bytes for the first."""
    head = _HEADER.pack(MAGIC, VERSION, 0, number, predecessor_bytes)
    return head + _CHECKSUM.pack(xxh3_64_intdigest(head))


def encode_record(body: bytes, number: int, position: int, synced: int) -> bytes:
    """Frame ``body`` for ``position`` in segment ``number``; the result is a multiple of 8 long."""
    lengths = _LENGTHS.pack(len(body), synced)
    checksum = xxh3_64_intdigest(body, _seed(lengths, number, position))
    padding = _PADDING[-len(body) % ALIGNMENT]
    return b"".join((lengths, _CHECKSUM.pack(checksum), body, padding))


def framed_bytes(body_bytes: int) -> int:
    """Say how long a record with a body of this length is in the file."""
    return RECORD_BYTES + body_bytes + -body_bytes % ALIGNMENT


def decode_record(data: bytes, number: int, position: int) -> bytes | None:
    """Return the body of the record that ``data`` begins with, or None if it is not intact."""
    if len(data) < RECORD_BYTES:
        return None
    length, _, _ = _RECORD.unpack_from(data)
    if length > BODY_BYTES_MAX or len(data) < framed_bytes(length):
        return None
    found = _intact(memoryview(data), 0, number, position)
    return None if found is None else bytes(found)


def scan_segment(data: bytes, number: int) -> SegmentScan:
    """Read a whole segment and judge what is bad in it.

    Cost: one checksum over all bytes; if the tail is bad, also a search through what follows.
    """
    size = len(data)
    header = _read_header(data, number)
    if isinstance(header, str):
        return SegmentScan(-1, [], 0, size, header, _synced_beyond(data, number, 0), 0)
    version, predecessor_bytes = header
    if version != VERSION:
        problem = f"format version {version} is unknown (this is {VERSION})"
        return SegmentScan(predecessor_bytes, [], 0, size, problem, True, version)
    view = memoryview(data)
    records: list[Record] = []
    position = HEADER_BYTES
    while position < size:
        body = _intact(view, position, number, position)
        if body is None:
            damaged = _synced_beyond(data, number, position)
            problem = _describe(data, position)
            return SegmentScan(
                predecessor_bytes, records, position, size, problem, damaged, version
            )
        records.append(Record(position, bytes(body)))
        position += framed_bytes(len(body))
    return SegmentScan(predecessor_bytes, records, position, size, "", False, version)


def _read_header(data: bytes, number: int) -> tuple[int, int] | str:
    if len(data) < HEADER_BYTES:
        return f"the header is cut off after {len(data)} of {HEADER_BYTES} bytes"
    magic, version, _, found_number, predecessor_bytes = _HEADER.unpack_from(data)
    if magic != MAGIC:
        return "the header does not begin with the magic bytes"
    (checksum,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    if checksum != xxh3_64_intdigest(data[: _HEADER.size]):
        return "the header's checksum does not match"
    if found_number != number:
        return f"the header says segment {found_number}, the name says {number}"
    return version, predecessor_bytes


def _seed(lengths: bytes, number: int, position: int) -> int:
    return xxh3_64_intdigest(lengths, (number << 32 | position) & 0xFFFF_FFFF_FFFF_FFFF)


def _intact(view: memoryview, offset: int, number: int, position: int) -> memoryview | None:
    """Return the body of the record at ``offset`` of ``view`` if all of it is as it was written."""
    if offset + RECORD_BYTES > len(view):
        return None
    length, _, checksum = _RECORD.unpack_from(view, offset)
    end = offset + framed_bytes(length)
    if length == 0 or length > BODY_BYTES_MAX or end > len(view):
        return None
    start = offset + RECORD_BYTES
    body = view[start : start + length]
    lengths = bytes(view[offset : offset + _LENGTHS.size])
    if checksum != xxh3_64_intdigest(body, _seed(lengths, number, position)):
        return None
    return None if any(view[start + length : end]) else body


def _synced_beyond(data: bytes, number: int, bad: int) -> bool:
    """Whether an intact record after position ``bad`` proves that ``bad`` had been synced."""
    view = memoryview(data)
    first = max(HEADER_BYTES, bad + ALIGNMENT)
    for position in range(first, len(data) - RECORD_BYTES, ALIGNMENT):
        length, synced = _LENGTHS.unpack_from(data, position)
        if not bad < synced <= position or not 0 < length <= len(data) - position:
            continue
        if _intact(view, position, number, position) is not None:
            return True
    return False


def _describe(data: bytes, position: int) -> str:
    left = len(data) - position
    if left < RECORD_BYTES:
        return f"a record header is cut off after {left} of {RECORD_BYTES} bytes"
    length, _, _ = _RECORD.unpack_from(data, position)
    if length == 0 and not any(data[position : position + RECORD_BYTES]):
        return f"{left} bytes that were never written"
    if length == 0 or length > BODY_BYTES_MAX:
        return f"a record claims a length of {length} bytes"
    if framed_bytes(length) > left:
        return f"a record of {length} bytes is cut off after {left - RECORD_BYTES}"
    return "a record's checksum does not match"
