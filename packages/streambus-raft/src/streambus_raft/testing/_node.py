"""One simulated node: drives a core as its owner has to, on a disk that can fail it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from streambus_raft._config import Config
from streambus_raft._core import RaftCore
from streambus_raft._entry import EntryKind
from streambus_raft._types import NodeId, Role
from streambus_raft.errors import MembershipError
from streambus_raft.testing._machine import Registers
from streambus_raft.testing._oracle import BreachError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_raft._entry import Entry
    from streambus_raft._messages import Message
    from streambus_raft._ready import Ready
    from streambus_raft._types import Index, Term
    from streambus_raft.testing._disk import SimulatedDisk
    from streambus_raft.testing._simulation import Simulation

    Answer = Callable[[object, bool], None]
    """Takes the result and whether the operation has certainly had its say; see ``propose``."""


READIES_MAX = 5_000
"""Readies that may follow from a single event."""


class SimulatedNode:
    """A machine with a disk, on which a core runs while it is ``up``."""

    def __init__(self, simulation: Simulation, node_id: NodeId, disk: SimulatedDisk) -> None:
        plan = simulation.plan
        self.simulation = simulation
        self.id = node_id
        self.disk = disk
        self.random = Random(f"{plan.seed}/{node_id}")
        self.rate = 1.0 + self.random.uniform(-plan.skew_max, plan.skew_max)
        """Seconds of this node's clock in a true second."""
        self.clock_offset = self.random.uniform(0, 1000)
        self.sync_max = plan.sync_max
        self.hung = False
        """No sync ends until this is over."""
        self.life = 0
        """Counts the starts; what belongs to an earlier one has no effect."""
        self.up = False
        self.paused_until = 0.0
        self.machine = Registers()
        self.saved_machine = (0, b"")
        """The durable state machine, where the plan has one: (storage, bytes)."""
        self.config = Config(
            node_id=node_id,
            heartbeat_ticks=plan.heartbeat_ticks,
            election_ticks=plan.election_ticks,
            pre_vote=plan.pre_vote,
            check_quorum=plan.check_quorum,
            tick_seconds=plan.tick_seconds,
            clock_drift_max=2.1 * plan.skew_max,
            append_bytes_max=plan.append_bytes_max,
            inflight_appends_max=plan.inflight_appends_max,
            snapshot_chunk_bytes=plan.snapshot_chunk_bytes,
            uncommitted_bytes_max=plan.uncommitted_bytes_max,
            priority=self.random.choice((100, 100, 100, 60)),
        )
        self.seen_term = 0
        self.seen_commit = 0
        self.seen_role = Role.FOLLOWER
        self.core: RaftCore
        self.proposals: dict[tuple[Index, Term], Answer] = {}
        self.reads: dict[int, tuple[Index, Answer, str]] = {}
        """Ticket to (acknowledged before, answer, key)."""
        self.due_reads: list[tuple[Index, Answer, str]] = []
        self._last_sync = 0.0

    # Life

    def start(self) -> None:
        """Begin a life from what is on the disk."""
        self.life += 1
        self.up = True
        self.paused_until = 0.0
        applied = None
        self.machine = Registers()
        storage_id, saved = self.saved_machine
        if self.simulation.plan.durable_machine and storage_id == self.disk.storage_id:
            self.machine = Registers.load(saved)
            applied = self.machine.index
        # Whatever this node had told anybody about its term has to be on the disk.
        self.core = RaftCore(self.config, self.disk, Random(self.random.getrandbits(60)), applied)
        self.seen_role = Role.FOLLOWER
        self.seen_commit = self.core._node.commit
        self._last_sync = self.simulation.kernel.now
        self.simulation.trace("start", self.id, self.core.status())
        self._pump()
        self._schedule_tick()

    def crash(self) -> None:
        """Lose power: what was not synced is gone, or part of it."""
        self.up = False
        random = self.random
        if self.core._node.term > self.disk.memory.hard_state.term:
            # It had not even handed out a write with this term; nobody can have heard of it.
            self.seen_term = self.disk.memory.hard_state.term
        self.disk.crash(
            random.randint(0, len(self.disk.unsynced)), random.randint(0, 4), random.randint(0, 3)
        )
        self.seen_term = min(self.seen_term, self.disk.memory.hard_state.term)
        self.simulation.trace("crash", self.id, self.disk.memory.last)
        for answer in self.proposals.values():
            answer(None, False)
        for _, answer, _ in [*self.reads.values(), *self.due_reads]:
            answer(None, False)
        self.proposals, self.reads, self.due_reads = {}, {}, []

    def clock(self) -> float:
        """What this node's clock shows."""
        return self.simulation.kernel.now * self.rate + self.clock_offset

    def holds_durably(self, index: Index, term: Term) -> bool:
        """Whether an entry is on the disk, or in the snapshot there."""
        image = self.disk.disk
        position = index - image.offset
        if position < 0:
            return True
        return position < len(image.entries) and image.entries[position].term == term

    # Events

    def _schedule_tick(self) -> None:
        period = self.simulation.plan.tick_seconds / self.rate
        self.simulation.kernel.after(period, self._tick, self.life)

    def _tick(self, life: int) -> None:
        if life != self.life or not self.up:
            return
        now = self.simulation.kernel.now
        if now < self.paused_until:
            self.simulation.kernel.after(self.paused_until - now, self._tick, life)
            return
        self.core.tick(self.clock())
        self._pump()
        self._schedule_tick()

    def deliver(self, message: Message) -> None:
        """A message arrives."""
        if not self.up:
            return
        kernel = self.simulation.kernel
        if kernel.now < self.paused_until:
            kernel.after(self.paused_until - kernel.now, self.deliver, message)
            return
        self.core.step(message)
        self._pump()

    def _synced(self, life: int, sequence: int) -> None:
        if life != self.life or not self.up:
            return
        kernel = self.simulation.kernel
        if self.hung or kernel.now < self.paused_until:
            wait = 0.1 if self.hung else self.paused_until - kernel.now
            kernel.after(wait, self._synced, life, sequence)
            return
        unsynced = self.disk.unsynced
        count = 0
        while count < len(unsynced) and unsynced[count].sequence <= sequence:
            count += 1
        self.disk.sync_first(count)
        self.core.persisted(sequence)
        self._pump()

    # What clients ask; the caller has made sure that this node is up and not paused

    def propose(self, data: bytes, answer: Answer) -> None:
        """Propose a command; raises what the core raises.

        ``answer(result, True)`` follows when it was applied here, ``answer(None, True)`` when it
        certainly never will be, ``answer(None, False)`` when nobody can tell.
        """
        proposal = self.core.propose(data)
        self.proposals[proposal] = answer
        self._pump()

    def propose_many(self, payloads: list[bytes]) -> None:
        """Propose commands that nobody waits for; raises what the core raises."""
        self.core.propose_many(payloads)
        self._pump()

    def read(self, key: str, answer: Answer) -> None:
        """Begin a linearizable read; raises what the core raises."""
        acknowledged = self.simulation.oracle.acknowledged
        ticket = self.core.read_index()
        self.reads[ticket] = (acknowledged, answer, key)
        self._pump()

    def read_by_lease(self, key: str, answer: Answer) -> bool:
        """Read without asking anybody, if the lease allows."""
        acknowledged = self.simulation.oracle.acknowledged
        index = self.core.read_lease(self.clock())
        if index is None:
            return False
        self.simulation.oracle.note_read(self, index, acknowledged)
        self.due_reads.append((index, answer, key))
        self._answer_due_reads()
        return True

    def act(self, action: Callable[[RaftCore], object]) -> None:
        """Do something with the core that needs no answer; raises what the core raises."""
        action(self.core)
        self._pump()

    # The owner's duties

    def _pump(self) -> None:
        core, simulation = self.core, self.simulation
        simulation.oracle.observe(self, simulation.nodes)
        rounds = 0
        while core.has_ready():
            self._carry_out(core.ready())
            simulation.oracle.observe(self, simulation.nodes)
            rounds += 1
            if rounds > READIES_MAX:
                raise BreachError(f"endless work: node {self.id} never runs out of readies")

    def _carry_out(self, ready: Ready) -> None:
        simulation = self.simulation
        write = ready.write
        if write is not None:
            if write.entries:
                simulation.oracle.note_write(self, write.entries)
            self.disk.write(write)
            now = simulation.kernel.now
            duration = self.random.random() * self.sync_max if write.must_sync else 0.0
            self._last_sync = max(self._last_sync, now + duration)
            simulation.kernel.after(self._last_sync - now, self._synced, self.life, write.sequence)
            if simulation.tracing:
                simulation.trace("write", self.id, write)
        if ready.standing is not None and simulation.tracing:
            simulation.trace("standing", self.id, ready.standing)
        if ready.quarantine is not None:
            self.disk.condemn(ready.quarantine)
            simulation.trace("quarantine", self.id, ready.quarantine)
        for message in ready.messages:
            simulation.send(message)
        if ready.restore is not None:
            self.machine = Registers.load(self.disk.contents[ready.restore])
            self.machine.index = ready.restore.index
            self._settle_skipped()
            self.core.applied(ready.restore.index)
        if ready.committed:
            self._apply(ready.committed)
        for read in ready.reads:
            acknowledged, answer, key = self.reads.pop(read.ticket)
            simulation.oracle.note_read(self, read.index, acknowledged)
            self.due_reads.append((read.index, answer, key))
        for ticket in ready.reads_failed:
            self.reads.pop(ticket)[1](None, False)
        if self.due_reads:
            self._answer_due_reads()

    def _apply(self, entries: list[Entry]) -> None:
        simulation, machine = self.simulation, self.machine
        simulation.oracle.note_applied(self, entries)
        for entry in entries:
            result = machine.apply(entry.data) if entry.kind == EntryKind.COMMAND else None
            machine.index = entry.index
            answer = self.proposals.pop((entry.index, entry.term), None)
            if answer is not None:
                oracle = simulation.oracle
                oracle.acknowledged = max(oracle.acknowledged, entry.index)
                answer(result, True)
        if simulation.tracing:
            simulation.trace("apply", self.id, (entries[0].index, machine.index))
        self._settle_skipped()
        self.core.applied(machine.index)
        plan = simulation.plan
        if machine.index - self.disk.memory.snapshot.index >= plan.snapshot_entries:
            self._save_snapshot()
        if plan.durable_machine and self.random.random() < 0.3:
            self.saved_machine = (self.disk.storage_id, machine.save())

    def _settle_skipped(self) -> None:
        """Proposals whose place in the log went to another entry are gone for certain."""
        applied = self.machine.index
        for key in [each for each in self.proposals if each[0] <= applied]:
            skipped_by_snapshot = key[0] <= self.disk.memory.offset - 1
            self.proposals.pop(key)(None, not skipped_by_snapshot)

    def _answer_due_reads(self) -> None:
        applied = self.machine.index
        due = [each for each in self.due_reads if each[0] <= applied]
        if due:
            self.due_reads = [each for each in self.due_reads if each[0] > applied]
            for _, answer, key in due:
                answer(self.machine.values.get(key), True)

    def _save_snapshot(self) -> None:
        index = self.machine.index
        try:
            membership = self.core.membership_at(index)
        except MembershipError:
            return
        self.disk.save_snapshot(index, membership, self.machine.save())
        self.disk.compact(
            max(index - self.simulation.plan.retained_entries, self.disk.first_index() - 1)
        )
        self.core.compacted()
        self.simulation.trace("snapshot", self.id, index)
