"""The vocabulary: identities, terms, indexes, and the limits that hold for each of them."""

from __future__ import annotations

from enum import IntEnum
from typing import NewType, Protocol, TypeAlias

NodeId = NewType("NodeId", int)
"""A member of the cluster: 1 to ``NUMBER_MAX``; never reused for another machine while it is
listed."""

Term = NewType("Term", int)
"""A leader's period, from 1; 0 is the term of the empty log. At most one leader is elected in
each."""

Index: TypeAlias = int
"""A position in the log, from 1; 0 stands before the first entry.

An alias and not a ``NewType``: indexes are added to in every function of the core, and a cast at
each of them would hide the arithmetic without catching a mistake.
"""

NUMBER_MAX = 2**63 - 1
"""The largest node id, term, index or size that is accepted: what a signed 64-bit integer holds."""

NO_NODE = NodeId(0)
"""Nobody: no vote cast, no leader known."""


class Dice(Protocol):
    """The source of chance; ``random.Random`` is one."""

    def randrange(self, start: int, stop: int, /) -> int:
        """A number from ``start`` up to and without ``stop``."""
        ...


class Role(IntEnum):
    """What a node is doing at present; the transitions are in ``docs/raft.md``."""

    FOLLOWER = 0
    PRE_CANDIDATE = 1
    """Asks whether it could win, without touching its term (thesis, section 9.6)."""
    CANDIDATE = 2
    LEADER = 3
