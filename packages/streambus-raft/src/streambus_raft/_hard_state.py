"""What a node must remember about elections and commitment across a restart."""

from __future__ import annotations

from typing import NamedTuple

from streambus_raft._types import NO_NODE, Index, NodeId, Term


class HardState(NamedTuple):
    """Term and vote have to be durable before anyone hears of them; ``commit`` is only a hint.

    ``commit`` never exceeds what was durable when it was written, so a storage whose log ends
    before it has lost entries that this node had acknowledged: the core then quarantines itself.
    """

    term: Term = Term(0)
    vote: NodeId = NO_NODE
    """Whom this node voted for in ``term``; ``NO_NODE`` for nobody."""
    commit: Index = 0
