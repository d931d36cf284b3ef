"""The configurations in a node's log: which one is in force now, and which one was at an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streambus_raft._membership import Membership
    from streambus_raft._types import Index, NodeId


class MembershipTrack:
    """The configuration of the snapshot and each later one in the log, in ascending order.

    The last one is in force, whether committed or not; truncating its entry brings back the one
    before (paper, section 6).
    """

    def __init__(self, index: Index, membership: Membership) -> None:
        self._history: list[tuple[Index, Membership]] = [(index, membership)]

    @property
    def current(self) -> Membership:
        """The configuration in force."""
        return self._history[-1][1]

    @property
    def index(self) -> Index:
        """Where the configuration in force stands in the log."""
        return self._history[-1][0]

    def append(self, index: Index, membership: Membership) -> None:
        """A further one was appended to the log."""
        self._history.append((index, membership))

    def truncate(self, start: Index) -> bool:
        """The entries from ``start`` on are gone; says whether that changed the one in force."""
        before = len(self._history)
        while len(self._history) > 1 and self._history[-1][0] >= start:
            self._history.pop()
        return len(self._history) != before

    def restore(self, index: Index, membership: Membership) -> None:
        """A snapshot replaces the log, and every configuration in it."""
        self._history = [(index, membership)]

    def at(self, index: Index) -> Membership:
        """The configuration in force at ``index``, which is not compacted."""
        for start, membership in reversed(self._history):
            if start <= index:
                return membership
        return self._history[0][1]

    def compact(self, index: Index) -> None:
        """Forget what was in force only before ``index``."""
        while len(self._history) > 1 and self._history[1][0] <= index:
            self._history.pop(0)

    def may_campaign(self, node: NodeId, commit: Index) -> bool:
        """Whether ``node`` is a voter in the configuration in force or one it may still replace.

        A leader that is about to take itself out, and crashes, may be the only one that holds the
        entry: it has to campaign for the others' sake (thesis, section 4.2.2). Configurations
        replaced by a committed one do not count.
        """
        for index, membership in reversed(self._history):
            if membership.is_voter(node):
                return True
            if index <= commit:
                return False
        return False
