"""The manifest on disk: appended edits, and the atomic switch to a new one.

Order of a switch: write and sync the new manifest, sync the directory (its name), write and
sync CURRENT.tmp, rename it to CURRENT, sync the directory again. Before the rename is durable
the old manifest is valid, after it the new one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from streambus_storage._errors_io import translate
from streambus_storage._manifest_format import (
    ManifestEdit,
    ManifestState,
    decode_current,
    decode_manifest,
    encode_current,
    encode_edit,
    encode_manifest_header,
)
from streambus_storage._names import CURRENT, TEMPORARY, manifest_path
from streambus_storage.errors import CorruptionError

if TYPE_CHECKING:
    from streambus_storage._filesystem import AppendFile, FileSystem

ROLL_BYTES = 4 << 20
"""A manifest that has grown past this, and to twice its beginning, is replaced by a new one."""

FILE_BYTES_MAX = 1 << 31
"""No manifest is longer."""


class Manifest:
    """A manifest that is appended to. Guarded by the tree's manifest lock.

    Attributes:
        number: Of the manifest.
        state: What its edits add up to.
    """

    def __init__(
        self, file_system: FileSystem, directory: str, number: int, state: ManifestState
    ) -> None:
        """Write a new manifest for ``state`` and make it the valid one.

        Raises:
            OSError: That failed; what was valid before is valid still, or this one is.
        """
        self.number = number
        self.state = state
        self._file_system = file_system
        self._directory = directory
        self._file = self._write(number)
        self._first_bytes = self._file.size

    def _write(self, number: int) -> AppendFile:
        """Write a manifest with the present state and switch CURRENT to it."""
        fs, directory = self._file_system, self._directory
        file = fs.create(manifest_path(directory, number))
        try:
            file.append(encode_manifest_header(number) + encode_edit(self.state.whole(), number))
            file.sync()
            fs.sync_directory(directory)
            temporary = os.path.join(directory, CURRENT + TEMPORARY)
            if fs.exists(temporary):
                fs.unlink(temporary)
            current = fs.create(temporary)
            try:
                current.append(encode_current(number))
                current.sync()
            finally:
                current.close()
            fs.rename(temporary, os.path.join(directory, CURRENT))
            fs.sync_directory(directory)
        except BaseException:
            file.close()
            raise
        return file

    def append(self, edit: ManifestEdit) -> None:
        """Write an edit down, without a sync, and carry it out in `state`.

        Raises:
            OSError: It was not written; nothing has changed.
            VersionError: It does not fit; nothing was written.
        """
        edit.next_table = max(edit.next_table, self.state.next_table)
        edit.next_segment = max(edit.next_segment, self.state.next_segment)
        following = ManifestState(
            self.state.version,
            dict(self.state.segments),
            self.state.next_table,
            self.state.next_segment,
        )
        following.apply(edit)
        self._file.append(encode_edit(edit, self.number))
        self.state = following

    def sync(self) -> None:
        """Make the appended edits durable.

        Raises:
            OSError: It failed, which is final: nobody knows which state is on the disk.
        """
        self._file.sync()

    def wants_roll(self) -> bool:
        """Tell whether the manifest has grown enough to be replaced."""
        return self._file.size > max(ROLL_BYTES, 2 * self._first_bytes)

    def roll(self) -> int:
        """Replace the manifest by a new one with the same state; return the old one's number.

        Raises:
            OSError: It failed; which one is valid is unknown.
        """
        old, old_number = self._file, self.number
        file = self._write(old_number + 1)
        old.close()
        self._file, self.number, self._first_bytes = file, old_number + 1, file.size
        return old_number

    def close(self) -> None:
        """Close the file. Does not sync."""
        self._file.close()


def read_whole(file_system: FileSystem, path: str, bytes_max: int = FILE_BYTES_MAX) -> bytes:
    """Read a file.

    Raises:
        CorruptionError: It is longer than ``bytes_max``.
        StorageIOError: It is missing, or cannot be read.
    """
    with translate(path, "open"):
        file = file_system.open_read(path)
    try:
        with translate(path, "read"):
            size = file.size()
            if size > bytes_max:
                raise CorruptionError(path, bytes_max, f"{size} bytes long: too long")
            return file.read(0, size)
    finally:
        file.close()


def load(file_system: FileSystem, directory: str) -> tuple[ManifestState, int]:
    """Read the valid manifest of a directory that has a CURRENT; return (state, number).

    Raises:
        CorruptionError: CURRENT or the manifest are damaged, or the manifest is missing.
        FormatVersionError: The manifest is of a later format.
        StorageIOError: They cannot be read.
    """
    current = os.path.join(directory, CURRENT)
    number = decode_current(read_whole(file_system, current, 4096), current)
    path = manifest_path(directory, number)
    if not file_system.exists(path):
        raise CorruptionError(path, 0, "the manifest that CURRENT names is missing")
    state, _ = decode_manifest(read_whole(file_system, path), number, path)
    return state, number
