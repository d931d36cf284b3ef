"""Everything one node knows, and the few operations that every part of the algorithm needs.

The parts (``_roles``, ``_election``, ``_replication``, ``_reads``, ``_changes``, ``_snapshots``,
``_handover``) are functions over one ``Node``; ``RaftCore`` in ``_core`` is the door to them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streambus_raft._config import PRIORITY_MAX
from streambus_raft._hard_state import HardState
from streambus_raft._log import Log
from streambus_raft._progress import Progress, Window
from streambus_raft._ready import Standing
from streambus_raft._track import MembershipTrack
from streambus_raft._types import NO_NODE, NUMBER_MAX, Dice, Index, NodeId, Role, Term

if TYPE_CHECKING:
    from streambus_raft._config import Config
    from streambus_raft._messages import Message
    from streambus_raft._ready import ReadState
    from streambus_raft._storage import LogReader, SnapshotMeta, SnapshotPiece


ROUNDS_MAX = 1024
"""Rounds of heartbeats whose time is remembered; beyond it a lease is lost, never prolonged."""


class Node:
    """The state of one node; whoever changes it keeps the invariants beside the fields."""

    def __init__(self, config: Config, storage: LogReader, random: Dice) -> None:
        state = storage.state()
        self.config = config
        self.random = random
        self.id = config.node_id
        self.storage = storage
        self.storage_id = state.storage_id
        self.log = Log(storage)
        self.track = MembershipTrack(state.snapshot.index, state.snapshot.membership)

        self.term: Term = state.hard_state.term
        self.vote: NodeId = state.hard_state.vote
        self.role = Role.FOLLOWER
        self.leader: NodeId = NO_NODE
        self.quarantine: str | None = None
        """Why this node takes no part; once set it stays."""
        self.quarantine_told = False

        # Commit and application: applied <= handed_out <= commit, and handed_out <= log.stable.
        self.commit: Index = state.snapshot.index
        self.handed_out: Index = state.snapshot.index
        self.applied: Index = state.snapshot.index
        self.applying: deque[tuple[Index, int]] = deque()
        """Handed out and not yet applied: (last index, bytes)."""
        self.applying_bytes = 0
        self.restore: SnapshotMeta | None = None
        """A durable snapshot that the state machine has yet to be given."""
        self.commit_moved = False

        # Time, in ticks; ``now`` is the clock of the last tick and serves leases alone.
        self.ticks = 0
        self.now = 0.0
        self.elapsed_ticks = 0
        """Follower: since the leader was heard, or a vote given. Leader: since the last check."""
        self.timeout_ticks = 0
        self.heartbeat_elapsed_ticks = 0
        self.grace = state.hard_state.term > 0
        """This node has just restarted: it may have promised, before, not to vote for a while."""

        # Campaign.
        self.votes: dict[NodeId, bool] = {}

        # Leadership; all of it is empty while this node does not lead.
        self.progress: dict[NodeId, Progress] = {}
        self.sessions = 0
        self.term_start: Index = 0
        """The entry that opened this leader's term."""
        self.proposed: deque[tuple[Index, int]] = deque()
        """Proposed in this term and not committed: (last index, bytes)."""
        self.proposed_bytes = 0
        self.is_leaving = False
        """The configuration in force leaves this leader out."""
        self.transfer_target: NodeId = NO_NODE
        self.transfer_ticks = 0
        self.transfer_told = False
        """The target was told to campaign, lately."""
        self.lease_forfeited = False
        """Somebody was told to campaign at once: no lease protects this term any more."""

        # Reads.
        self.round = 0
        self.round_wanted = False
        self.rounds_acked: dict[NodeId, int] = {}
        self.round_times: deque[tuple[int, float]] = deque(maxlen=ROUNDS_MAX)
        self.reads_deferred: list[tuple[NodeId, int]] = []
        """(origin, ticket), until an entry of this leader's term is committed."""
        self.reads_waiting: deque[tuple[int, Index, NodeId, int]] = deque()
        """(round, index, origin, ticket), until a quorum has answered that round."""
        self.reads_forwarded: dict[int, int] = {}
        """Ticket to the tick at which it was forwarded to the leader."""
        self.next_ticket = random.randrange(1, NUMBER_MAX // 2)
        """Starts at random: the answer to a ticket of an earlier life must not match one of
        this."""

        # Snapshot that is being received.
        self.partial: SnapshotMeta | None = state.partial
        self.partial_bytes = state.partial_bytes

        # What the next ready takes along.
        self.messages: list[Message] = []
        self.gated: deque[tuple[int, Message]] = deque()
        """Messages that must not be sent before a write is durable: (its sequence, message)."""
        self.reads: list[ReadState] = []
        self.reads_failed: list[int] = []
        self.pieces: list[SnapshotPiece] = []
        self.install: SnapshotMeta | None = None
        self.installing: dict[int, SnapshotMeta] = {}
        """Write sequence to the snapshot that it installs."""
        self.sequence = 0
        self.written_hard_state = HardState(self.term, self.vote, state.hard_state.commit)
        self.writes: deque[tuple[int, int]] = deque()
        """Writes that are not yet durable: (sequence, tick at which it was handed out)."""
        self.hint_wanted = False
        """The commit shall be written down even if nothing else is."""
        self.standing = Standing(self.role, self.term, self.leader)
        self.ignored = 0
        """Messages that were dropped because they did not concern this node's present state."""

    # Configuration

    def is_voter(self) -> bool:
        """Whether this node counts in the configuration in force."""
        return self.track.current.is_voter(self.id)

    def is_other_storage(self) -> bool:
        """Whether the cluster knows this node by another storage, whose votes this one forgot."""
        known = self.track.current.storage_of(self.id)
        return known is not None and known != self.storage_id

    # Durability

    def is_dirty(self) -> bool:
        """Whether the next ready has something to write that others may depend on."""
        written = self.written_hard_state
        return self.quarantine is None and (
            self.log.handed < self.log.last
            or self.term != written.term
            or self.vote != written.vote
            or self.install is not None
            or bool(self.pieces)
        )

    def is_stalled(self) -> bool:
        """Whether a write has been under way for longer than a leader may wait."""
        return (
            bool(self.writes) and self.ticks - self.writes[0][1] > self.config.storage_stall_ticks
        )

    def send(self, message: Message) -> None:
        """Send at once; for what claims nothing about this node's storage."""
        self.messages.append(message)

    def send_durable(self, message: Message) -> None:
        """Send once everything that this node has decided until now is durable."""
        if self.is_dirty():
            self.gated.append((self.sequence + 1, message))
        elif self.writes:
            self.gated.append((self.writes[-1][0], message))
        else:
            self.messages.append(message)

    # Timers

    def draw_timeout(self, *, again: bool = False) -> None:
        """Choose anew how long to wait for a leader; a lower priority waits longer.

        Args:
            again: this node campaigns already. Whoever is to be preferred has had its chance: to
                wait longer once more would let a quicker candidate that cannot win, whose term is
                ahead by then, keep this one from ever winning.
        """
        ticks = self.config.election_ticks
        handicap = 0 if again else (PRIORITY_MAX - self.config.priority) * 2 * ticks // PRIORITY_MAX
        self.timeout_ticks = ticks + self.random.randrange(0, ticks) + handicap
        self.elapsed_ticks = 0

    def protects_leader(self) -> bool:
        """Whether a living leader may rely on this node not to help another one into office."""
        if not self.config.check_quorum or self.elapsed_ticks >= self.config.election_ticks:
            return False
        return self.leader != NO_NODE or self.grace

    # Leadership

    def new_progress(self, next_index: Index) -> Progress:
        """Start a session with a member."""
        self.sessions += 1
        window = Window(self.config.inflight_appends_max, self.config.inflight_bytes_max)
        return Progress(next_index, self.sessions, window)

    def matches(self) -> dict[NodeId, int]:
        """What each member that counts is known to hold durably."""
        found = {node: each.match for node, each in self.progress.items() if not each.foreign}
        found[self.id] = self.log.stable
        return found

    def committed_in_term(self) -> bool:
        """Whether this leader knows every entry that was committed before it."""
        return self.role == Role.LEADER and self.commit >= self.term_start
