"""A file system in memory that forgets what was not synced: power cuts and failing disks on demand.

It is as cruel as POSIX allows. At a power cut a file keeps what was synced and an arbitrary part
of the rest: a prefix, or sectors of it in any combination, the others zero. A name that was
created, renamed or removed since its directory was synced may or may not be as it was left.
"""

from __future__ import annotations

import errno
import os.path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

SECTOR_BYTES = 512


class PowerCut(Exception):  # noqa: N818 - an event of the simulated world, not an error of ours
    """The simulated machine lost power at this call; every further call says the same."""


class SimulatedFileSystem:
    """A :class:`FileSystem` in memory, with power cuts at any call and failures at any call.

    Args:
        random: Decides what of the unsynced bytes and names survives a power cut.

    Attributes:
        calls: How many mutating calls were made so far.
        cut_at: The number of the mutating call at which power fails, or None.
        fail_at: The number of the mutating call that raises ``OSError(EIO)``, or None.
        fail_syncs: Whether every sync fails from now on.
        sync_count: How many file syncs succeeded.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._directories: set[str] = set()
        self._locks: set[str] = set()
        self._open_files: list[_SimulatedAppendFile] = []
        self._off = False
        self.calls = 0
        self.cut_at: int | None = None
        self.fail_at: int | None = None
        self.fail_syncs = False
        self.sync_count = 0

    def power_cut(self) -> None:
        """Lose power now, and come back: unsynced bytes and names survive as chance has it."""
        changed = {
            name
            for name in self._names.keys() | self._durable_names.keys()
            if self._names.get(name) is not self._durable_names.get(name)
        }
        survivors = dict(self._durable_names)
        for name in sorted(changed):
            if self._random.random() < 0.5:
                continue
            if name in self._names:
                survivors[name] = self._names[name]
            else:
                del survivors[name]
        for inode in {id(inode): inode for inode in survivors.values()}.values():
            inode.forget_unsynced(self._random)
        self._names = survivors
        self._durable_names = dict(survivors)
        for file in self._open_files:
            file.dead = True
        self._open_files.clear()
        self._locks.clear()
        self._off = False
        self.cut_at = None

    def process_crash(self) -> None:
        """Kill the process: handles and locks are gone, all that was written is still there."""
        for file in self._open_files:
            file.dead = True
        self._open_files.clear()
        self._locks.clear()

    def flip_bit(self, path: str, position: int, bit: int = 0) -> None:
        """Damage the file: one bit of the byte at ``position`` turns over, durably."""
        inode = self._inode(path)
        inode.data[position] ^= 1 << bit
        inode.synced = bytes(inode.data)

    def make_directory(self, path: str) -> None:
        self._mutate()
        self._directories.add(path)

    def list_directory(self, path: str) -> list[str]:
        self._check()
        prefix = path.rstrip("/") + "/"
        names = {name[len(prefix) :] for name in self._names if name.startswith(prefix)}
        return sorted(name for name in names if "/" not in name)

    def open_append(self, path: str) -> _SimulatedAppendFile:
        if path not in self._names:
            self._mutate()
            self._names[path] = _Inode()
        file = _SimulatedAppendFile(self, self._names[path])
        self._open_files.append(file)
        return file

    def read(self, path: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self._inode(path).data
        return bytes(data[offset:] if length is None else data[offset : offset + length])

    def size(self, path: str) -> int:
        return len(self._inode(path).data)

    def truncate(self, path: str, size: int) -> None:
        inode = self._inode(path)
        self._mutate()
        del inode.data[size:]
        inode.synced = bytes(inode.data)

    def rename(self, source: str, target: str) -> None:
        inode = self._inode(source)
        self._mutate()
        del self._names[source]
        self._names[target] = inode

    def unlink(self, path: str) -> None:
        self._mutate()
        self._names.pop(path, None)

    def sync_directory(self, path: str) -> None:
        self._mutate(sync=True)
        for name in self._names.keys() | self._durable_names.keys():
            if os.path.dirname(name) == path.rstrip("/"):
                if name in self._names:
                    self._durable_names[name] = self._names[name]
                else:
                    self._durable_names.pop(name, None)

    def lock(self, path: str) -> _SimulatedLock:
        self._check()
        if path in self._locks:
            raise BlockingIOError(errno.EWOULDBLOCK, "another opener holds the lock", path)
        self._locks.add(path)
        return _SimulatedLock(self._locks, path)

    def _inode(self, path: str) -> _Inode:
        self._check()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self._names[path]

    def _check(self) -> None:
        if self._off:
            raise PowerCut

    def _mutate(self, *, sync: bool = False) -> None:
        self._check()
        self.calls += 1
        if self.calls == self.cut_at:
            self._off = True
            raise PowerCut
        if self.calls == self.fail_at or (sync and self.fail_syncs):
            raise OSError(errno.EIO, "simulated failure of the disk")

    def _write(self, inode: _Inode, data: bytes) -> None:
        try:
            self._mutate()
        except (PowerCut, OSError):
            inode.data += data[: self._random.randint(0, len(data))]  # a part had been taken
            raise
        inode.data += data

    def _sync(self, inode: _Inode) -> None:
        try:
            self._mutate(sync=True)
        except OSError:
            inode.forget_unsynced(self._random)  # the kernel marks the pages clean and drops them
            raise
        self.sync_count += 1
        inode.synced = bytes(inode.data)


class _Inode:
    __slots__ = ("data", "synced")

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = b""

    def forget_unsynced(self, random: Random) -> None:
        start = len(self.synced)
        tail = bytearray(self.data[start : random.randint(start, max(start, len(self.data)))])
        if random.random() < 0.5:
            sector = -start % SECTOR_BYTES  # a sector holds whole or not at all
            for offset in [0, *range(sector, len(tail), SECTOR_BYTES)]:
                if random.random() < 0.5:
                    end = min(
                        len(tail), offset + SECTOR_BYTES if offset else sector or SECTOR_BYTES
                    )
                    tail[offset:end] = bytes(end - offset)
        self.data = bytearray(self.synced) + tail
        self.synced = bytes(self.data)


class _SimulatedAppendFile:
    def __init__(self, system: SimulatedFileSystem, inode: _Inode) -> None:
        self._system = system
        self._inode = inode
        self.dead = False

    def write(self, data: bytes) -> None:
        self._alive()
        self._system._write(self._inode, data)

    def sync(self) -> None:
        self._alive()
        self._system._sync(self._inode)

    def close(self) -> None:
        self.dead = True

    def _alive(self) -> None:
        if self.dead:
            raise OSError(errno.EBADF, "the file is closed")


class _SimulatedLock:
    def __init__(self, locks: set[str], path: str) -> None:
        self._locks = locks
        self._path = path

    def release(self) -> None:
        self._locks.discard(self._path)
