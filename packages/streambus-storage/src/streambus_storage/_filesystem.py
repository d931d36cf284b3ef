"""The file-system door: everything that the engine does to a disk goes through `FileSystem`.

Rules of the door, for the real implementation here and for simulated ones alike:

- Paths are `str`. Failures are `OSError` (or its subclasses) exactly as the system raises them;
  the engine turns them into its own errors at one place.
- What was appended has reached the operating system when `append` returns: it survives the
  death of the process, not the loss of power. `sync` makes the content and the length of one
  file survive that too.
- Names (create, rename, link, unlink) survive a loss of power only after `sync_directory` of
  the directory that holds them.
- A failed `append` leaves `size` where it was; bytes beyond `size` may then be garbage, and
  the next append overwrites them.
- One writer per file; any number of readers, from any thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING, Protocol

from streambus_storage._fallocate import allocate

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer = bytes | bytearray | memoryview

_SYNC = getattr(os, "fdatasync", os.fsync)
"""fdatasync writes the length too, and skips the times. Elsewhere than on Linux: fsync."""

_PARTS_MAX = 512
"""Buffers per pwritev; IOV_MAX is 1024 on Linux, 16 is the least that POSIX promises."""

_PREFETCH_BYTES = 128 * 1024
"""The least that Linux reads ahead by default; of a longer piece it may leave out the rest."""


class AppendFile(Protocol):
    """A file that grows at its end."""

    path: str
    size: int
    """Bytes appended so far, including what the file held when it was opened."""

    def append(self, data: Buffer) -> None:
        """Write all of ``data`` at `size`, and advance `size`; on `OSError` neither happened."""

    def append_parts(self, parts: Sequence[Buffer]) -> None:
        """Write all ``parts``, one after the other, as if they were one buffer."""

    def reserve(self, length: int) -> None:
        """Set room aside on the disk, so that appending up to ``length`` bytes needs none.

        Neither content nor length of the file change. A length up to `size` gives back what was
        set aside and not used. Where the system has no such thing, nothing happens.
        """

    def sync(self) -> None:
        """Make everything appended so far durable. A failure is final for the file."""

    def close(self) -> None:
        """Give the handle back. Does not sync. Closing twice does nothing."""


class ReadFile(Protocol):
    """A file that is read at given places."""

    path: str

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer only where the file ends."""

    def size(self) -> int:
        """Return the present length in bytes."""

    def prefetch(self) -> None:
        """Say that all of it will be read soon. A hint: what it does is up to the system."""

    def close(self) -> None:
        """Give the handle back. Closing twice does nothing."""


class FileLock(Protocol):
    """A held lock; it ends with `release` or with the process, whichever comes first."""

    def release(self) -> None:
        """Give the lock back. Releasing twice does nothing."""

    def abandon(self) -> None:
        """Let go of the handle in a forked child without ending the parent's lock."""


class FileSystem(Protocol):
    """The operations on names; see the module's rules."""

    def create(self, path: str) -> AppendFile:
        """Create an empty file; `FileExistsError` if the name is taken."""

    def open_append(self, path: str) -> AppendFile:
        """Open an existing file to append at its end."""

    def open_read(self, path: str) -> ReadFile:
        """Open an existing file for reading."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, atomically replacing what had it."""

    def link(self, source: str, target: str) -> None:
        """Give a file a second name; `FileExistsError` if it is taken."""

    def unlink(self, path: str) -> None:
        """Remove a name; open handles stay readable."""

    def exists(self, path: str) -> bool:
        """Tell whether a file or directory has this name."""

    def list_directory(self, path: str) -> list[str]:
        """Return the names in a directory, in no particular order."""

    def make_directory(self, path: str) -> None:
        """Create a directory and missing parents; an existing one is fine."""

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""

    def sync_directory(self, path: str) -> None:
        """Make the names in a directory durable."""

    def lock(self, path: str) -> FileLock:
        """Create the file if needed and lock it; `BlockingIOError` if it is locked already.

        A second lock within one process is refused as well.
        """


_ORPHANED_LOCK_SECONDS = 5.0


def _is_running(holder: bytes) -> bool:
    """Tell whether the process that a lock's file names is there; also if it names none."""
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except (ValueError, OverflowError, PermissionError):
        return True
    return True


class RealAppendFile:
    """`AppendFile` on a file descriptor, by positioned writes.

    Positioned, because a partly failed write must be overwritten by the next one and must not
    leave a hole of garbage in the middle of a log.
    """

    __slots__ = ("_fd", "path", "size")

    def __init__(self, path: str, flags: int) -> None:
        self.path = path
        self._fd = os.open(path, flags, 0o644)
        self.size = os.fstat(self._fd).st_size

    def append(self, data: Buffer) -> None:
        """See `AppendFile.append`."""
        written = os.pwrite(self._fd, data, self.size)
        if written != len(data):
            written += self._write_rest(memoryview(data)[written:], self.size + written)
        self.size += written

    def append_parts(self, parts: Sequence[Buffer]) -> None:
        """See `AppendFile.append_parts`."""
        end = self.size
        for first in range(0, len(parts), _PARTS_MAX):
            some = parts[first : first + _PARTS_MAX]
            wanted = sum(map(len, some))
            written = os.pwritev(self._fd, some, end)
            if written != wanted:
                rest = memoryview(b"".join(some))[written:]
                written += self._write_rest(rest, end + written)
            end += written
        self.size = end

    def _write_rest(self, rest: memoryview, offset: int) -> int:
        """Finish a short write: it ends complete, or with the error that made it short."""
        done = 0
        while done < len(rest):
            done += os.pwrite(self._fd, rest[done:], offset + done)
        return done

    def reserve(self, length: int) -> None:
        """See `AppendFile.reserve`: fallocate(2), and truncate(2) to give back."""
        if length > self.size:
            allocate(self._fd, self.path, length)
        else:
            os.ftruncate(self._fd, self.size)

    def sync(self) -> None:
        """See `AppendFile.sync`."""
        _SYNC(self._fd)

    def close(self) -> None:
        """See `AppendFile.close`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealReadFile:
    """`ReadFile` on a file descriptor."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        self._fd = -1
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, length: int) -> bytes:
        """See `ReadFile.read`."""
        data = os.pread(self._fd, length, offset)
        while len(data) < length:  # Linux cuts a read at 2 GiB, and a signal may cut any
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def size(self) -> int:
        """See `ReadFile.size`."""
        return os.fstat(self._fd).st_size

    def prefetch(self) -> None:
        """See `ReadFile.prefetch`: posix_fadvise(2), a piece at a time, as Linux wants it."""
        if hasattr(os, "posix_fadvise"):  # pragma: no branch - missing on macOS
            for offset in range(0, self.size(), _PREFETCH_BYTES):
                os.posix_fadvise(self._fd, offset, _PREFETCH_BYTES, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """See `ReadFile.close`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        """A reader that is dropped gives its descriptor back (tables live by reference)."""
        self.close()


class RealFileLock:
    """A lock by flock(2): it belongs to the open file, so a killed process leaves none behind.

    But for a moment: a process that was being started when its parent was killed has the parent's
    files until it runs its own program. So the file names who has the lock, and if that process
    is gone, the lock is waited for.
    """

    __slots__ = ("_fd",)

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + _ORPHANED_LOCK_SECONDS
        try:
            while not self._try():
                if _is_running(os.pread(self._fd, 20, 0)) or time.monotonic() > deadline:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
                time.sleep(0.01)
            with contextlib.suppress(OSError):  # on a full disk nobody needs to know
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, b"%d" % os.getpid(), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def _try(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """See `FileLock.release`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)  # nobody has it any more
            # Unlock before closing: a forked child may hold a duplicate of the descriptor.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def abandon(self) -> None:
        """See `FileLock.abandon`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealFileSystem:
    """`FileSystem` on the operating system. Stateless; one instance serves any number of trees."""

    __slots__ = ()

    def create(self, path: str) -> AppendFile:
        """See `FileSystem.create`."""
        return RealAppendFile(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)

    def open_append(self, path: str) -> AppendFile:
        """See `FileSystem.open_append`."""
        return RealAppendFile(path, os.O_WRONLY | os.O_CLOEXEC)

    def open_read(self, path: str) -> ReadFile:
        """See `FileSystem.open_read`."""
        return RealReadFile(path)

    def rename(self, source: str, target: str) -> None:
        """See `FileSystem.rename`."""
        os.replace(source, target)

    def link(self, source: str, target: str) -> None:
        """See `FileSystem.link`."""
        os.link(source, target)

    def unlink(self, path: str) -> None:
        """See `FileSystem.unlink`."""
        os.unlink(path)

    def exists(self, path: str) -> bool:
        """See `FileSystem.exists`."""
        return os.path.lexists(path)

    def list_directory(self, path: str) -> list[str]:
        """See `FileSystem.list_directory`."""
        return os.listdir(path)

    def make_directory(self, path: str) -> None:
        """See `FileSystem.make_directory`."""
        os.makedirs(path, exist_ok=True)

    def remove_directory(self, path: str) -> None:
        """See `FileSystem.remove_directory`."""
        os.rmdir(path)

    def sync_directory(self, path: str) -> None:
        """See `FileSystem.sync_directory`."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, path: str) -> FileLock:
        """See `FileSystem.lock`."""
        return RealFileLock(path)
