"""A whole cluster in one process and virtual time: faults, clients, and an oracle that watches.

    report = Simulation(plan_of(seed)).run()     # raises BreachError or StuckError

The same seed gives the same events in the same order, on any machine.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, NamedTuple

from streambus_raft._codec import Codec
from streambus_raft._membership import new_membership
from streambus_raft._storage import EMPTY_SNAPSHOT, bootstrap_snapshot
from streambus_raft.errors import RaftError
from streambus_raft.testing._clients import Client
from streambus_raft.testing._disk import SimulatedDisk
from streambus_raft.testing._faults import Faults
from streambus_raft.testing._kernel import Kernel
from streambus_raft.testing._linearizability import find_violation
from streambus_raft.testing._machine import write_command
from streambus_raft.testing._node import SimulatedNode
from streambus_raft.testing._oracle import BreachError, Oracle
from streambus_raft.testing._trace import TraceLine

if TYPE_CHECKING:
    from streambus_raft._messages import Message
    from streambus_raft._types import Index, NodeId
    from streambus_raft.testing._plan import Plan

HEAL_SECONDS = 120.0
"""Within this after the last fault, or the last entry caught up, a cluster has to be at rest."""


class StuckError(AssertionError):
    """Nothing is wrong any more, and yet the cluster does not come to rest."""


class Report(NamedTuple):
    """What happened in a simulation that held."""

    seed: int
    seconds: float
    """Simulated."""
    events: int
    messages: int
    operations: int
    committed: int
    terms: int
    faults: dict[str, int]


class Simulation:
    """One run; use it once.

    Args:
        plan: what happens; ``plan_of(seed)``.
        tracing: keep a line for everything that happens, in ``lines``.
    """

    def __init__(self, plan: Plan, *, tracing: bool = False) -> None:
        self.plan = plan
        self.tracing = tracing
        self.lines: list[TraceLine] = []
        self.kernel = Kernel()
        self.oracle = Oracle()
        self.random = Random(f"{plan.seed}/network")
        self.blocked: set[tuple[NodeId, NodeId]] = set()
        self.loss = plan.loss
        self.healing = False
        self.messages = 0
        self._codec = Codec(f"simulation {plan.seed}") if plan.encoded else None
        self._storages = 1000
        voters = range(1, plan.voters + 1)
        membership = new_membership(voters, range(plan.voters + 1, plan.voters + plan.learners + 1))
        if plan.registered:
            membership = membership.with_storages(
                {node: 1001 + place for place, node in enumerate(membership.members())}
            )
        self.first_snapshot = bootstrap_snapshot(membership)
        self.nodes: dict[NodeId, SimulatedNode] = {}
        for node in membership.members():
            disk = SimulatedDisk(self.next_storage_id(), self.first_snapshot)
            self.nodes[node] = SimulatedNode(self, node, disk)
        self.clients = [Client(self, number) for number in range(1, plan.clients + 1)]
        self.faults = Faults(self)

    def next_storage_id(self) -> int:
        """An identity for a new disk."""
        self._storages += 1
        return self._storages

    def ensure_node(self, node_id: NodeId) -> None:
        """Start a machine that is to join, if there is none of that name yet."""
        if node_id not in self.nodes:
            disk = SimulatedDisk(self.next_storage_id(), EMPTY_SNAPSHOT)
            node = self.nodes[node_id] = SimulatedNode(self, node_id, disk)
            node.start()

    def trace(self, kind: str, who: int, what: object) -> None:
        """Remember a line, if anybody wants it."""
        if self.tracing:
            self.lines.append(TraceLine(self.kernel.now, kind, who, what))

    # The network

    def send(self, message: Message) -> None:
        """A node sends a message; it may be lost, repeated or late."""
        self.messages += 1
        self.oracle.note_message(message)
        random, plan = self.random.random, self.plan
        if (message.sender, message.to) in self.blocked or random() < self.loss:
            if self.tracing:
                self.trace("lost", message.sender, message)
            return
        if self._codec is not None:
            message = self._codec.decode(self._codec.encode(message))
        while True:
            delay = plan.delay_min + random() * (plan.delay_max - plan.delay_min)
            if random() < plan.straggler:
                delay += random() * plan.straggler_max
            self.kernel.after(delay, self._deliver, message)
            if self.tracing:
                self.trace("send", message.sender, (message, delay))
            if random() >= plan.duplication:
                return

    def _deliver(self, message: Message) -> None:
        if (message.sender, message.to) in self.blocked:
            return
        node = self.nodes.get(message.to)
        if node is not None:
            if self.tracing and node.up:
                self.trace("receive", message.to, message)
            node.deliver(message)

    # The course of things

    def run(self) -> Report:
        """Faults for the planned time, then none; in the end everybody agrees on everything.

        Raises:
            BreachError: a rule was broken.
            StuckError: the cluster did not come to rest after everything had healed.
        """
        for node in list(self.nodes.values()):
            node.start()
        for client in self.clients:
            client.think()
        self.kernel.after(2.0, self.faults.begin)
        self.kernel.run_until(self.plan.seconds)
        self.healing = True
        self.loss = 0.0
        self.trace("fault", 0, "everything heals")
        self.faults.finish()
        self._come_to_rest()
        self._check_outcome()
        return Report(
            seed=self.plan.seed,
            seconds=self.kernel.now,
            events=self.kernel.events,
            messages=self.messages,
            operations=sum(len(client.history) for client in self.clients),
            committed=len(self.oracle.committed),
            terms=max(self.oracle.leaders, default=0),
            faults=dict(self.faults.counts),
        )

    def _come_to_rest(self) -> None:
        """Wait for agreement, as long as the nodes that are behind come nearer.

        How long it takes is not bounded by time alone: with one append of two entries under way at
        a time and a network that is slow, hundreds of entries need minutes. What is bounded is how
        much there was to catch up when everything healed; new terms and their entries do not count,
        so that elections without end are not taken for progress.
        """
        deadline = self.kernel.now + HEAL_SECONDS
        goal = max(node.core._node.log.last for node in self.nodes.values())
        caught_up = self._caught_up(goal)
        marker = write_command("marker", 1)
        marked = 0
        while self.kernel.now < deadline:
            self.kernel.run_until(self.kernel.now + 0.5)
            if self._caught_up(goal) > caught_up:
                caught_up = self._caught_up(goal)
                deadline = self.kernel.now + HEAL_SECONDS
            leader = self.faults.leader()
            if leader is None or self.oracle.wiped:
                continue
            status = leader.core.status()
            if status.membership_pending or status.transfer_target:
                continue
            if not marked or marked > status.last:
                try:
                    leader.propose_many([marker])
                    marked = leader.core.status().last
                except RaftError:
                    pass
                continue
            if status.commit >= marked and self._all_agree(leader):
                return
        facts = "\n".join(f"  {node.core.status()}" for node in self.nodes.values() if node.up)
        raise StuckError(f"not at rest, nor nearer to it for {HEAL_SECONDS} s:\n{facts}")

    def _caught_up(self, goal: Index) -> int:
        """How many entries up to ``goal`` the nodes have applied, together."""
        return sum(min(node.machine.index, goal) for node in self.nodes.values())

    def _all_agree(self, leader: SimulatedNode) -> bool:
        """Whether every member has applied what the leader has."""
        status = leader.core.status()
        if status.commit != status.last:
            return False
        return all(
            self.nodes[member].machine.index == status.commit
            for member in status.membership.members()
        )

    def _check_outcome(self) -> None:
        leader = self.faults.leader()
        assert leader is not None
        expected = leader.machine.save()
        for member in leader.core.status().membership.members():
            if self.nodes[member].machine.save() != expected:
                raise BreachError(f"nodes {leader.id} and {member} end in different states")
        if leader.core.status().uncommitted_bytes:
            raise BreachError("uncommitted bytes are left over")
        present = {entry.data for entry in self.oracle.committed}
        for client in self.clients:
            for data in client.acknowledged:
                if data not in present:
                    raise BreachError(f"acknowledged and lost: {data!r}")
        violation = find_violation(
            operation for client in self.clients for operation in client.operations
        )
        if violation is not None:
            listing = "\n".join(f"  {operation}" for operation in violation)
            raise BreachError(f"no order explains this history:\n{listing}")
