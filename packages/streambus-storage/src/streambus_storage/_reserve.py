"""Room kept back for the day on which the disk is full.

To give space back, a tree needs a little: a record in the log that says what is deleted, and an
edit of the manifest that drops the tables. RESERVE is an empty file for which room is set aside
on the disk. It is removed when a range delete, or an opening, finds the disk full; from then on
puts are refused, and range deletes go through, until the room could be set aside again.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from streambus_storage._names import RESERVE

if TYPE_CHECKING:
    from streambus_storage._filesystem import FileSystem


class Reserve:
    """The reserve of a tree. Guarded by its own lock in `Housekeeper`, or by the opening.

    Attributes:
        path: Of the file.
        bytes: How much is set aside; 0: the tree has none.
        held: It is there.
        spent: It was there, and was given up because the disk was full.
    """

    def __init__(self, file_system: FileSystem, directory: str, size: int, *, held: bool) -> None:
        self.path = os.path.join(directory, RESERVE)
        self.bytes = size
        self.held = held
        self.spent = False
        self._file_system = file_system

    def take(self) -> bool:
        """Set the room aside, unless that was done; return whether it is.

        Nothing of it is synced: what a loss of power takes is set aside again by the next open.
        """
        if self.held or not self.bytes:
            return True
        fs = self._file_system
        try:
            if fs.exists(self.path):
                fs.unlink(self.path)
            file = fs.create(self.path)
            try:
                file.reserve(self.bytes)
            finally:
                file.close()
        except OSError:
            with contextlib.suppress(OSError):
                fs.unlink(self.path)
            return False
        self.held, self.spent = True, False
        return True

    def spend(self) -> bool:
        """Give the room up; return whether there was any."""
        if not self.held:
            return False
        self.held, self.spent = False, bool(self.bytes)
        with contextlib.suppress(OSError):
            self._file_system.unlink(self.path)
        return True
