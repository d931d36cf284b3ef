"""Which call fails, how, and with what effect: the torture of a simulated disk."""

from __future__ import annotations

from dataclasses import dataclass
from errno import EIO
from typing import Literal, NamedTuple

Effect = Literal["none", "partial", "done", "lost"]

KINDS = (
    "create",
    "open_append",
    "open_read",
    "append",
    "reserve",
    "sync",
    "read",
    "size",
    "rename",
    "link",
    "unlink",
    "exists",
    "list_directory",
    "make_directory",
    "remove_directory",
    "sync_directory",
    "lock",
)
"""Every kind of call. Closing and releasing cannot fail: there is nothing one could do then."""

INFALLIBLE = frozenset({"exists"})
"""Kinds that are counted and can be cut at, and never fail: nor do they in reality."""


class Call(NamedTuple):
    """One call as it enters the disk."""

    number: int
    """Counted from 1 over all kinds."""
    kind: str
    path: str

    def __str__(self) -> str:
        return f"{self.number} {self.kind} {self.path}"


@dataclass(slots=True)
class Fault:
    """Makes matching calls fail.

    Attributes:
        kind: one of `KINDS`, or ``"*"`` for any that can fail.
        nth: the first matching call that fails, counted from 1 since the fault was set.
        times: how many matching calls fail from there on; None means all of them.
        errno: the error number of the `OSError`.
        path: only paths that contain this.
        effect: what happens although the call fails. ``"none"``: nothing. ``"partial"``: a part
            of an append is in the file. ``"done"``: the call took full effect, and only its
            answer was lost. ``"lost"``: a failing sync drops the unsynced bytes for good while
            they stay readable, and the next sync "succeeds" (ext4, XFS and btrfs do this).
    """

    kind: str
    nth: int = 1
    times: int | None = 1
    errno: int = EIO
    path: str = ""
    effect: Effect = "none"
    seen: int = 0
    """Matching calls so far."""
    hits: int = 0
    """Calls that failed so far."""

    def strikes(self, call: Call) -> bool:
        """Count a call, and tell whether it fails."""
        if self.path not in call.path or (
            call.kind in INFALLIBLE if self.kind == "*" else self.kind != call.kind
        ):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True
