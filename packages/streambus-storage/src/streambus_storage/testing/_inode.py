"""What a simulated disk is made of: files that know what of them is durable, and directories.

Invariants of a `File`:

- ``data[:synced]`` is on the platter, except for the ``lost`` ranges in it, which a failed sync
  dropped: they can still be read, and are gone after a power cut.
- ``data[synced:]`` is in the page cache alone.
- A file that nobody writes to may share its ``data`` with clones of it; whoever opens it for
  writing takes a private copy first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

SECTOR_BYTES = 512
"""What a disk writes as a unit; unsynced bytes are kept or lost in such blocks."""


class File:
    """The content of a file, whatever names it has."""

    __slots__ = ("data", "links", "locked", "lost", "reserved", "synced", "writers")

    def __init__(self, data: bytes | bytearray = b"", synced: int = 0) -> None:
        self.data = data
        self.synced = synced
        self.lost: list[tuple[int, int]] = []
        self.links = 0
        self.writers = 0
        self.locked = False
        self.reserved = 0

    @property
    def room_bytes(self) -> int:
        """What the file takes of the disk: its length, or what was set aside for it."""
        return max(len(self.data), self.reserved)

    def reserve(self, length: int) -> int:
        """Set room aside, or give it back; return by how much the file's room grew."""
        before = self.room_bytes
        self.reserved = length
        return self.room_bytes - before

    def own(self) -> bytearray:
        """The content for writing: a private copy, if it was shared."""
        if type(self.data) is not bytearray:
            self.data = bytearray(self.data)
        return self.data

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Put bytes at ``offset`` (at most the length); return by how much its room grew."""
        content = self.own()
        before = len(content)
        if offset == before:
            content += data
        else:
            content[offset : offset + len(data)] = data
        if offset < self.synced:
            self.synced = offset
        after, reserved = len(content), self.reserved
        if reserved:
            return max(after, reserved) - max(before, reserved)
        return after - before

    def sync(self) -> None:
        """Everything is on the platter, except for what was lost before."""
        self.synced = len(self.data)

    def lose(self) -> None:
        """A sync failed: the unsynced bytes count as clean and are never written."""
        if self.synced < len(self.data):
            self.lost.append((self.synced, len(self.data)))
            self.synced = len(self.data)

    def share(self) -> bytes | bytearray:
        """The content for a clone: shared if nobody writes, copied otherwise."""
        if self.writers:
            return bytes(self.data)
        if type(self.data) is bytearray:
            self.data = bytes(self.data)
        return self.data

    def clone(self) -> File:
        """The same file on another disk: nobody writes to it, nobody has it locked."""
        made = File(self.share(), self.synced)
        made.lost = list(self.lost)
        made.links = self.links
        made.reserved = self.reserved
        return made

    def after_cut(self, source: random.Random, mode: str) -> File:
        """The file as a power cut leaves it: durable to the last byte that is left."""
        data = self.data
        if self.synced >= len(data):
            left = self.share()
        elif mode == "drop":
            left = bytes(data[: self.synced])
        elif mode == "keep":
            left = bytes(data)
        else:
            left = self._damaged_tail(source, mode)
        if self.lost:
            left = bytearray(left)
            for start, end in self.lost:
                end = min(end, len(left))
                left[start:end] = bytes(max(0, end - start))
            left = bytes(left)
        made = File(left, len(left))
        made.reserved = self.reserved
        return made

    def _damaged_tail(self, source: random.Random, mode: str) -> bytes:
        """Lose a part of the unsynced bytes: torn at a byte, or block by block."""
        data, start = self.data, self.synced
        if mode == "torn":
            return bytes(data[: source.randint(start, len(data))])
        # The length may have reached the platter when the blocks have not: they read as zeros,
        # or as whatever lay there before.
        end = source.randint(start, len(data)) if source.random() < 0.5 else len(data)
        left = bytearray(data[:end])
        at = start
        while at < end:
            stop = min(end, (at // SECTOR_BYTES + 1) * SECTOR_BYTES)
            if source.random() < 0.5:
                left[at:stop] = (
                    source.randbytes(stop - at) if mode == "garbage" else bytes(stop - at)
                )
            at = stop
        return bytes(left)


class Directory:
    """Names as processes see them, and names as they would be found after a power cut."""

    __slots__ = ("durable", "names")

    def __init__(self) -> None:
        self.names: dict[str, File | Directory] = {}
        self.durable: dict[str, File | Directory] = {}


Node = File | Directory


class NameChange:
    """One change to names, atomic: a power cut keeps the whole of it or nothing.

    ``gone`` is the name that ends, ``made`` the name that begins; a rename has both.
    """

    __slots__ = ("gone", "made", "node")

    def __init__(
        self,
        *,
        gone: tuple[Directory, str] | None = None,
        made: tuple[Directory, str] | None = None,
        node: Node | None = None,
    ) -> None:
        self.gone = gone
        self.made = made
        self.node = node

    def concerns(self, directory: Directory) -> bool:
        """Tell whether a sync of this directory makes the change durable."""
        return (self.gone is not None and self.gone[0] is directory) or (
            self.made is not None and self.made[0] is directory
        )

    def mapped(self, copy: Callable[[Node], Node]) -> NameChange:
        """The same change on the copies of its directories and of its node."""

        def place(at: tuple[Directory, str] | None) -> tuple[Directory, str] | None:
            return None if at is None else (copy(at[0]), at[1])  # type: ignore[return-value] # a directory's copy is one

        node = None if self.node is None else copy(self.node)
        return NameChange(gone=place(self.gone), made=place(self.made), node=node)

    def apply(self, durable: dict[int, dict[str, Node]]) -> None:
        """Carry the change out on durable names, which are found by the directory's id."""
        if self.gone is not None:
            names = durable.get(id(self.gone[0]), self.gone[0].durable)
            names.pop(self.gone[1], None)
        if self.made is not None and self.node is not None:
            names = durable.get(id(self.made[0]), self.made[0].durable)
            names[self.made[1]] = self.node
