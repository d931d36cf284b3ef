"""The fixed parts of a table file; docs/formats/sstable.md describes the whole.

A file is: raw values and data blocks as they came, then filter block, index block, and a
footer of fixed size. The index is msgpack columns: ``[last keys, offsets, lengths, counts]``,
one row per data block; the lengths include the trailers.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from streambus_storage.errors import CorruptionError, FormatVersionError

TABLE_MAGIC = b"SBUSSST\n"
TABLE_VERSION = 1
_FOOTER = struct.Struct("<QIQIQQI8s")
_CHECKSUM = struct.Struct("<Q")
FOOTER_BYTES = _FOOTER.size + _CHECKSUM.size


class Footer(NamedTuple):
    """Where the parts of a table are.

    Attributes:
        index_offset: Offset of the index block.
        index_length: Its length with trailer.
        filter_offset: Offset of the filter block.
        filter_length: Its length with trailer; 0: there is none.
        entries: Number of entries, deletes included.
        tombstones: Number of deletes among them.
    """

    index_offset: int
    index_length: int
    filter_offset: int
    filter_length: int
    entries: int
    tombstones: int


def encode_footer(footer: Footer) -> bytes:
    """Return the last bytes of a table file."""
    head = _FOOTER.pack(*footer, TABLE_VERSION, TABLE_MAGIC)
    return _CHECKSUM.pack(xxh3_64_intdigest(head)) + head


def decode_footer(data: bytes, path: str, offset: int) -> Footer:
    """Decode the last bytes of a table file; ``offset`` is where they begin.

    Raises:
        CorruptionError: They are not a footer, or a damaged one.
        FormatVersionError: The table is of a later format.
    """
    if len(data) != FOOTER_BYTES:
        raise CorruptionError(path, offset, "the table's footer is cut short")
    (checksum,) = _CHECKSUM.unpack_from(data)
    if checksum != xxh3_64_intdigest(data[_CHECKSUM.size :]):
        raise CorruptionError(path, offset, "the table's footer is damaged")
    *parts, version, magic = _FOOTER.unpack_from(data, _CHECKSUM.size)
    if magic != TABLE_MAGIC:
        raise CorruptionError(path, offset, "not a table: its last bytes are not the magic")
    if version > TABLE_VERSION:
        raise FormatVersionError(path, version, TABLE_VERSION)
    footer = Footer(*parts)
    if (
        footer.index_offset + footer.index_length > offset
        or footer.filter_offset + footer.filter_length > offset
    ):
        raise CorruptionError(path, offset, "the table's footer points outside of the file")
    return footer
