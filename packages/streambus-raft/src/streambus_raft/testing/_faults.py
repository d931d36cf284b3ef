"""What goes wrong in a simulation, and the operator who changes the cluster meanwhile."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from streambus_raft._membership import Change, ChangeKind
from streambus_raft._types import NodeId, Role
from streambus_raft.errors import RaftError
from streambus_raft.testing._disk import SimulatedDisk

if TYPE_CHECKING:
    from streambus_raft.testing._node import SimulatedNode
    from streambus_raft.testing._simulation import Simulation

MEMBERS_MAX = 7
"""As many machines as a simulation has at most."""


class Faults:
    """Draws faults and brings them about; counts them by kind."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.random = Random(f"{simulation.plan.seed}/faults")
        self.counts: Counter[str] = Counter()
        self._names = [name for name, _ in simulation.plan.weights]
        self._weights = [weight for _, weight in simulation.plan.weights]
        self._wiped: NodeId | None = None
        """A voter whose disk was replaced and who has not been taken in again yet."""

    def begin(self) -> None:
        """Let things go wrong from now on."""
        if self._names:
            self._plan_next()
        self.simulation.kernel.after(1.0, self._readmit)

    def _plan_next(self) -> None:
        delay = self.random.expovariate(1 / self.simulation.plan.fault_mean)
        self.simulation.kernel.after(delay, self._strike)

    def _strike(self) -> None:
        if self.simulation.healing:
            return
        name = self.random.choices(self._names, self._weights)[0]
        if getattr(self, f"_{name}")() is not False:
            self.counts[name] += 1
            if self.simulation.tracing:
                self.simulation.trace("fault", 0, name)
        self._plan_next()

    def _running(self) -> list[SimulatedNode]:
        return [node for node in self.simulation.nodes.values() if node.up]

    def leader(self) -> SimulatedNode | None:
        """The running leader of the latest term."""
        leaders = [node for node in self._running() if node.seen_role == Role.LEADER]
        return max(leaders, key=lambda node: node.seen_term, default=None)

    # Machines

    def _crash_node(self, node: SimulatedNode) -> None:
        node.crash()
        self.simulation.kernel.after(
            self.random.choice((0.01, 0.5, 3.0)), self._restart, node, node.life
        )

    def _restart(self, node: SimulatedNode, life: int) -> None:
        if not node.up and node.life == life:
            node.start()

    def _crash(self) -> bool:
        running = self._running()
        if running:
            self._crash_node(self.random.choice(running))
        return bool(running)

    def _crash_leader(self) -> bool:
        leader = self.leader()
        if leader is not None:
            self._crash_node(leader)
        return leader is not None

    def _crash_all(self) -> None:
        for node in self._running():
            self._crash_node(node)

    def _pause(self) -> bool:
        running = self._running()
        if running:
            node = self.random.choice([*running, self.leader() or running[0]])
            node.paused_until = self.simulation.kernel.now + self.random.choice((0.3, 1.5, 5.0))
        return bool(running)

    def _slow_disk(self) -> bool:
        running = self._running()
        if not running:
            return False
        node = self.random.choice([*running, self.leader() or running[0]])
        node.sync_max = self.random.choice((0.5, 2.0))
        node.hung = self.random.random() < 0.4
        self.simulation.kernel.after(self.random.uniform(0.5, 6.0), self._mend_disk, node)
        return True

    def _mend_disk(self, node: SimulatedNode) -> None:
        node.sync_max = self.simulation.plan.sync_max
        node.hung = False

    def _clock_jump(self) -> bool:
        running = self._running()
        if running:
            self.random.choice(running).clock_offset += self.random.choice((-500.0, -20.0, 20.0))
        return bool(running)

    # The network

    def _partition(self) -> None:
        simulation = self.simulation
        sides = {node: self.random.random() < 0.5 for node in simulation.nodes}
        for a, left in sides.items():
            for b, right in sides.items():
                if left != right:
                    simulation.blocked.add((a, b))

    def _isolate_leader(self) -> bool:
        leader = self.leader()
        if leader is None:
            return False
        for other in self.simulation.nodes:
            self.simulation.blocked |= {(leader.id, other), (other, leader.id)}
        return True

    def _one_way(self) -> None:
        nodes = list(self.simulation.nodes)
        for _ in range(self.random.randint(1, 3)):
            self.simulation.blocked.add((self.random.choice(nodes), self.random.choice(nodes)))

    def _heal(self) -> bool:
        was = bool(self.simulation.blocked)
        self.simulation.blocked.clear()
        return was

    def _lossy(self) -> None:
        self.simulation.loss = self.random.choice((0.3, 0.6))
        self.simulation.kernel.after(self.random.uniform(0.5, 3.0), self._calm)

    def _calm(self) -> None:
        if not self.simulation.healing:
            self.simulation.loss = self.simulation.plan.loss

    # The operator

    def _transfer(self) -> bool:
        leader = self.leader()
        if leader is None or leader.paused_until > self.simulation.kernel.now:
            return False
        target = self.random.choice(list(self.simulation.nodes))
        try:
            leader.act(lambda core: core.transfer_leadership(target))
        except RaftError:
            return False
        return True

    def _campaign(self) -> bool:
        running = [node for node in self._running() if node.paused_until == 0.0]
        if running:
            self.random.choice(running).act(lambda core: core.campaign())
        return bool(running)

    def _member(self) -> bool:
        leader = self.leader()
        if leader is None or leader.paused_until > self.simulation.kernel.now:
            return False
        if self._wiped is not None:
            return False  # one voter too few already: nobody sane takes out another one now
        current = leader.core.status().membership
        members = list(current.members())
        changes: dict[NodeId, Change] = {}
        for _ in range(self.random.choice((1, 1, 2, 3, 4))):
            kind = self.random.choice((ChangeKind.VOTER, *ChangeKind))
            if kind != ChangeKind.REMOVE and self.random.random() < 0.6:
                node = NodeId(self.random.randint(1, MEMBERS_MAX))
            else:
                node = self.random.choice(members)
            changes[node] = Change(kind, node)
        try:
            leader.act(lambda core: core.propose_membership(changes.values()))
        except RaftError:
            return False
        for node in changes:
            self.simulation.ensure_node(node)
        return True

    def _wipe(self) -> bool:
        """Replace the disk of a voter; not of a second one before the first is back.

        Its server is started again as one that joins: that the storage was empty when the cluster
        was founded does not entitle it to found another one.
        """
        leader = self.leader()
        if leader is None or self._wiped is not None:
            return False
        status = leader.core.status()
        voters = status.membership.voters
        node = self.simulation.nodes[self.random.choice(voters)]
        if status.membership_pending or status.commit != status.last or len(voters) < 3:
            return False
        if not self._is_newest(leader) or not self._is_known(node, voters):
            return False
        node.crash()
        self._wiped = node.id
        self.simulation.oracle.wiped.add(node.id)
        node.disk = SimulatedDisk(self.simulation.next_storage_id())
        node.seen_term = 0
        node.start()
        return True

    def _is_newest(self, leader: SimulatedNode) -> bool:
        """Whether nobody has ever heard of a later term than the leader's.

        A leader of the past does not know with how few voters its successors go on; of two voters
        none may lose its disk.
        """
        nodes = self.simulation.nodes.values()
        return leader.core._node.term == max(node.core._node.term for node in nodes)

    def _is_known(self, node: SimulatedNode, voters: tuple[NodeId, ...]) -> bool:
        """Whether every voter's log names the node's storage: only then is a loss noticed."""
        for voter in voters:
            other = self.simulation.nodes[voter]
            inner = other.core._node
            known = inner.track.current.storage_of(node.id)
            if (
                not other.up
                or known != node.disk.storage_id
                or inner.log.stable < inner.track.index
            ):
                return False
        return True

    def _readmit(self) -> None:
        """Take a voter with a new disk in again: first as learner, then as voter."""
        self.simulation.kernel.after(1.0, self._readmit)
        leader = self.leader()
        if self._wiped is None or leader is None:
            return
        if leader.paused_until > self.simulation.kernel.now or leader.id == self._wiped:
            return
        status = leader.core.status()
        if status.membership_pending:
            return
        if self._wiped not in status.membership.voters:
            # The change that left it out is committed: whatever it forgot does not matter any more.
            self.simulation.oracle.wiped.discard(self._wiped)
            changes = [Change(ChangeKind.VOTER, self._wiped)]
            self._wiped = None
        else:
            changes = [Change(ChangeKind.LEARNER, self._wiped)]
        try:
            leader.act(lambda core: core.propose_membership(changes))
        except RaftError:
            return

    def finish(self) -> None:
        """Everything works again."""
        self._heal()
        for node in self.simulation.nodes.values():
            self._mend_disk(node)
            node.paused_until = 0.0
            if not node.up:
                node.start()
