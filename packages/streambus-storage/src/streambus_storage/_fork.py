"""Forking: a child must not write to its parent's files, nor end its parent's lock.

After a fork the child's copy of every open tree is closed, without taking a lock (another
thread of the parent may have held it at the moment of the fork) and without writing anything.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Abandonable(Protocol):
    """A tree, as seen from here."""

    def abandon_in_child(self) -> None:
        """Close every handle, quietly."""


_open: weakref.WeakSet[Abandonable] = weakref.WeakSet()


def watch(tree: Abandonable) -> None:
    """Remember a tree that is open for writing."""
    _open.add(tree)


def forget(tree: Abandonable) -> None:
    """Forget a tree that was closed."""
    _open.discard(tree)


def _after_in_child() -> None:  # pragma: no cover - runs in a forked child, which is not measured
    for tree in list(_open):
        tree.abandon_in_child()
    _open.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch - missing where nothing can fork
    os.register_at_fork(after_in_child=_after_in_child)
