"""Watches a simulated cluster from outside and knows what must never happen.

Each rule is checked where something changed, after every event, so that a breach is found at the
event that caused it. The rules are those of figure 3 of the paper and what follows from them:

- *Election safety*: at most one leader in a term.
- *One vote*: a storage gives at most one vote in a term.
- *Log matching*: entries with the same index and term are equal, and so are their predecessors.
- *Leader completeness*: a new leader holds everything committed in earlier terms.
- *Commit on a quorum*: what a leader commits is of its own term, and durable on a quorum.
- *State-machine safety*: no two nodes apply different entries at an index; each applies every entry
  once, in order.
- *Monotony*: a node's term never falls, restarts included; its commit never falls while it runs.
- *Fresh reads*: the index of a read is not below what was acknowledged before the read began.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from streambus_raft._messages import VoteReply
from streambus_raft._quorum import vote_result
from streambus_raft._types import Role

if TYPE_CHECKING:
    from streambus_raft._entry import Entry
    from streambus_raft._membership import Membership
    from streambus_raft._messages import Message
    from streambus_raft._types import Index, NodeId, Term
    from streambus_raft.testing._node import SimulatedNode


class BreachError(AssertionError):
    """A rule was broken; the message names the rule and the facts."""


class Oracle:
    """Global knowledge that no node has."""

    def __init__(self) -> None:
        self.leaders: dict[Term, NodeId] = {}
        self.votes: dict[tuple[int, Term], NodeId] = {}
        self.entries: dict[tuple[Index, Term], tuple[Entry, Term]] = {}
        """Every entry that was ever in a log, with its predecessor's term."""
        self.committed: list[Entry] = []
        """Entry 1 first."""
        self.commit_terms: list[Term] = []
        """In which term each of them was committed; ascending."""
        self.acknowledged: Index = 0
        """The highest entry whose result some client has."""
        self.wiped: set[NodeId] = set()

    def note_message(self, message: Message) -> None:
        """A message leaves a node."""
        if isinstance(message, VoteReply) and message.granted and not message.pre_vote:
            key = (message.storage_id, message.term)
            earlier = self.votes.setdefault(key, message.to)
            if earlier != message.to:
                raise BreachError(
                    f"one vote: node {message.sender} votes for {message.to} in term"
                    f" {message.term}, after a vote for {earlier}"
                )

    def note_write(self, node: SimulatedNode, entries: list[Entry]) -> None:
        """Entries enter a node's log."""
        known = self.entries
        previous = node.core._node.log.term(entries[0].index - 1)
        for entry in entries:
            key = (entry.index, entry.term)
            found = known.get(key)
            if found is None:
                known[key] = (entry, previous)
            elif found[1] != previous or (found[0] is not entry and found[0] != entry):
                raise BreachError(
                    f"log matching: node {node.id} holds {entry} after term {previous},"
                    f" elsewhere {found[0]} after term {found[1]}"
                )
            previous = entry.term

    def note_applied(self, node: SimulatedNode, entries: list[Entry]) -> None:
        """A node applies entries."""
        if entries[0].index != node.machine.index + 1:
            raise BreachError(
                f"state-machine safety: node {node.id} applies {entries[0].index} after"
                f" {node.machine.index}"
            )
        committed = self.committed
        for entry in entries:
            if entry.index > len(committed):
                raise BreachError(f"node {node.id} applies {entry}, which no leader committed")
            agreed = committed[entry.index - 1]
            if agreed is not entry and agreed != entry:
                raise BreachError(
                    f"state-machine safety: node {node.id} applies {entry}, others {agreed}"
                )

    def observe(self, node: SimulatedNode, disks: dict[NodeId, SimulatedNode]) -> None:
        """Something happened at a node: look at what changed."""
        inner = node.core._node
        # A leader that a committed configuration leaves out steps down in the same moment.
        leads = Role.LEADER in (inner.role, node.seen_role) and inner.term == node.seen_term
        if inner.term != node.seen_term:
            if inner.term < node.seen_term:
                raise BreachError(
                    f"monotony: node {node.id} falls from term {node.seen_term} to {inner.term}"
                )
            node.seen_term = inner.term
        if inner.role != node.seen_role:
            if inner.role == Role.LEADER:
                self._new_leader(node)
            node.seen_role = inner.role
        if inner.commit != node.seen_commit:
            if inner.commit < node.seen_commit:
                raise BreachError(
                    f"monotony: node {node.id} falls from commit {node.seen_commit} to"
                    f" {inner.commit}"
                )
            self._new_commit(node, disks, leads=leads or inner.role == Role.LEADER)
            node.seen_commit = inner.commit

    def _new_leader(self, node: SimulatedNode) -> None:
        inner = node.core._node
        earlier = self.leaders.setdefault(inner.term, node.id)
        if earlier != node.id:
            raise BreachError(
                f"election safety: nodes {earlier} and {node.id} both lead in term {inner.term}"
            )
        count = bisect_left(self.commit_terms, inner.term)
        if count and count >= inner.log.first() - 1:
            entry = self.committed[count - 1]
            if not inner.log.matches(entry.index, entry.term):
                raise BreachError(
                    f"leader completeness: node {node.id} leads term {inner.term} without {entry}"
                )

    def _new_commit(
        self, node: SimulatedNode, nodes: dict[NodeId, SimulatedNode], *, leads: bool
    ) -> None:
        inner = node.core._node
        index = inner.commit
        log = inner.log
        if index > len(self.committed):
            if not leads:
                raise BreachError(f"node {node.id} commits {index}, which no leader committed")
            while len(self.committed) < index:
                entries = log.entries(len(self.committed) + 1, index + 1, 1 << 40)
                self.committed += entries
                self.commit_terms += [inner.term] * len(entries)
            if log.term(index) != inner.term:
                raise BreachError(
                    f"commit on a quorum: node {node.id} of term {inner.term} commits {index},"
                    f" an entry of term {log.term(index)}, by counting"
                )
            self._check_quorum(node, inner.track.current, index, inner.term, nodes)
        elif log.term(index) != self.committed[index - 1].term:
            raise BreachError(
                f"state-machine safety: node {node.id} commits {index} of term {log.term(index)},"
                f" others {self.committed[index - 1]}"
            )

    def _check_quorum(
        self,
        leader: SimulatedNode,
        membership: Membership,
        index: Index,
        term: Term,
        nodes: dict[NodeId, SimulatedNode],
    ) -> None:
        holders = {
            member: member in self.wiped
            or (member in nodes and nodes[member].holds_durably(index, term))
            for member in membership.members()
        }
        if vote_result(membership, holders) != 1:
            raise BreachError(
                f"commit on a quorum: node {leader.id} commits {index} of term {term} with"
                f" {membership}, durable are {holders}"
            )

    def note_read(self, node: SimulatedNode, index: Index, acknowledged_before: Index) -> None:
        """A read is answered at ``index``."""
        if index < acknowledged_before:
            raise BreachError(
                f"fresh reads: node {node.id} reads at {index}, but {acknowledged_before} was"
                " acknowledged before the read began"
            )
