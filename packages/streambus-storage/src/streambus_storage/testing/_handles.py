"""Open files and locks of the simulated disk: each only forwards, and counts as a call."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_storage.testing._disk import SimulatedFileSystem
    from streambus_storage.testing._inode import File

Buffer = bytes | bytearray | memoryview


class SimulatedAppendFile:
    """`AppendFile` on the simulated disk."""

    __slots__ = ("_disk", "_file", "path", "size")

    def __init__(self, disk: SimulatedFileSystem, path: str, file: File) -> None:
        self._disk = disk
        self._file: File | None = file
        file.writers += 1
        self.path = path
        self.size = len(file.data)

    def _opened(self) -> File:
        if self._file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
        return self._file

    def append(self, data: Buffer) -> None:
        file = self._opened()
        disk = self._disk
        fault = disk.enter("append", self.path)
        length = len(data)
        if fault is not None:
            if fault.effect == "partial":
                disk.used_bytes += file.write(self.size, data[: length // 2])
            elif fault.effect == "done":
                disk.used_bytes += file.write(self.size, data)
                self.size += length
            raise disk.error(fault, self.path)
        room = disk.room_bytes
        if room is not None and self.size + length - file.room_bytes > room:
            fits = room + file.room_bytes - self.size
            disk.used_bytes += file.write(self.size, data[: max(0, fits)])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        disk.used_bytes += file.write(self.size, data)
        self.size += length

    def append_parts(self, parts: Sequence[Buffer]) -> None:
        self.append(b"".join(parts))

    def reserve(self, length: int) -> None:
        file = self._opened()
        disk = self._disk
        fault = disk.enter("reserve", self.path)
        if fault is not None and fault.effect != "done":
            raise disk.error(fault, self.path)
        room = disk.room_bytes
        if room is not None and length - file.room_bytes > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        disk.used_bytes += file.reserve(length)
        if fault is not None:
            raise disk.error(fault, self.path)

    def sync(self) -> None:
        file = self._opened()
        fault = self._disk.enter("sync", self.path)
        if fault is not None:
            if fault.effect == "done":
                file.sync()
            elif fault.effect == "lost":
                file.lose()
            raise self._disk.error(fault, self.path)
        file.sync()

    def close(self) -> None:
        if self._file is not None:
            self._file.writers -= 1
            self._file = None


class SimulatedReadFile:
    """`ReadFile` on the simulated disk."""

    __slots__ = ("_disk", "_file", "path")

    def __init__(self, disk: SimulatedFileSystem, path: str, file: File) -> None:
        self._disk = disk
        self._file: File | None = file
        self.path = path

    def _opened(self) -> File:
        if self._file is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF), self.path)
        return self._file

    def read(self, offset: int, length: int) -> bytes:
        file = self._opened()
        fault = self._disk.enter("read", self.path)
        if fault is not None:
            raise self._disk.error(fault, self.path)
        piece = file.data[offset : offset + length]
        return piece if type(piece) is bytes else bytes(piece)

    def size(self) -> int:
        file = self._opened()
        fault = self._disk.enter("size", self.path)
        if fault is not None:
            raise self._disk.error(fault, self.path)
        return len(file.data)

    def prefetch(self) -> None:
        self._opened()

    def close(self) -> None:
        self._file = None


class SimulatedFileLock:
    """`FileLock` on the simulated disk."""

    __slots__ = ("_file",)

    def __init__(self, file: File) -> None:
        self._file: File | None = file
        file.locked = True

    def release(self) -> None:
        if self._file is not None:
            self._file.locked = False
            self._file = None

    def abandon(self) -> None:
        self._file = None
