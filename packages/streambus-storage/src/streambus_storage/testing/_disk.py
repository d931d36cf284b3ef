"""A disk in memory that behaves as badly as the contract of the file-system door allows.

Theory of operation. Files know which of their bytes are durable (`_inode`). Names are changed at
once for the process, and entered into a journal; `sync_directory` moves a directory's entries
from the journal into the durable names. `power_cut` builds another disk from the durable state
and a random part of the rest, and leaves this one alone, so a single run of a program can be cut
at every one of its calls: that is what `on_call` is for.

Harsher than any one real file system: a sync of a file does not make its name durable, and
unsynced names are lost independently of each other (mode ``"random"``).

Not thread-safe; it belongs to one thread, as `SimulatedScheduler` does.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from typing import TYPE_CHECKING, Literal, get_args

from streambus_storage.testing._faults import Call, Effect, Fault
from streambus_storage.testing._handles import (
    SimulatedAppendFile,
    SimulatedFileLock,
    SimulatedReadFile,
)
from streambus_storage.testing._inode import Directory, File, NameChange, Node

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

CutMode = Literal["drop", "keep", "torn", "blocks", "garbage", "random"]
CUT_MODES: tuple[CutMode, ...] = get_args(CutMode)

_FILE_MODES = ("drop", "keep", "torn", "blocks", "garbage")


class PowerCut(BaseException):
    """The power went, as asked by `SimulatedFileSystem.cut_at`: nothing reaches this disk again.

    A BaseException, so that no ``except Exception`` of the program under test outlives it.
    """


class SimulatedFileSystem:
    """A file system in memory, with power cuts, faults, a size and a trace.

    Args:
        capacity_bytes: how many bytes of content fit; None is no limit. May be changed at any
            time. An append that does not fit leaves a part of itself behind and fails with
            ENOSPC, as a real one does.

    Attributes:
        calls: how many calls of each kind were made.
        call_count: how many in all; the number of the last `Call`.
        on_call: is told every call before it takes effect, and may raise, look around and make
            a `power_cut`.
        trace: every call in order, if set to a list.
        used_bytes: content of all files that have a name, and the room set aside for them.
    """

    def __init__(self, *, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.calls: Counter[str] = Counter()
        self.call_count = 0
        self.on_call: Callable[[Call], None] | None = None
        self.trace: list[Call] | None = None
        self.used_bytes = 0
        self._root = Directory()
        self._journal: list[NameChange] = []
        self._found: dict[str, Directory] = {"": self._root}
        self._faults: list[Fault] = []
        self._cut_at: int | None = None

    # Faults, cuts and damage: what a test asks for.

    @property
    def room_bytes(self) -> int | None:
        """How many more bytes fit; None without a limit."""
        if self.capacity_bytes is None:
            return None
        return max(0, self.capacity_bytes - self.used_bytes)

    def fail(
        self,
        kind: str,
        nth: int = 1,
        *,
        times: int | None = 1,
        error: int = errno.EIO,
        path: str = "",
        effect: Effect = "none",
    ) -> Fault:
        """Make calls fail from now on; see `Fault`. The answer counts what it saw and struck."""
        fault = Fault(kind, nth, times, error, path, effect)
        self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Take back every fault and every cut that is still to come."""
        self._faults.clear()
        self._cut_at = None

    def cut_at(self, number: int) -> None:
        """Raise `PowerCut` from call ``number`` (see `call_count`) on, before it takes effect."""
        self._cut_at = number

    def power_cut(self, source: random.Random, mode: CutMode = "random") -> SimulatedFileSystem:
        """The disk as it is found when the power has gone now and come back.

        Args:
            source: draws what is lost.
            mode: the fate of unsynced bytes and names. ``"drop"``: all lost. ``"keep"``: all
                kept, as if only the process had died. ``"torn"``: each file is cut at a random
                byte after its durable part. ``"blocks"``: each sector of 512 bytes is kept or
                zero. ``"garbage"``: the same with random bytes for zeros. In these three the
                unsynced name changes that are kept are the first so many. ``"random"``: every
                file its own mode, and any subset of the name changes.

        Returns:
            Another disk: everything on it durable, no lock, no fault, no limit, no open file.
        """
        durable = self._names_after_cut(source, mode)
        copies: dict[int, File] = {}

        def copy(directory: Directory) -> Directory:
            made = Directory()
            for name, node in durable.get(id(directory), directory.durable).items():
                if isinstance(node, Directory):
                    made.names[name] = copy(node)
                    continue
                file = copies.get(id(node))
                if file is None:
                    fate = source.choice(_FILE_MODES) if mode == "random" else mode
                    file = copies[id(node)] = node.after_cut(source, fate)
                file.links += 1
                made.names[name] = file
            made.durable = dict(made.names)
            return made

        after = SimulatedFileSystem()
        after._root = copy(self._root)
        after._found = {"": after._root}
        after.used_bytes = sum(file.room_bytes for file in copies.values())
        return after

    def process_kill(self) -> SimulatedFileSystem:
        """The disk as the next process finds it when only this one has died.

        Everything written is there, and what was not synced is still not: a `power_cut` of the
        answer may lose it. That is how a recovery is tested that serves what it has not synced.

        Returns:
            Another disk: no lock, no fault, no open file; the same limit.
        """
        copies: dict[int, Node] = {}

        def copy(node: Node) -> Node:
            made = copies.get(id(node))
            if made is None:
                if isinstance(node, File):
                    made = copies[id(node)] = node.clone()
                else:
                    made = copies[id(node)] = Directory()
                    made.names = {name: copy(each) for name, each in node.names.items()}
                    made.durable = {name: copy(each) for name, each in node.durable.items()}
            return made

        after = SimulatedFileSystem(capacity_bytes=self.capacity_bytes)
        after._root = copy(self._root)  # type: ignore[assignment] # a directory's copy is one
        after._found = {"": after._root}
        after._journal = [change.mapped(copy) for change in self._journal]
        after.used_bytes = self.used_bytes
        return after

    def _names_after_cut(self, source: random.Random, mode: CutMode) -> dict[int, dict[str, Node]]:
        """Durable names of the directories that a kept change touches, by directory id."""
        journal = self._journal
        if mode == "drop" or not journal:
            return {}
        if mode == "keep":
            kept = journal
        elif mode == "random" and source.random() < 0.5:
            kept = [change for change in journal if source.random() < 0.5]
        else:
            kept = journal[: source.randint(0, len(journal))]
        durable: dict[int, dict[str, Node]] = {}
        for change in kept:
            for place in (change.gone, change.made):
                if place is not None and id(place[0]) not in durable:
                    durable[id(place[0])] = dict(place[0].durable)
            change.apply(durable)
        return durable

    def files(self) -> dict[str, int]:
        """Every file's path and length in bytes, in the order of the paths."""
        found: dict[str, int] = {}

        def walk(directory: Directory, prefix: str) -> None:
            for name, node in directory.names.items():
                if isinstance(node, Directory):
                    walk(node, f"{prefix}/{name}")
                else:
                    found[f"{prefix}/{name}"] = len(node.data)

        walk(self._root, "")
        return dict(sorted(found.items()))

    def content(self, path: str) -> bytes:
        """What is in a file now."""
        return bytes(self._file(path).data)

    def damage(self, path: str, offset: int, data: bytes) -> None:
        """Put other bytes into a file, behind everybody's back; they are durable."""
        file = self._file(path)
        content, before = bytearray(file.data), file.room_bytes
        content[offset : offset + len(data)] = data
        file.data = content if file.writers else bytes(content)
        self.used_bytes += file.room_bytes - before
        file.synced = max(file.synced, min(len(content), offset + len(data)))

    def flip_bit(self, path: str, offset: int, bit: int = 0) -> None:
        """Turn one bit (0 to 7) of one byte over."""
        self.damage(path, offset, bytes((self._file(path).data[offset] ^ (1 << bit),)))

    def shorten(self, path: str, length: int) -> None:
        """Cut a file off after ``length`` bytes, durably."""
        file = self._file(path)
        before = file.room_bytes
        file.data = file.data[:length]
        self.used_bytes += file.room_bytes - before
        file.synced = min(file.synced, length)

    # The door.

    def create(self, path: str) -> SimulatedAppendFile:
        """See `FileSystem.create`."""
        fault = self.enter("create", path)
        directory, name = self._place(path)
        if fault is None or fault.effect == "done":
            if name in directory.names:
                raise self._os_error(errno.EEXIST, path)
            file = self._make(directory, name)
        if fault is not None:
            raise self.error(fault, path)
        return SimulatedAppendFile(self, path, file)

    def open_append(self, path: str) -> SimulatedAppendFile:
        """See `FileSystem.open_append`."""
        self._check("open_append", path)
        return SimulatedAppendFile(self, path, self._file(path))

    def open_read(self, path: str) -> SimulatedReadFile:
        """See `FileSystem.open_read`."""
        self._check("open_read", path)
        return SimulatedReadFile(self, path, self._file(path))

    def rename(self, source: str, target: str) -> None:
        """See `FileSystem.rename`."""
        fault = self.enter("rename", source)
        from_directory, old = self._place(source)
        to_directory, new = self._place(target)
        if fault is None or fault.effect == "done":
            node = from_directory.names.get(old)
            if node is None:
                raise self._os_error(errno.ENOENT, source)
            replaced = to_directory.names.get(new)
            if replaced is not node:
                if isinstance(replaced, Directory):
                    raise self._os_error(errno.EISDIR, target)
                if replaced is not None:
                    self._unlinked(replaced)
                del from_directory.names[old]
                to_directory.names[new] = node
                self._journal.append(
                    NameChange(gone=(from_directory, old), made=(to_directory, new), node=node)
                )
                if isinstance(node, Directory):
                    self._found = {"": self._root}
        if fault is not None:
            raise self.error(fault, source)

    def link(self, source: str, target: str) -> None:
        """See `FileSystem.link`."""
        fault = self.enter("link", source)
        file = self._file(source)
        directory, name = self._place(target)
        if fault is None or fault.effect == "done":
            if name in directory.names:
                raise self._os_error(errno.EEXIST, target)
            file.links += 1
            directory.names[name] = file
            self._journal.append(NameChange(made=(directory, name), node=file))
        if fault is not None:
            raise self.error(fault, source)

    def unlink(self, path: str) -> None:
        """See `FileSystem.unlink`."""
        fault = self.enter("unlink", path)
        file = self._file(path)
        if fault is None or fault.effect == "done":
            directory, name = self._place(path)
            del directory.names[name]
            self._unlinked(file)
            self._journal.append(NameChange(gone=(directory, name)))
        if fault is not None:
            raise self.error(fault, path)

    def exists(self, path: str) -> bool:
        """See `FileSystem.exists`."""
        self._check("exists", path)
        try:
            directory, name = self._place(path)
        except OSError:
            return False
        return name in directory.names or path in ("", "/")

    def list_directory(self, path: str) -> list[str]:
        """See `FileSystem.list_directory`."""
        self._check("list_directory", path)
        return list(self._directory(path).names)

    def make_directory(self, path: str) -> None:
        """See `FileSystem.make_directory`."""
        fault = self.enter("make_directory", path)
        if fault is None or fault.effect == "done":
            directory = self._root
            for name in path.strip("/").split("/"):
                node = directory.names.get(name)
                if isinstance(node, File):
                    raise self._os_error(errno.EEXIST, path)
                if node is None:
                    node = directory.names[name] = Directory()
                    self._journal.append(NameChange(made=(directory, name), node=node))
                directory = node
        if fault is not None:
            raise self.error(fault, path)

    def remove_directory(self, path: str) -> None:
        """See `FileSystem.remove_directory`."""
        fault = self.enter("remove_directory", path)
        if self._directory(path).names:
            raise self._os_error(errno.ENOTEMPTY, path)
        if fault is None or fault.effect == "done":
            directory, name = self._place(path)
            del directory.names[name]
            self._journal.append(NameChange(gone=(directory, name)))
            self._found = {"": self._root}
        if fault is not None:
            raise self.error(fault, path)

    def sync_directory(self, path: str) -> None:
        """See `FileSystem.sync_directory`."""
        fault = self.enter("sync_directory", path)
        directory = self._directory(path)
        if fault is None or fault.effect == "done":
            left = []
            for change in self._journal:
                if change.concerns(directory):
                    change.apply({})
                else:
                    left.append(change)
            self._journal = left
        if fault is not None:
            raise self.error(fault, path)

    def lock(self, path: str) -> SimulatedFileLock:
        """See `FileSystem.lock`."""
        self._check("lock", path)
        directory, name = self._place(path)
        node = directory.names.get(name)
        if isinstance(node, Directory):
            raise self._os_error(errno.EISDIR, path)
        if node is None:
            node = self._make(directory, name)
        if node.locked:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
        return SimulatedFileLock(node)

    # For its files, and inside.

    def enter(self, kind: str, path: str) -> Fault | None:
        """Count a call, show it to whoever looks on, and return the fault that strikes it."""
        self.calls[kind] += 1
        self.call_count += 1
        if self._cut_at is not None and self.call_count >= self._cut_at:
            raise PowerCut(str(Call(self.call_count, kind, path)))
        if self.on_call is None and self.trace is None and not self._faults:
            return None
        call = Call(self.call_count, kind, path)
        if self.trace is not None:
            self.trace.append(call)
        if self.on_call is not None:
            self.on_call(call)
        for fault in self._faults:
            if fault.strikes(call):
                return fault
        return None

    def error(self, fault: Fault, path: str) -> OSError:
        """The error of a fault, as the system would raise it."""
        return self._os_error(fault.errno, path)

    def _check(self, kind: str, path: str) -> None:
        fault = self.enter(kind, path)
        if fault is not None:
            raise self.error(fault, path)

    @staticmethod
    def _os_error(number: int, path: str) -> OSError:
        return OSError(number, os.strerror(number), path)

    def _directory(self, path: str) -> Directory:
        """Find a directory, by the cache or by walking down from the root."""
        path = path.rstrip("/")
        found = self._found.get(path)
        if found is not None:
            return found
        directory = self._root
        for name in path.strip("/").split("/"):
            node = directory.names.get(name)
            if node is None:
                raise self._os_error(errno.ENOENT, path)
            if isinstance(node, File):
                raise self._os_error(errno.ENOTDIR, path)
            directory = node
        self._found[path] = directory
        return directory

    def _place(self, path: str) -> tuple[Directory, str]:
        """The directory of a name, and the last part of the name."""
        parent, _, name = path.rstrip("/").rpartition("/")
        return self._directory(parent), name

    def _file(self, path: str) -> File:
        directory, name = self._place(path)
        node = directory.names.get(name)
        if node is None:
            raise self._os_error(errno.ENOENT, path)
        if isinstance(node, Directory):
            raise self._os_error(errno.EISDIR, path)
        return node

    def _make(self, directory: Directory, name: str) -> File:
        file = File()
        file.links = 1
        directory.names[name] = file
        self._journal.append(NameChange(made=(directory, name), node=file))
        return file

    def _unlinked(self, file: File) -> None:
        file.links -= 1
        if not file.links:
            self.used_bytes -= file.room_bytes
