"""What the core wants done, and in which order.

    ready = core.ready()
    1. hand ``ready.write`` to the storage    (then, once durable: ``core.persisted(sequence)``)
    2. send ``ready.messages``                       (at once; they need not wait for 1)
    3. restore ``ready.restore``, if there is one    (then ``core.applied(restore.index)``)
    4. apply ``ready.committed``                     (then ``core.applied(last index)``)
    5. answer ``ready.reads`` as they become due, fail ``ready.reads_failed``

1, 2 and (3, 4, 5) may run side by side and be any number of readies behind; each of the three alone
keeps the order in which the readies came. Nothing that depends on a write is handed out before
``persisted`` has reported it: a vote, an acknowledgement, an entry to apply. So no driver can send
something too early.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from streambus_raft._entry import Entry
    from streambus_raft._messages import Message
    from streambus_raft._storage import SnapshotMeta, Write
    from streambus_raft._types import Index, NodeId, Role, Term


class ReadState(NamedTuple):
    """A read that may be answered from this node's state machine once it has applied ``index``."""

    ticket: int
    """What ``read_index`` returned."""
    index: Index  # type: ignore[assignment]  # hides tuple.index on purpose


class Standing(NamedTuple):
    """Where this node stands; for those who watch, nothing needs to be done."""

    role: Role
    term: Term
    leader: NodeId
    """``NO_NODE`` while none is known."""


class Ready(NamedTuple):
    """The next things to do; see the module for their order."""

    write: Write | None
    """To the storage, in the order of ``sequence``. Duty: ``persisted`` only when it is durable."""
    messages: list[Message]
    """To the network, at once; may be lost. Duty: none but to try."""
    restore: SnapshotMeta | None
    """Replace the state machine's whole state by this snapshot, which is durable. Duty: before
    ``committed`` of the same ready and after everything of earlier ones."""
    committed: list[Entry]
    """Durable here and committed: apply each of them, once, in order; only those of kind
    ``COMMAND`` concern the state machine. Duty: report by ``applied``, or no more will come."""
    reads: list[ReadState]
    """Answer each one when its index is applied. Duty: not before."""
    reads_failed: list[int]
    """Tickets of reads that will not be answered, because leadership changed; ask again."""
    standing: Standing | None
    """Set where role, term or leader changed."""
    quarantine: str | None
    """Set once, when this node begins to take no part: the reason. Duty: ``LogStorage.condemn``, so
    that a restart does not forget it. Nothing more will come but refusals to send."""
