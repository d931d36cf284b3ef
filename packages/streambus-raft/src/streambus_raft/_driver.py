"""Carries out what the core wants, one loop turn at a time, without ever waiting.

:meth:`Driver.turn` is the whole of it: take in what arrived since the last turn, propose and ask
for reads in one go each, then do what every ready says, in the order of its duties. Whatever
blocks (a sync, writing or restoring a snapshot) is begun here and reported back by a later turn.

On a failure of storage or state machine the node takes no part from then on: the core goes into
quarantine and tells its peers the reason, and every caller gets it too.

A storage without room is no failure. The node stands still until the write that was refused goes
through: its core sees no time pass and no messages, and nothing leaves. To the others it is paused,
as any process may be; whoever waits here is told.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from streambus_raft._entry import ENTRY_OVERHEAD_BYTES, EntryKind
from streambus_raft._envelope import decode_envelope
from streambus_raft._forwarding import Forward, ForwardRefused
from streambus_raft._membership import decode_membership
from streambus_raft._messages import HeartbeatReply
from streambus_raft._proposals import Proposals, answer, fail
from streambus_raft._reading import PendingRead, Reading
from streambus_raft._ready import Standing
from streambus_raft._relay import Relay, twins
from streambus_raft._types import NO_NODE, NodeId, Role
from streambus_raft.errors import (
    EnvelopeError,
    MessageError,
    NotLeaderError,
    ProposalDroppedError,
    ProposalUnknownError,
    QuarantinedError,
    RaftError,
    StoppedError,
    StorageError,
    StorageFullError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streambus_raft._core import Proposal, RaftCore
    from streambus_raft._entry import Entry
    from streambus_raft._event_loop import Signal, Waiter
    from streambus_raft._forwarding import PeerMessage
    from streambus_raft._membership import Membership
    from streambus_raft._persister import Persister
    from streambus_raft._ready import Ready
    from streambus_raft._replica import Replica
    from streambus_raft._storage import LogStorage, SnapshotMeta, Write
    from streambus_raft._transport import Transport

logger = logging.getLogger("streambus_raft.server")

_FULL_TICKS = 4
"""How often a write that found no room is tried again."""


class Driver:
    """One node's core and everything around it.

    Args:
        core: The decisions.
        storage: The log.
        transport: The network.
        replica: The state.
        proposals: Who waits for what.
        signal: Set whenever there is something to do for :meth:`turn`.
        forward: Whether proposals are sent on to the leader.
        patience_ticks: How long a forwarded proposal, or a read without a leader, waits.
        sent_on_bytes_max: How much may wait for a leader; more is refused as busy.
        on_standing: Told when role, term or leader changed.
        on_restore: Told that a snapshot must be restored; to be reported by :meth:`restored`.
    """

    def __init__(
        self,
        core: RaftCore,
        storage: LogStorage,
        transport: Transport,
        replica: Replica,
        proposals: Proposals,
        signal: Signal,
        *,
        forward: bool,
        patience_ticks: int,
        sent_on_bytes_max: int,
        on_standing: Callable[[Standing], None],
        on_restore: Callable[[SnapshotMeta], None],
    ) -> None:
        self.core = core
        self.storage = storage
        self.replica = replica
        self.proposals = proposals
        self.reading = Reading()
        self.persister: Persister | None = None
        self.failure: RaftError | None = None
        self.full: StorageFullError | None = None
        """Why this node stands still; None while it does not."""
        self.standing: Standing | None = None
        self.applied_index = 0
        self.applied_bytes = 0
        """Bytes of entries applied since the last snapshot."""
        self.applied_count = 0
        """Commands applied since the start."""
        self.ticks = 0
        self.rejected_messages = 0
        self._transport = transport
        self._signal = signal
        self._relay = Relay(
            core,
            transport,
            proposals,
            forward=forward,
            patience_ticks=patience_ticks,
            bytes_max=sent_on_bytes_max,
        )
        self._on_standing = on_standing
        self._on_restore = on_restore
        self._node_id = NodeId(core.status().node_id)
        self._inbox: list[PeerMessage] = []
        self._now_seconds = 0.0
        self._ticks_due = 0
        self._persisted = 0
        """Reported since the last turn."""
        self._durable = 0
        self._to_apply: deque[SnapshotMeta | list[Entry]] = deque()
        self._restoring: SnapshotMeta | None = None
        self._membership_waiters: list[tuple[Proposal, Waiter[Membership]]] = []
        self._turning = False
        self._halted: Ready | None = None
        """What stands still: its write found no room."""

    # --- what comes in; each only notes it and wakes the turn ---

    def receive(self, messages: Sequence[PeerMessage]) -> None:
        """Take messages from the transport.

        Most answers to heartbeats lead to nothing: such a one is taken in here and wakes nobody.
        """
        if len(messages) == 1 and type(messages[0]) is HeartbeatReply and self._is_idle():
            try:
                self._take_in(messages[0])
            except Exception as exc:  # noqa: BLE001 - as in `turn`
                self._fault(exc)
                return
            if not self.core.has_ready():
                return
        else:
            self._inbox += messages
        self._signal.set()

    def tick(self, now_seconds: float, count: int) -> None:
        """Let ``count`` ticks pass.

        Most ticks lead to nothing, above all a follower's: such a one passes here and wakes nobody.
        Where the loop is late or anything has come in, the turn sees to that first.
        """
        self._now_seconds = now_seconds
        self._ticks_due += count
        if count == 1 and self._is_idle():
            try:
                self._pass_time()
            except Exception as exc:  # noqa: BLE001 - as in `turn`
                self._fault(exc)
                return
            if not (self._relay.is_holding or self.reading.has_fresh or self.core.has_ready()):
                return
        self._signal.set()

    def _is_idle(self) -> bool:
        """Whether no turn is due or under way: what leads to nothing needs none."""
        return not (self._signal.is_set or self._turning or self._halted)

    def persisted(self, sequence: int, failure: StorageError | None) -> None:
        """The storage reports; see ``Persister``."""
        if failure is not None:
            self.fail(failure)
        elif self._turning:  # the storage was done before it returned
            self._durable = sequence
            self.core.persisted(sequence)
        else:
            self._persisted = sequence
            self._signal.set()

    def restored(self, failure: RaftError | None) -> None:
        """The snapshot that ``on_restore`` spoke of is restored, or could not be."""
        meta, self._restoring = self._restoring, None
        if failure is not None:
            self.fail(failure)
        elif meta is not None and self.failure is None:
            self.applied_index = meta.index
            self.core.applied(meta.index)
            for group in self.proposals.jumped_over(meta.index, meta.term):
                fail(group.waiters, lambda: ProposalUnknownError("a snapshot took its place"))
            for _, waiter in self._membership_waiters:  # those behind it were of an older term
                fail((waiter,), lambda: ProposalUnknownError("a snapshot took its place"))
            self._membership_waiters = []
        self._signal.set()

    @property
    def is_restoring(self) -> bool:
        """Whether a snapshot is just being given to the state machine."""
        return self._restoring is not None

    def propose_in_term(self, command: bytes, term: int, waiter: Waiter[Any]) -> None:
        """Append a command as the leader of ``term``, now; it is never sent on to another leader.

        Raises:
            RaftError: this node does not lead in that term, or cannot append it. Not proposed.
        """
        status = self.core.status()
        if status.role != Role.LEADER or status.term != term:
            raise NotLeaderError(status.leader or None, f"term {term} is over")
        group = self.proposals.lone_group(command, waiter)
        proposal = self.core.propose(group.data)
        self.proposals.appended(group, proposal.index, proposal.term)
        self._signal.set()

    def expect_membership(self, proposal: Proposal, waiter: Waiter[Membership]) -> None:
        """Answer ``waiter`` once the change is committed, and left if it is joint."""
        self._membership_waiters.append((proposal, waiter))
        self._signal.set()

    # --- the turn ---

    def turn(self) -> None:
        """Do everything there is to do. Whatever goes wrong ends this node's part, and is kept."""
        self._turning = True
        try:
            self._turn()
        except Exception as exc:  # noqa: BLE001 - a fault of our own: it ends this node's part
            self._fault(exc)
        finally:
            self._turning = False

    def _fault(self, exc: Exception) -> None:
        if isinstance(exc, RaftError):
            self.fail(exc)
            return
        logger.error("node %d: a fault of the library itself", self._node_id, exc_info=exc)
        self.fail(RaftError(f"a fault of the library itself: {exc!r}"))

    def _turn(self) -> None:
        core = self.core
        if self._halted is not None and not self._go_on(self._halted):
            return
        inbox, self._inbox = self._inbox, []
        for message in inbox:
            self._take_in(message)
        if self._persisted:
            self._durable = self._persisted
            self._persisted = 0
            core.persisted(self._durable)
        if self._ticks_due:
            self._pass_time()
        if self.failure is None:
            self._relay.propose()
            if self.proposals.pending_count:
                self._signal.set()
            self._ask_for_reads()
        while self._halted is None and core.has_ready():
            self._carry_out(core.ready())
            self._apply_all()
        self._answer_reads()

    # --- standing still ---

    def _stand_still(self, ready: Ready, full: StorageFullError) -> None:
        """Keep a ready whose write found no room; lead no more, and tell everybody who waits."""
        logger.error("node %d stands still: %s", self._node_id, full)
        self._halted, self.full = ready, full
        self.core.resign()
        self._held_back()
        if self.standing is not None:
            self._on_standing(Standing(Role.FOLLOWER, self.standing.term, NO_NODE))

    def _go_on(self, ready: Ready) -> bool:
        """Make the write that found no room, when it is time to; return whether it went through."""
        due, self._ticks_due = self._ticks_due, 0
        before, self.ticks = self.ticks, self.ticks + due
        if before // _FULL_TICKS == self.ticks // _FULL_TICKS or not self._write_of(ready):
            self._held_back()
            return False
        logger.warning("node %d goes on: its storage has room again", self._node_id)
        self._halted = self.full = None
        if self.standing is not None:
            self._on_standing(self.standing)
        self._finish(ready)
        self._apply_all()
        return True

    def _held_back(self) -> None:
        """Forget what came, as a network may, and tell everybody who waits."""
        full = self.full
        assert full is not None
        self._inbox.clear()
        self._release(str(full), lambda: StorageFullError(full.problem))

    def _take_in(self, message: PeerMessage) -> None:
        try:
            if isinstance(message, Forward):
                self._relay.take_forward(message)
            elif isinstance(message, ForwardRefused):
                self._relay.take_refusal(message)
            else:
                self.core.step(message)
        except (MessageError, EnvelopeError) as exc:  # the latter: inside a forward, not the log
            self.rejected_messages += 1
            logger.warning("node %d: %s", self._node_id, exc)

    def _pass_time(self) -> None:
        due, self._ticks_due = self._ticks_due, 0
        for _ in range(due):
            self.ticks += 1
            self.core.tick(self._now_seconds)
        self._relay.pass_time(self.ticks)
        for read in self.reading.tick(self.ticks):
            fail((read.waiter,), lambda: NotLeaderError(None, "no leader confirmed the read"))

    # --- reads ---

    def _ask_for_reads(self) -> None:
        fresh = self.reading.take_fresh()
        if not fresh:
            return
        try:
            self.reading.asked(self.core.read_index(), fresh)
        except RaftError as exc:
            fail([read.waiter for read in fresh], twins(exc))

    def _answer_reads(self) -> None:
        if self._restoring is not None:
            return
        for read in self.reading.due(self.applied_index):
            self.answer_now(read)

    def answer_now(self, read: PendingRead) -> None:
        """Answer a read from the state as it is."""
        if read.waiter.done():
            return
        try:
            value = self.replica.query(read.query)
        except Exception as exc:  # noqa: BLE001 - the program's code; its error is the reader's
            read.waiter.set_exception(exc)
        else:
            read.waiter.set_result(value)

    # --- readies ---

    def _carry_out(self, ready: Ready) -> None:
        if self._write_of(ready):
            self._finish(ready)

    def _write_of(self, ready: Ready) -> bool:
        """Make the write of a ready; where there is no room for it, stand still."""
        if ready.write is not None and self.failure is None:
            try:
                self._write(ready.write)
            except StorageFullError as exc:
                if self._halted is None:
                    self._stand_still(ready, exc)
                return False
        return True

    def _finish(self, ready: Ready) -> None:
        if ready.messages:
            self._send(ready.messages)
        if ready.restore is not None:
            self._to_apply.append(ready.restore)
        if ready.committed:
            self._to_apply.append(ready.committed)
        for ticket, index in ready.reads:
            self.reading.confirmed(ticket, index)
        for ticket in ready.reads_failed:
            self.reading.failed(ticket)
        if ready.standing is not None:
            self._change_standing(ready.standing)
        if ready.quarantine is not None:
            if self.failure is None or isinstance(self.failure, StorageError):
                self.storage.condemn(ready.quarantine)
            if self.failure is None:
                self.fail(QuarantinedError(ready.quarantine))

    def _write(self, write: Write) -> None:
        self.storage.write(write)
        if write.must_sync or self._durable < write.sequence - 1:
            assert self.persister is not None
            self.persister.request(write.sequence)
        else:
            self._durable = write.sequence
            self.core.persisted(write.sequence)

    def _send(self, messages: list[Any]) -> None:
        if len(messages) == 1:
            self._transport.send(messages[0].to, messages)
            return
        by_receiver: dict[NodeId, list[PeerMessage]] = {}
        for message in messages:
            by_receiver.setdefault(message.to, []).append(message)
        for to, group in by_receiver.items():
            self._transport.send(to, group)

    def _change_standing(self, standing: Standing) -> None:
        self.standing = standing
        if self._relay.follow(standing):
            self._signal.set()
        self._on_standing(standing)

    def _apply_all(self) -> None:
        while self._to_apply and self._restoring is None and self.failure is None:
            step = self._to_apply.popleft()
            if isinstance(step, list):
                self._apply(step)
            else:
                self._restoring = step
                self._on_restore(step)

    def _apply(self, entries: list[Entry]) -> None:
        proposals, replica, node_id = self.proposals, self.replica, self._node_id
        for index, term, kind, data in entries:
            dropped = proposals.dropped_before(term)
            for group in dropped:
                fail(group.waiters, lambda: ProposalDroppedError("another leader took its place"))
            if kind == EntryKind.COMMAND:
                envelope = decode_envelope(data)
                answers = replica.apply(index, envelope)
                self.applied_count += len(answers)
                if envelope.node == node_id:
                    group_applied = proposals.applied(envelope.ticket, index, term)
                    if group_applied is not None:
                        answer(group_applied.waiters, answers)
            if self._membership_waiters:
                membership = decode_membership(data) if kind == EntryKind.MEMBERSHIP else None
                self._look_for_changes(index, term, membership)
            self.applied_bytes += len(data) + ENTRY_OVERHEAD_BYTES
            self.applied_index = index
        self.core.applied(self.applied_index)

    def _look_for_changes(self, index: int, term: int, membership: Membership | None) -> None:
        """An entry is applied: tell who waits for a change of the membership what became of it.

        Args:
            index: The entry's.
            term: The entry's.
            membership: What it says, if it is of that kind.
        """
        waiting, self._membership_waiters = self._membership_waiters, []
        for proposal, waiter in waiting:
            if waiter.done():
                continue
            if (proposal.term < term and proposal.index >= index) or (
                proposal.index == index and proposal.term != term
            ):
                waiter.set_exception(ProposalDroppedError("another leader took its place"))
            elif index < proposal.index or membership is None or membership.is_joint:
                self._membership_waiters.append((proposal, waiter))
            else:
                waiter.set_result(membership)

    # --- the end ---

    def fail(self, failure: RaftError) -> None:
        """Take no part from now on, and tell everybody who waits."""
        if self.failure is None:
            self.failure = failure
            logger.error("node %d takes no part any more: %s", self._node_id, failure)
            self.core.storage_failed(str(failure))
        self.release_all(f"node {self._node_id} takes no part any more: {failure}")
        self._signal.set()

    def release_all(self, reason: str) -> None:
        """Tell everybody who waits that no answer will come."""
        self._release(reason, lambda: StoppedError(reason))

    def _release(self, reason: str, not_begun: Callable[[], Exception]) -> None:
        groups, waiters = self.proposals.take_all()
        for group in groups:
            fail(group.waiters, lambda: ProposalUnknownError(reason))
        self._relay.release(not_begun)
        fail(waiters, not_begun)
        fail([read.waiter for read in self.reading.take_all()], not_begun)
        for _, waiter in self._membership_waiters:
            fail((waiter,), lambda: ProposalUnknownError(reason))
        self._membership_waiters = []
