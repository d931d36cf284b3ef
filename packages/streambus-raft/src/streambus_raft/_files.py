"""The door to the file system: everything the file storage asks of a disk, and nothing more.

Rules:

- Nothing is durable until it was synced: a file's bytes by :meth:`AppendFile.sync`, a name (a file
  created, renamed or removed) by :meth:`FileSystem.sync_directory` of its directory.
- Every failure is an :class:`OSError`. The caller must treat a failed sync as final: the kernel
  may have dropped the dirty pages, and a second sync that succeeds says nothing about them.
- Paths are ``str``, as :mod:`os` speaks them.

:class:`RealFileSystem` is the operating system's; ``streambus_raft.testing.SimulatedFileSystem``
loses what was not synced, at any call one names.
"""

from __future__ import annotations

import contextlib
import os
from typing import Protocol, runtime_checkable

try:
    import fcntl
except ImportError:  # pragma: no cover - no such module on Windows: two openers are not told apart
    fcntl = None  # type: ignore[assignment]  # a platform without it


@runtime_checkable
class AppendFile(Protocol):
    """A file that only grows."""

    def write(self, data: bytes) -> None:
        """Append all of ``data``. After failure: an unknown part of it is in the file."""

    def sync(self) -> None:
        """Make all bytes written so far durable. After failure: never call it again."""

    def close(self) -> None:
        """Give the handle back, without a sync. Closing twice is harmless."""


class DirectoryLock(Protocol):
    """A held lock; the operating system drops it when the process dies."""

    def release(self) -> None:
        """Let another opener in. Releasing twice is harmless."""


@runtime_checkable
class FileSystem(Protocol):
    """What the file storage needs of a file system. Thread-safe for calls on different files."""

    def make_directory(self, path: str) -> None:
        """Create the directory and its parents; one that exists is left alone."""

    def list_directory(self, path: str) -> list[str]:
        """Name the entries of a directory, sorted; a directory that is not there is empty."""

    def open_append(self, path: str) -> AppendFile:
        """Open a file for appending, creating it empty if it is not there."""

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read up to ``length`` bytes from ``offset``; fewer only at the end of the file."""

    def size(self, path: str) -> int:
        """Say how many bytes the file has; ``FileNotFoundError`` if it is not there."""

    def truncate(self, path: str, size: int) -> None:
        """Cut the file to ``size`` bytes and make the cut durable."""

    def rename(self, source: str, target: str) -> None:
        """Give the file another name, replacing whatever had it, in one step."""

    def unlink(self, path: str) -> None:
        """Remove the file; one that is not there is left so."""

    def sync_directory(self, path: str) -> None:
        """Make creations, renames and removals in this directory durable."""

    def lock(self, path: str) -> DirectoryLock:
        """Take the lock file at ``path``; ``BlockingIOError`` if another opener holds it."""


class RealFileSystem:
    """The operating system's files.

    ``fdatasync`` where there is one: it also writes the size, which is all that reading needs.
    """

    def make_directory(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)

    def list_directory(self, path: str) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return []

    def open_append(self, path: str) -> AppendFile:
        return _RealAppendFile(path)

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        with open(path, "rb", buffering=0) as file:
            if offset:
                file.seek(offset)
            if length is None:
                return file.readall()
            parts: list[bytes] = []
            while length > 0:
                part = file.read(length)
                if not part:
                    break
                parts.append(part)
                length -= len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def truncate(self, path: str, size: int) -> None:
        with open(path, "r+b", buffering=0) as file:
            file.truncate(size)
            os.fsync(file.fileno())

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def sync_directory(self, path: str) -> None:
        if os.name == "nt":  # pragma: no cover - a directory cannot be opened there
            return
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str) -> DirectoryLock:
        return _RealLock(path)


_fdatasync = getattr(os, "fdatasync", os.fsync)


class _RealAppendFile:
    __slots__ = ("_descriptor",)

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        self._descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0), 0o600)

    def write(self, data: bytes) -> None:
        written = os.write(self._descriptor, data)
        if written == len(data):
            return
        rest = memoryview(data)[written:]  # a nearly full disk or a signal: the kernel took a part
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        _fdatasync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _RealLock:
    __slots__ = ("_descriptor",)

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if fcntl is None:  # pragma: no cover - as above: Windows
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
