"""Writes one segment of the write-ahead log."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from streambus_storage._names import segment_path
from streambus_storage._wal_format import encode_wal_header, wal_seed

if TYPE_CHECKING:
    from streambus_storage._filesystem import AppendFile
    from streambus_storage._options import Options


class SegmentWriter:
    """A segment that is appended to. Appending is guarded by the tree's write lock.

    Attributes:
        number: Of the segment.
        seed: Of its records' checksums.
        file: What the records are appended to.
        synced_size: How much of it is durable; guarded by the group commit's sync lock.
    """

    __slots__ = ("file", "number", "seed", "synced_size")

    def __init__(self, number: int, seed: int, file: AppendFile) -> None:
        self.number = number
        self.seed = seed
        self.file = file
        self.synced_size = file.size

    @classmethod
    def create(
        cls, options: Options, directory: str, number: int, room_bytes: int = 0
    ) -> SegmentWriter:
        """Create a segment whose name and header are durable.

        Args:
            options: Of the tree.
            directory: Of the tree.
            number: Of the segment.
            room_bytes: How much to set aside for it, if there is so much.

        Raises:
            OSError: That failed; a file may be left, which the next open removes.
        """
        file_system = options.file_system
        header = encode_wal_header(number, options.randomness.getrandbits(32))
        file = file_system.create(segment_path(directory, number))
        try:
            file.append(header)
            if room_bytes:
                with contextlib.suppress(OSError):  # then each append finds room for itself
                    file.reserve(room_bytes)
            file.sync()
            file_system.sync_directory(directory)
        except BaseException:
            file.close()
            raise
        return cls(number, wal_seed(header), file)

    def sync(self) -> None:
        """Make everything appended so far durable. Call under the sync lock.

        Raises:
            OSError: It failed, which is final.
        """
        size = self.file.size
        if size > self.synced_size:
            self.file.sync()
            self.synced_size = size
