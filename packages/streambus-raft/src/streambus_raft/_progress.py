"""What a leader knows of one member, and how much it may send to it.

::

                    accepted                     compacted away
      PROBE ────────────────────► REPLICATE ─────────────────────┐
        ▲  ▲     rejected, lost        │                         ▼
        │  └───────────────────────────┘                      SNAPSHOT
        └──────────────── installed, or caught up otherwise ─────┘

In PROBE one append travels at a time, until the place where the logs meet is found. In REPLICATE
appends are sent on without waiting, within a window. In SNAPSHOT one piece of a snapshot travels at
a time and no entries do.

Invariants: ``match < next``; ``match`` only grows within a session; in REPLICATE every entry from
``match + 1`` to ``next - 1`` was sent in this session.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streambus_raft._storage import SnapshotMeta
    from streambus_raft._types import Index


class ProgressState(IntEnum):
    """How a member is being brought up to date."""

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Window:
    """Appends that were sent and not yet answered, bounded in number and bytes.

    The number adapts as TCP's window does: half of it after a rejection, one more after each
    success. In a network that reorders, each append that overtakes another is rejected, and a full
    window sent anew for each rejection would breed rejections without end.
    """

    __slots__ = ("_sent", "appends_max", "bytes_max", "bytes_sent", "limit")

    def __init__(self, appends_max: int, bytes_max: int) -> None:
        self.appends_max = appends_max
        self.bytes_max = bytes_max
        self.bytes_sent = 0
        self.limit = appends_max
        """Appends that may be under way at present; 1 to ``appends_max``."""
        self._sent: deque[tuple[Index, int]] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def is_full(self) -> bool:
        """Whether the next append has to wait for an answer."""
        return len(self._sent) >= self.limit or self.bytes_sent >= self.bytes_max

    def add(self, last: Index, size_bytes: int) -> None:
        """Remember an append that ends at ``last``."""
        self._sent.append((last, size_bytes))
        self.bytes_sent += size_bytes

    def free_to(self, index: Index) -> None:
        """An answer came: whatever ends at or before ``index`` has arrived."""
        while self._sent and self._sent[0][0] <= index:
            self.bytes_sent -= self._sent.popleft()[1]

    def free_first(self) -> None:
        """Make room for one: answers may have been lost, and without this nothing would be sent."""
        if self._sent:
            self.bytes_sent -= self._sent.popleft()[1]

    def grow(self) -> None:
        """Something new was accepted."""
        self.limit = min(self.limit + 1, self.appends_max)

    def shrink(self) -> None:
        """Something was rejected."""
        self.limit = max(self.limit // 2, 1)

    def clear(self) -> None:
        """Nothing is under way any more."""
        self._sent.clear()
        self.bytes_sent = 0


class Progress:
    """One member as its leader sees it; mutable, owned by the leader's state."""

    __slots__ = (
        "active",
        "commit_sent",
        "foreign",
        "match",
        "next",
        "probe_sent",
        "refusal",
        "session",
        "snapshot",
        "snapshot_idle_ticks",
        "snapshot_offset",
        "state",
        "storage_id",
        "window",
    )

    def __init__(self, next_index: Index, session: int, window: Window) -> None:
        self.match: Index = 0
        """Everything up to here is durable there; what quorums count."""
        self.next: Index = next_index
        """What is sent next."""
        self.state = ProgressState.PROBE
        self.session = session
        self.window = window
        self.probe_sent = False
        """In PROBE: an append is under way; wait for its answer or a heartbeat's."""
        self.active = False
        """Heard from since the last check for a quorum."""
        self.commit_sent: Index = 0
        """The highest commit that was sent."""
        self.storage_id = 0
        """The storage that answers; 0 while it is not known."""
        self.foreign = False
        """It answers with another storage than the one it is known by: it does not count."""
        self.refusal: str | None = None
        """Why it takes no part, in its own words."""
        self.snapshot: SnapshotMeta | None = None
        self.snapshot_offset = 0
        """Where the piece that is under way begins."""
        self.snapshot_idle_ticks = 0
        """Since that piece was sent."""

    def become_probe(self) -> None:
        """Look for the place where the logs meet, from what is known to match."""
        self.state = ProgressState.PROBE
        self.next = self.match + 1
        self.probe_sent = False
        self.snapshot = None
        self.window.clear()

    def become_replicate(self) -> None:
        """The logs meet: send on without waiting."""
        self.state = ProgressState.REPLICATE
        self.next = self.match + 1
        self.snapshot = None
        self.window.clear()

    def become_snapshot(self, meta: SnapshotMeta) -> None:
        """What it needs was compacted away: send ``meta`` first."""
        self.state = ProgressState.SNAPSHOT
        self.snapshot = meta
        self.snapshot_offset = 0
        self.snapshot_idle_ticks = 0
        self.window.clear()

    @property
    def is_paused(self) -> bool:
        """Whether no append may be sent now."""
        if self.state == ProgressState.REPLICATE:
            return self.window.is_full
        return self.state == ProgressState.SNAPSHOT or self.probe_sent

    def accepted(self, index: Index) -> bool:
        """It holds everything up to ``index``; says whether that is news."""
        self.window.free_to(index)
        if index <= self.match:
            return False
        self.window.grow()
        self.match = index
        self.next = max(self.next, index + 1)
        return True

    def rejected(self, index: Index, hint: Index) -> bool:
        """The entry at ``index`` does not match, try at ``hint``; says whether that is news."""
        if self.state == ProgressState.REPLICATE:
            # What was sent before the last new start is not worth another one.
            if not self.match < index < self.next:
                return False
            self.become_probe()
            self.window.shrink()
            return True
        if self.state != ProgressState.PROBE or index != self.next - 1:
            return False
        self.next = max(min(index, hint + 1), self.match + 1)
        self.probe_sent = False
        return True
