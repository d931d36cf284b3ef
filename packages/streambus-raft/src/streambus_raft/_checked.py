"""Small files that are written once and whole: magic, version, length, checksum, then msgpack."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import msgpack
from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_raft._files import FileSystem

_HEAD: Final = struct.Struct("<8sIIQ")  # magic, version, body length, checksum of the body


class CheckedFileError(Exception):
    """The bytes are not what was written."""


def encode_checked(magic: bytes, version: int, fields: Sequence[object]) -> bytes:
    """Encode ``fields`` as the content of a whole file; ``magic`` is 8 bytes long."""
    body: bytes = msgpack.packb(fields)
    return _HEAD.pack(magic, version, len(body), xxh3_64_intdigest(body)) + body


def decode_checked(magic: bytes, version: int, data: bytes) -> tuple[Any, ...]:
    """Decode the content of a whole file; arrays come as tuples.

    Raises:
        CheckedFileError: cut off, damaged, another kind of file, or of an unknown version.
    """
    if len(data) < _HEAD.size:
        raise CheckedFileError(f"cut off after {len(data)} bytes")
    found_magic, found_version, length, checksum = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if found_magic != magic:
        raise CheckedFileError("the magic bytes are wrong")
    if found_version != version:
        raise CheckedFileError(f"format version {found_version} is unknown (this is {version})")
    if len(body) != length:
        raise CheckedFileError(f"{len(body)} of {length} bytes of content")
    if checksum != xxh3_64_intdigest(body):
        raise CheckedFileError("the checksum does not match")
    fields = msgpack.unpackb(body, use_list=False)
    if not isinstance(fields, tuple):
        raise CheckedFileError("the content is no array")
    return fields


def write_durably(files: FileSystem, directory: str, name: str, data: bytes) -> None:
    """Write a whole file under a temporary name, sync it, rename it, sync the directory.

    After failure: the name is as it was before, or holds all of ``data``.
    """
    temporary = f"{directory}/{name}.tmp"
    files.unlink(temporary)
    file = files.open_append(temporary)
    try:
        file.write(data)
        file.sync()
    finally:
        file.close()
    files.rename(temporary, f"{directory}/{name}")
    files.sync_directory(directory)
