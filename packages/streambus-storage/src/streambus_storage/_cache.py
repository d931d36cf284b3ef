"""The block cache: decoded blocks of all tables of a tree, within a limit of bytes.

A table keeps its own decoded blocks in a list, so that a hit costs an index and no hash; the
cache only decides which block leaves, by the clock algorithm: a hand goes round, spares the
blocks that were used since it came last, and drops the others.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from streambus_storage._remains import Remains


class Cached(Protocol):
    """What is put into the cache; ``used`` counts the readers that found it there."""

    cost: int
    used: int


class Owner(Protocol):
    """A table: the place where cached blocks are."""

    blocks: list[Any]


class BlockCache:
    """See the module. Thread-safe; ``_lock`` guards everything but the owners' lists.

    Attributes:
        bytes: Held at present.
        bytes_max: The limit.
        misses: Blocks that had to be read.
    """

    def __init__(self, bytes_max: int, remains: Remains | None = None) -> None:
        """Begin empty; ``remains``: where an owner's blocks are left when it dies."""
        self._remains = remains
        self.bytes = 0
        self.bytes_max = bytes_max
        self._hits = 0  # of blocks whose own count was cleared
        self.misses = 0
        self._lock = threading.Lock()
        self._clock: deque[tuple[weakref.ref[Owner], int, int]] = deque()

    def put(self, owner: Owner, index: int, block: Cached) -> None:
        """Keep ``block`` at ``owner.blocks[index]``, and let others go to make room."""
        with self._lock:
            if block.cost > self.bytes_max or owner.blocks[index] is not None:
                return
            owner.blocks[index] = block
            self._clock.append((weakref.ref(owner), index, block.cost))
            self.bytes += block.cost
            while self.bytes > self.bytes_max:
                self._evict_one()

    def leave(self, blocks: list[Any]) -> None:
        """Take leave of a dying owner's blocks. Called from its destructor: takes no lock."""
        if self._remains is not None:
            self._remains.leave(blocks)

    def hits(self) -> int:
        """Return how often a block was found (approximate under threads). Cost: O(blocks)."""
        with self._lock:
            live = 0
            for reference, index, _ in self._clock:
                owner = reference()
                block = owner.blocks[index] if owner is not None else None
                if block is not None:
                    live += block.used
            return self._hits + live

    def _evict_one(self) -> None:
        reference, index, cost = self._clock.popleft()
        owner = reference()
        if owner is not None:
            block = owner.blocks[index]
            if block is not None and block.used:
                self._hits += block.used
                block.used = 0
                self._clock.append((reference, index, cost))
                return
            owner.blocks[index] = None
        self.bytes -= cost
