"""Checkpoints: an independent copy of a tree that costs hard links, not bytes.

The memtables are flushed first, so that a checkpoint is tables and a manifest only. It is built
under a temporary name and renamed when everything in it is durable: a directory of the final
name is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Protocol

from streambus_storage._directories import make_durable_directory
from streambus_storage._errors_io import translate
from streambus_storage._manifest import Manifest
from streambus_storage._manifest_format import ManifestState
from streambus_storage._names import TEMPORARY, table_path
from streambus_storage.errors import InvalidArgumentError

if TYPE_CHECKING:
    from streambus_storage._filesystem import FileSystem
    from streambus_storage._store import Store

COPY_BYTES = 1 << 20
"""Piece in which a file is copied where it cannot be linked."""


class Flushable(Protocol):
    """The tree, as seen from here."""

    def flush(self) -> None:
        """Write all memtables to tables."""


def write_checkpoint(tree: Flushable, store: Store, directory: str) -> None:
    """See `LSMTree.checkpoint`."""
    fs = store.file_system
    if fs.exists(directory):
        raise InvalidArgumentError(f"{directory}: exists already")
    tree.flush()
    tables = store.present().tables  # holding it keeps the files of its tables
    temporary = directory + TEMPORARY
    parent = os.path.dirname(os.path.abspath(directory))
    with translate(directory, "checkpoint"):
        if fs.exists(temporary):
            _remove(fs, temporary)
        make_durable_directory(fs, parent)
        fs.make_directory(temporary)
        try:
            for number, table in tables.by_number.items():
                _link_or_copy(fs, table.path, table_path(temporary, number))
            state = ManifestState(
                version=tables.version, next_table=max(tables.by_number, default=0) + 1
            )
            Manifest(fs, temporary, 1, state).close()
            fs.sync_directory(temporary)
            fs.rename(temporary, directory)
            fs.sync_directory(parent)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(fs, temporary)
            raise


def _link_or_copy(fs: FileSystem, source: str, target: str) -> None:
    """Give a table a second name; copy it where that is another file system."""
    try:
        fs.link(source, target)
    except OSError as exc:
        if exc.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            raise
    else:
        return
    reader = fs.open_read(source)
    try:
        writer = fs.create(target)
        try:
            size, offset = reader.size(), 0
            while offset < size:
                data = reader.read(offset, min(COPY_BYTES, size - offset))
                writer.append(data)
                offset += len(data)
            writer.sync()
        finally:
            writer.close()
    finally:
        reader.close()


def _remove(fs: FileSystem, directory: str) -> None:
    """Remove a flat directory."""
    for name in fs.list_directory(directory):
        fs.unlink(os.path.join(directory, name))
    fs.remove_directory(directory)
