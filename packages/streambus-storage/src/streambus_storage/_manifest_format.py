"""The bytes of the manifest; docs/formats/manifest.md describes them for other languages.

A manifest is a header and a list of checksummed edits; the first edit holds the whole state.
CURRENT names the manifest that is valid.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import msgpack
from xxhash import xxh3_64_intdigest

from streambus_storage._intervals import Intervals
from streambus_storage._levels import TableMeta, Version, VersionEdit, VersionError
from streambus_storage._options import LEVELS
from streambus_storage.errors import CorruptionError, FormatVersionError

MANIFEST_MAGIC = b"SBUSMAN\n"
MANIFEST_VERSION = 1
_HEADER = struct.Struct("<8sIIQ")
_CHECKSUM = struct.Struct("<Q")
MANIFEST_HEADER_BYTES = _HEADER.size + _CHECKSUM.size
_RECORD = struct.Struct("<QI")


@dataclass(slots=True)
class Segment:
    """A log segment whose writes are not all in tables.

    Attributes:
        number: Names its file.
        sealed: Its length, once nothing will be appended any more and all of it is durable.
    """

    number: int
    sealed: int | None = None


@dataclass(slots=True)
class ManifestEdit:
    """One atomic change of the tree's state.

    Attributes:
        version: Change of the tables.
        segments: Segments that are new, or newly sealed.
        dropped: Numbers of segments that are not needed any more.
        next_table: Number for the next table, at least.
        next_segment: Number for the next segment, at least.
        holes: Range deletes of the state (first edit of a manifest only).
    """

    version: VersionEdit = field(default_factory=VersionEdit)
    segments: list[Segment] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    next_table: int = 0
    next_segment: int = 0
    holes: Intervals = field(default_factory=Intervals)


@dataclass(slots=True)
class ManifestState:
    """What the edits add up to.

    Attributes:
        version: The tables.
        segments: Live log segments by number, in the order in which they were written.
        next_table: Number for the next table.
        next_segment: Number for the next segment.
    """

    version: Version = field(default_factory=Version)
    segments: dict[int, Segment] = field(default_factory=dict)
    next_table: int = 1
    next_segment: int = 1

    def apply(self, edit: ManifestEdit) -> None:
        """Carry out an edit.

        Raises:
            VersionError: It does not fit the state, which is unchanged then.
        """
        version = self.version
        if edit.holes:
            version = Version(version.levels, edit.holes, version.sequence)
        version = version.apply(edit.version)
        missing = [number for number in edit.dropped if number not in self.segments]
        if missing:
            raise VersionError(f"segments {missing} are not there to be dropped")
        self.version = version
        for segment in edit.segments:
            self.segments[segment.number] = segment
        for number in edit.dropped:
            del self.segments[number]
        self.next_table = max(self.next_table, edit.next_table)
        self.next_segment = max(self.next_segment, edit.next_segment)

    def whole(self) -> ManifestEdit:
        """Return the edit that makes this state out of an empty one."""
        added = [(level, table) for level, table in self.version.tables()]
        return ManifestEdit(
            version=VersionEdit(added=added, sequence=self.version.sequence),
            segments=list(self.segments.values()),
            next_table=self.next_table,
            next_segment=self.next_segment,
            holes=self.version.holes,
        )


def encode_manifest_header(number: int) -> bytes:
    """Return the first bytes of a manifest."""
    head = _HEADER.pack(MANIFEST_MAGIC, MANIFEST_VERSION, 0, number)
    return head + _CHECKSUM.pack(xxh3_64_intdigest(head))


def encode_edit(edit: ManifestEdit, number: int) -> bytes:
    """Return the record of an edit in manifest ``number``."""
    version = edit.version
    payload: bytes = msgpack.packb(
        {
            "add": [
                [level, t.number, t.size, t.entries, t.tombstones, t.lower, t.upper, t.clean]
                for level, t in version.added
            ],
            "remove": version.removed,
            "delete": [list(row) for row in version.deleted],
            "sequence": version.sequence,
            "segments": [[segment.number, segment.sealed] for segment in edit.segments],
            "drop": edit.dropped,
            "next": [edit.next_table, edit.next_segment],
            "holes": [list(row) for row in edit.holes],
        }
    )
    return _RECORD.pack(xxh3_64_intdigest(payload, number), len(payload)) + payload


def decode_manifest(data: bytes, number: int, path: str) -> tuple[ManifestState, int]:
    """Decode a manifest; return the state and where the valid edits end.

    A damaged last edit is taken for one that was being written when the power went: it is left
    out. (Had it been acknowledged, then a segment or table that it replaced would be missing,
    which recovery reports.)

    Raises:
        CorruptionError: Header or first edit are damaged, or one that others follow.
        FormatVersionError: The manifest is of a later format.
    """
    if len(data) < MANIFEST_HEADER_BYTES:
        raise CorruptionError(path, len(data), "the manifest's header is cut short")
    magic, version, _, found = _HEADER.unpack_from(data)
    (checksum,) = _CHECKSUM.unpack_from(data, _HEADER.size)
    if magic != MANIFEST_MAGIC or checksum != xxh3_64_intdigest(data[: _HEADER.size]):
        raise CorruptionError(path, 0, "the manifest's header is damaged")
    if version > MANIFEST_VERSION:
        raise FormatVersionError(path, version, MANIFEST_VERSION)
    if found != number:
        raise CorruptionError(path, 16, f"the header is that of manifest {found}")
    state = ManifestState()
    offset = MANIFEST_HEADER_BYTES
    while offset < len(data):
        payload = _record_at(data, offset, number)
        if payload is None:
            if offset == MANIFEST_HEADER_BYTES:
                raise CorruptionError(path, offset, "the manifest's first edit is damaged")
            if _any_record_after(data, offset + 1, number):
                raise CorruptionError(path, offset, "an edit is damaged, and others follow it")
            break
        try:
            state.apply(_edit(msgpack.unpackb(payload, use_list=True)))
        except (VersionError, ValueError, TypeError, KeyError, IndexError) as exc:
            raise CorruptionError(path, offset, f"an edit makes no sense: {exc}") from exc
        offset += _RECORD.size + len(payload)
    if offset == MANIFEST_HEADER_BYTES:
        raise CorruptionError(path, offset, "the manifest holds no edit")
    return state, offset


def _record_at(data: bytes, offset: int, number: int) -> bytes | None:
    """Return the payload of the record at ``offset`` if it is whole and undamaged."""
    if offset + _RECORD.size > len(data):
        return None
    checksum, length = _RECORD.unpack_from(data, offset)
    begin = offset + _RECORD.size
    if begin + length > len(data):
        return None
    payload = data[begin : begin + length]
    return payload if checksum == xxh3_64_intdigest(payload, number) else None


def _any_record_after(data: bytes, offset: int, number: int) -> bool:
    """Tell whether an undamaged record begins anywhere from ``offset`` on."""
    at = data.find(b"\x88\xa3add", offset)  # how every edit's payload begins
    while at >= 0:
        begin = at - _RECORD.size
        if begin >= offset and _record_at(data, begin, number) is not None:
            return True
        at = data.find(b"\x88\xa3add", at + 1)
    return False


def _edit(fields: Any) -> ManifestEdit:
    """Turn decoded fields into an edit, checking what they hold."""
    added: list[tuple[int, TableMeta]] = []
    for level, *rest in fields["add"]:
        table = TableMeta(*rest)
        numbers = (table.number, table.size, table.entries, table.tombstones, table.clean, level)
        if not all(type(value) is int and value >= 0 for value in numbers) or level >= LEVELS:
            raise ValueError(f"a table with the numbers {numbers}")
        if not (type(table.lower) is bytes and type(table.upper) is bytes):
            raise ValueError("a table with bounds that are not bytes")
        added.append((level, table))
    return ManifestEdit(
        version=VersionEdit(
            added=added,
            removed=_integers(fields["remove"]),
            deleted=[(_key(start), _key(stop)) for start, stop in fields["delete"]],
            sequence=None if fields["sequence"] is None else _integers([fields["sequence"]])[0],
        ),
        segments=[
            Segment(_integers([number])[0], None if sealed is None else _integers([sealed])[0])
            for number, sealed in fields["segments"]
        ],
        dropped=_integers(fields["drop"]),
        next_table=_integers(fields["next"])[0],
        next_segment=_integers(fields["next"])[1],
        holes=Intervals(
            (_key(start), _key(stop), _integers([sequence])[0])
            for start, stop, sequence in fields["holes"]
        ),
    )


def _integers(values: Any) -> list[int]:
    if not all(type(value) is int and value >= 0 for value in values):
        raise ValueError("not a list of numbers")
    return list(values)


def _key(value: Any) -> bytes:
    if type(value) is not bytes:
        raise ValueError("a key that is not bytes")
    return value


def encode_current(number: int) -> bytes:
    """Return the content of CURRENT: one line of text, number and checksum."""
    return f"MANIFEST-{number:06d} {xxh3_64_intdigest(str(number).encode()):016x}\n".encode()


def decode_current(data: bytes, path: str) -> int:
    """Return the number of the valid manifest.

    Raises:
        CorruptionError: CURRENT is damaged.
    """
    try:
        name, checksum = data.decode("ascii").split()
        number = int(name.removeprefix("MANIFEST-"))
        sound = int(checksum, 16) == xxh3_64_intdigest(str(number).encode())
    except ValueError as exc:
        raise CorruptionError(path, 0, "CURRENT does not name a manifest") from exc
    if not sound or data != encode_current(number):
        raise CorruptionError(path, 0, "CURRENT is damaged")
    return number
