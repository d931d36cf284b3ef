"""The door to the algorithm: what its owner calls, and what it wants done in return.

``RaftCore`` is what this package revolves around. It has no clock, socket, thread, file, log or
dice: time comes in as ticks, randomness is injected, and everything it wants done it puts into a
``Ready`` (see ``_ready`` for the order of things). The theory of operation is in ``docs/raft.md``.

Not for several threads at once. Every method returns without waiting for anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streambus_raft import (
    _changes,
    _election,
    _handover,
    _identity,
    _reads,
    _replication,
    _snapshots,
)
from streambus_raft._dispatch import step_message
from streambus_raft._entry import ENTRY_OVERHEAD_BYTES, EntryKind, entries_bytes, make_entries
from streambus_raft._hard_state import HardState
from streambus_raft._opening import open_node
from streambus_raft._progress import ProgressState
from streambus_raft._quorum import has_quorum
from streambus_raft._ready import Ready, Standing
from streambus_raft._roles import become_follower
from streambus_raft._status import Status, status_of
from streambus_raft._storage import Write
from streambus_raft._types import NO_NODE, Dice, Index, NodeId, Role, Term
from streambus_raft.errors import (
    BusyError,
    MembershipError,
    MessageMisdirectedError,
    NotLeaderError,
    ProposalTooLargeError,
    QuarantinedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streambus_raft._config import Config
    from streambus_raft._entry import Entry
    from streambus_raft._membership import Change, Membership
    from streambus_raft._messages import Message
    from streambus_raft._storage import LogReader, SnapshotMeta


class Proposal(NamedTuple):
    """Where a proposal stands in the log.

    When an entry at ``index`` is applied and its term is not ``term``, the proposal is gone for
    certain; until some entry there is applied its fate is unknown.
    """

    index: Index  # type: ignore[assignment]  # hides tuple.index on purpose
    """Of ``propose_many``: the first one's."""
    term: Term


class RaftCore:
    """One node.

    Args:
        config: this node's settings.
        storage: what is durable; read from, never written to.
        random: the only source of chance: election timeouts and the first ticket.
        applied: up to where the state machine has applied already; None for not at all, and then
            the storage's snapshot is handed out first.

    A storage that has evidently lost something does not make this fail: the node starts in
    quarantine, takes no part, and tells the reason in ``status()`` and to whoever asks it.
    """

    def __init__(
        self, config: Config, storage: LogReader, random: Dice, applied: Index | None = None
    ) -> None:
        self._node = open_node(config, storage, random, applied)

    # Time

    def tick(self, now_seconds: float) -> None:
        """Let ``tick_seconds`` pass.

        Args:
            now_seconds: a clock that never goes back; it serves leases alone.
        """
        node = self._node
        node.ticks += 1
        _reads.set_clock(node, now_seconds)
        if node.quarantine is not None:
            return
        node.elapsed_ticks += 1
        if node.ticks % node.config.election_ticks == 0:
            node.hint_wanted = True
        if node.role == Role.LEADER:
            self._tick_leader()
        else:
            _reads.expire_forwarded(node)
            if node.elapsed_ticks >= node.config.election_ticks:
                node.grace = False
            if node.elapsed_ticks >= node.timeout_ticks:
                _election.time_out(node)
        self._settle()

    def _tick_leader(self) -> None:
        node, config = self._node, self._node.config
        if _handover.should_abdicate(node):
            _handover.abdicate(node)
            return
        for progress in node.progress.values():
            _snapshots.count_idle_tick(progress)
        if node.elapsed_ticks >= config.election_ticks:
            node.elapsed_ticks = 0
            if config.check_quorum and not self._hears_quorum():
                become_follower(node, node.term, NO_NODE)
                return
            _changes.register_storages(node)
        _handover.tick_transfer(node)
        node.heartbeat_elapsed_ticks += 1
        if node.heartbeat_elapsed_ticks >= config.heartbeat_ticks:
            node.heartbeat_elapsed_ticks = 0
            _replication.send_heartbeats(node, _reads.begin_round(node))

    def _hears_quorum(self) -> bool:
        node = self._node
        alive = {member: each.active for member, each in node.progress.items()}
        alive[node.id] = True
        for progress in node.progress.values():
            progress.active = False
        return has_quorum(node.track.current, alive)

    # What comes from outside

    def step(self, message: Message) -> None:
        """Take in a message; one that is out of date, or from a stranger, has no effect.

        Raises:
            MessageMisdirectedError: it is not for this node, or claims to be from it.
        """
        node = self._node
        if message.to != node.id or message.sender == node.id:
            raise MessageMisdirectedError(message.sender, message.to, node.id)
        step_message(node, message)
        self._settle()

    def propose(self, data: bytes) -> Proposal:
        """Append one command; as ``propose_many``, without what only several need."""
        node, config = self._node, self._node.config
        self._check_can_propose()
        size = len(data)
        if size > config.command_bytes_max:
            raise ProposalTooLargeError(size, config.command_bytes_max)
        size += ENTRY_OVERHEAD_BYTES
        if node.proposed_bytes and node.proposed_bytes + size > config.uncommitted_bytes_max:
            raise BusyError(node.proposed_bytes, config.uncommitted_bytes_max, "uncommitted bytes")
        index = node.log.append_command(node.term, data)
        node.proposed.append((index, size))
        node.proposed_bytes += size
        return Proposal(index, node.term)

    def propose_many(self, payloads: Sequence[bytes]) -> Proposal:
        """Append commands at consecutive indexes; all of them or, on an error, none.

        Args:
            payloads: one or more, each up to ``command_bytes_max``.

        Raises:
            NotLeaderError: another node leads, none does, or leadership is being handed over.
            BusyError: too many bytes are not yet committed.
            ProposalTooLargeError: one of them exceeds the limit.
            QuarantinedError: this node takes no part.
        """
        node, config = self._node, self._node.config
        self._check_can_propose()
        if not payloads:
            raise ValueError("no command is proposed")
        largest = max(map(len, payloads))
        if largest > config.command_bytes_max:
            raise ProposalTooLargeError(largest, config.command_bytes_max)
        size = sum(map(len, payloads)) + ENTRY_OVERHEAD_BYTES * len(payloads)
        if node.proposed_bytes and node.proposed_bytes + size > config.uncommitted_bytes_max:
            raise BusyError(node.proposed_bytes, config.uncommitted_bytes_max, "uncommitted bytes")
        first = node.log.last + 1
        entries = make_entries(first, node.term, EntryKind.COMMAND, payloads)
        _replication.append_as_leader(node, entries)
        node.proposed.append((node.log.last, size))
        node.proposed_bytes += size
        return Proposal(first, node.term)

    def propose_membership(self, changes: Iterable[Change]) -> Proposal:
        """Append the configuration that follows from ``changes``; it is in force at once.

        If more than one voter changes it is a joint one, which is left without further ado.

        Raises:
            NotLeaderError, QuarantinedError: as for ``propose_many``.
            MembershipPendingError: a change is under way, or the leader is too new.
            MembershipError: the changes make no sense.
        """
        self._check_can_propose()
        index = _changes.propose_changes(self._node, changes)
        self._settle()
        return Proposal(index, self._node.term)

    def _check_can_propose(self) -> None:
        node = self._node
        if node.role != Role.LEADER:
            self._check_not_quarantined()
            raise NotLeaderError(node.leader or None)
        if node.transfer_target != NO_NODE:
            raise NotLeaderError(node.transfer_target, "leadership is being handed over")
        if node.is_leaving:
            raise NotLeaderError(None, "the leader is leaving the cluster")

    def _check_not_quarantined(self) -> None:
        if self._node.quarantine is not None:
            raise QuarantinedError(self._node.quarantine)

    def read_index(self) -> int:
        """Begin a linearizable read, at any node.

        Returns:
            A ticket, which comes back in ``Ready.reads`` or ``Ready.reads_failed``, once.

        Raises:
            BusyError: more than ``pending_reads_max`` wait already.
            QuarantinedError: this node takes no part.
        """
        node = self._node
        self._check_not_quarantined()
        pending = _reads.pending_reads(node)
        if pending >= node.config.pending_reads_max:
            raise BusyError(pending, node.config.pending_reads_max, "reads")
        return _reads.start_read(node)

    def read_lease(self, now_seconds: float) -> Index | None:
        """The index at which a read is linearizable right now, without asking anybody.

        Args:
            now_seconds: the clock of ``tick``, now; not the last tick's.

        Returns:
            An index to be applied before the read is answered; None where no lease holds: not the
            leader, out of touch, a transfer was tried, the clock jumped. Use ``read_index`` then.
        """
        if self._node.quarantine is not None:
            return None
        return _reads.lease_index(self._node, now_seconds)

    def confirmed_at(self, term: int) -> float | None:
        """When this node was known to lead in ``term`` last, by the clock of ``tick``.

        That is when the last round of heartbeats began, a read's or a regular one, that a quorum
        has answered: nobody was elected before it. None where this node does not lead in that term,
        or has not committed in it yet.
        """
        node = self._node
        if node.quarantine is not None or node.term != term:
            return None
        return _reads.confirmed_at(node)

    def transfer_leadership(self, target: NodeId) -> None:
        """Hand over to ``target``; given up if it does not take over within ``election_ticks``.

        Raises:
            NotLeaderError, QuarantinedError: as for ``propose_many``.
            TransferError: it is no other voter, takes no part, or a transfer is under way.
        """
        node = self._node
        self._check_not_quarantined()
        if node.role != Role.LEADER:
            raise NotLeaderError(node.leader or None)
        _handover.start_transfer(node, target)

    def campaign(self) -> None:
        """Try to become leader now; without effect where this node leads or may not campaign."""
        if self._node.quarantine is None:
            _election.campaign(self._node)
            self._settle()

    def leader_gone(self, leader: NodeId) -> None:
        """A leader's process is known to have ended: elect another one without waiting for silence.

        Without effect where ``leader`` is not the one that is followed. Safe whenever it is called,
        but for lease reads: a leader that lives after all, and whose successor is elected by this,
        may go on to answer them. Do not use both on the word of a network that may lie.
        """
        if self._node.quarantine is None:
            _election.leader_gone(self._node, leader)
            self._settle()

    def report_unreachable(self, member: NodeId) -> None:
        """Messages to ``member`` were lost: send anew from what it has acknowledged."""
        progress = self._node.progress.get(member)
        if progress is not None and progress.state == ProgressState.REPLICATE:
            progress.become_probe()

    # What was done

    def persisted(self, sequence: int) -> None:
        """Every write up to ``sequence`` is durable."""
        node = self._node
        while node.writes and node.writes[0][0] <= sequence:
            done = node.writes.popleft()[0]
            installed = node.installing.pop(done, None)
            if installed is not None and not node.installing:
                node.restore = installed
        node.log.persisted(sequence)
        while node.gated and node.gated[0][0] <= sequence:
            message = node.gated.popleft()[1]
            if message.to != node.id:
                node.messages.append(message)
            elif node.quarantine is None:
                step_message(node, message)
        if node.role == Role.LEADER:
            _replication.advance_commit(node)
        self._settle()

    def applied(self, index: Index) -> None:
        """The state machine has applied, or been restored to, everything up to ``index``."""
        node = self._node
        node.applied = max(node.applied, index)
        while node.applying and node.applying[0][0] <= index:
            node.applying_bytes -= node.applying.popleft()[1]

    def storage_failed(self, reason: str) -> None:
        """The storage refused or failed: take no part any more, and say why to whoever asks."""
        _identity.enter_quarantine(self._node, reason)

    def resign(self) -> None:
        """Lead no more, without a successor: this node cannot act as a leader for some time."""
        node = self._node
        if node.role == Role.LEADER:
            become_follower(node, node.term, NO_NODE)

    def compacted(self) -> None:
        """The storage dropped entries: configurations before them are no longer needed."""
        self._node.track.compact(self._node.storage.first_index() - 1)

    def _settle(self) -> None:
        """Do what follows from a moved commit or an answered round."""
        node = self._node
        while node.commit_moved:
            node.commit_moved = False
            if node.role == Role.LEADER:
                _reads.enqueue_deferred(node)
                _changes.after_commit(node)
        if node.role == Role.LEADER:
            _handover.finish_if_caught_up(node)
            _reads.release_reads(node)

    # What is to be done

    def has_ready(self) -> bool:
        """Whether ``ready`` has anything to say."""
        node = self._node
        # The likely and cheap questions come first: this is asked after every event.
        if node.messages or node.reads or node.reads_failed or node.round_wanted:
            return True
        if node.is_dirty() or (node.commit > node.handed_out and self._can_apply()):
            return True
        if node.restore is not None or (node.hint_wanted and self._hint_is_due()):
            return True
        if node.standing != (node.role, node.term, node.leader):
            return True
        if node.quarantine is not None and not node.quarantine_told:
            return True
        return node.role == Role.LEADER and self._has_to_send()

    def _can_apply(self) -> bool:
        node = self._node
        return (
            node.quarantine is None
            and self._applicable() > node.handed_out
            and node.applying_bytes < node.config.apply_bytes_max
            and not node.installing
            and node.install is None
        )

    def _applicable(self) -> Index:
        """Up to where entries may be applied: committed, and durable here."""
        return min(self._node.commit, self._node.log.stable)

    def _has_to_send(self) -> bool:
        node = self._node
        last, commit = node.log.last, node.commit
        for progress in node.progress.values():
            if progress.next <= last and not progress.is_paused:
                return True
            if (
                progress.commit_sent < commit
                and progress.commit_sent < progress.match
                and progress.state == ProgressState.REPLICATE
            ):
                return True
        return False

    def ready(self) -> Ready:
        """What is to be done now; call it again only when something has happened since."""
        node = self._node
        if node.role == Role.LEADER:
            _replication.broadcast_appends(node)
            if node.round_wanted:
                _replication.send_heartbeats(node, _reads.begin_round(node))
                _reads.release_reads(node)
            else:
                _replication.send_heartbeats(node, 0)
        standing = Standing(node.role, node.term, node.leader)
        changed = standing if standing != node.standing else None
        node.standing = standing
        write = None
        if node.is_dirty():
            write = self._take_write(must_sync=True)
        elif self._hint_is_due():
            write = self._take_write(must_sync=False)
        restore = self._take_restore()
        result = Ready(
            write,
            node.messages,
            restore,
            self._take_committed(),
            node.reads,
            node.reads_failed,
            changed,
            self._take_quarantine(),
        )
        node.messages, node.reads, node.reads_failed = [], [], []
        return result

    def _take_quarantine(self) -> str | None:
        node = self._node
        if node.quarantine is None or node.quarantine_told:
            return None
        node.quarantine_told = True
        return node.quarantine

    def _hint_is_due(self) -> bool:
        """Whether the commit that is written down lags, and nothing else takes it along."""
        node = self._node
        if not node.hint_wanted or node.quarantine is not None:
            return False
        return node.written_hard_state.commit < min(node.commit, node.log.stable)

    def _take_write(self, *, must_sync: bool) -> Write:
        node = self._node
        node.sequence += 1
        hard_state = HardState(node.term, node.vote, min(node.commit, node.log.stable))
        entries = node.log.take_unwritten(node.sequence)
        write = Write(
            node.sequence,
            hard_state if hard_state != node.written_hard_state else None,
            tuple(node.pieces),
            node.install,
            entries,
            must_sync=must_sync,
        )
        node.hint_wanted = False
        node.written_hard_state = hard_state
        if node.install is not None:
            node.installing[node.sequence] = node.install
        node.pieces, node.install = [], None
        node.writes.append((node.sequence, node.ticks))
        return write

    def _take_restore(self) -> SnapshotMeta | None:
        node = self._node
        meta, node.restore = node.restore, None
        if meta is not None:
            node.handed_out = meta.index
        return meta

    def _take_committed(self) -> list[Entry]:
        node = self._node
        if not self._can_apply():
            return []
        stop = self._applicable() + 1
        room = node.config.apply_bytes_max - node.applying_bytes
        entries = node.log.entries(node.handed_out + 1, stop, room)
        node.handed_out = entries[-1].index
        size = entries_bytes(entries)
        node.applying.append((node.handed_out, size))
        node.applying_bytes += size
        return entries

    # What can be asked

    def membership_at(self, index: Index) -> Membership:
        """The configuration in force at ``index``: what a snapshot at that index has to carry.

        Raises:
            MembershipError: it is not known, because this node joined later; no snapshot yet.
        """
        membership = self._node.track.at(index)
        if not membership.voters:
            raise MembershipError(f"the configuration at {index} is not known here")
        return membership

    def status(self) -> Status:
        """A copy of everything worth watching."""
        return status_of(self._node)
