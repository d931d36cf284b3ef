"""Where the demo's lines come from: files given, standard input, or the source files around it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import streambus_broker
import streambus_client
import streambus_protocol
import streambus_raft
import streambus_storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDIN = "-"
_SUFFIXES = (".py", ".md", ".toml")
_SKIPPED = {"__pycache__", "node_modules", "build", "dist"}
_FILES_MAX = 5_000
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One file whose lines are sent; its key is what the user calls it.

    Attributes:
        key: The records' key.
        path: Where the bytes are.
        size_bytes: How many there are.
    """

    key: bytes
    path: str
    size_bytes: int


def find_sources(files: Sequence[str], stdin: BinaryIO, spool_directory: str) -> list[Source]:
    """Turn what the user gave into sources; without files, take those around the program.

    Args:
        files: Paths, ``-`` for standard input; a path given twice is sent twice.
        stdin: Standard input, copied to disk because its lines may have to be sent again.
        spool_directory: Where that copy goes.

    Raises:
        OSError: A file cannot be read.
    """
    sources: list[Source] = []
    for name in files or default_files():
        path = name
        if name == STDIN:
            path = os.path.join(spool_directory, f"stdin-{len(sources)}")
            with open(path, "wb") as spool:
                shutil.copyfileobj(stdin, spool)
        with open(path, "rb"):
            size_bytes = os.path.getsize(path)
        key = name.encode(errors="surrogateescape")
        taken = sum(source.key.partition(b"#")[0] == key for source in sources) if files else 0
        sources.append(Source(key + (b"#%d" % (taken + 1) if taken else b""), path, size_bytes))
    return sources


def default_files() -> list[str]:
    """List the source files around the program: the repository's, or the installed packages'."""
    here = os.path.dirname(os.path.abspath(streambus_broker.__file__))
    repository = os.path.abspath(os.path.join(here, *[os.pardir] * 4))
    if os.path.isdir(os.path.join(repository, "packages", "streambus-broker")):
        roots = [repository]
    else:
        modules = (
            streambus_broker,
            streambus_client,
            streambus_protocol,
            streambus_raft,
            streambus_storage,
        )
        roots = [os.path.dirname(str(module.__file__)) for module in modules]
    found = [path for root in roots for path in _walk(root)]
    return sorted(found)[:_FILES_MAX]


def _walk(root: str) -> Iterator[str]:
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if not name.startswith(".") and name not in _SKIPPED]
        for name in files:
            if name.endswith(_SUFFIXES):
                yield os.path.join(directory, name)


def chunks(source: Source) -> Iterator[list[bytes]]:
    """Read a source's lines, some at a time.

    A line ends with its newline and keeps it; the last may lack one. Nothing is decoded.
    """
    with open(source.path, "rb") as file:
        while lines := file.readlines(_CHUNK_BYTES):
            yield lines
