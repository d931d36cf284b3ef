"""Clients of a simulated cluster: one operation at a time each, everything written down."""

from __future__ import annotations

import contextlib
from random import Random
from typing import TYPE_CHECKING

from streambus_raft._types import Role
from streambus_raft.errors import RaftError
from streambus_raft.testing._linearizability import FOREVER, Operation
from streambus_raft.testing._machine import compare_command, write_command

if TYPE_CHECKING:
    from streambus_raft.testing._node import SimulatedNode
    from streambus_raft.testing._simulation import Simulation

PATIENCE_SECONDS = 4.0
"""After this a client takes an operation's outcome for unknown and goes on."""


class Client:
    """Writes, compares and reads registers at whatever node it thinks best."""

    def __init__(self, simulation: Simulation, number: int) -> None:
        self.simulation = simulation
        self.number = number
        self.random = Random(f"{simulation.plan.seed}/client/{number}")
        self.history: list[Operation] = []
        self.acknowledged: list[bytes] = []
        self._count = 0
        self._current = 0
        """The number of the operation under way; an answer to an earlier one comes too late."""
        self._under_way: Operation | None = None

    @property
    def operations(self) -> list[Operation]:
        """All that may have been done; what is still under way has an unknown outcome, too."""
        return self.history if self._under_way is None else [*self.history, self._under_way]

    def think(self) -> None:
        """Do the next operation a little later."""
        delay = self.random.uniform(0.0, self.simulation.plan.think_max)
        self.simulation.kernel.after(delay, self._next)

    def _choose_node(self) -> SimulatedNode | None:
        simulation = self.simulation
        awake = [
            node
            for node in simulation.nodes.values()
            if node.up and node.paused_until <= simulation.kernel.now
        ]
        leaders = [node for node in awake if node.seen_role == Role.LEADER]
        if leaders and self.random.random() < 0.85:
            return self.random.choice(leaders)
        return self.random.choice(awake) if awake else None

    def _next(self) -> None:
        if self.simulation.healing:
            return
        node = self._choose_node()
        if node is None:
            self.think()
            return
        random, plan = self.random, self.simulation.plan
        if random.random() < plan.burst:
            payloads = [b"filler %d" % number for number in range(random.randint(1, 40))]
            with contextlib.suppress(RaftError):
                node.propose_many(payloads)
        self._count += 1
        key = f"k{random.randrange(plan.keys)}"
        value = f"{self.number}.{self._count}"
        kind = random.choice(("read", "read", "write", "write", "cas"))
        expected = node.machine.values.get(key) if kind == "cas" else None
        self._begin(node, Operation(self.number, key, kind, value, expected, None, 0.0, FOREVER))

    def _begin(self, node: SimulatedNode, operation: Operation) -> None:
        simulation = self.simulation
        number = self._current = self._count
        operation = self._under_way = operation._replace(begin=simulation.kernel.now)
        data = b""

        def answer(result: object, certain: bool) -> None:
            self._finish(number, operation, data, result, certain=certain)

        simulation.kernel.after(PATIENCE_SECONDS, self._give_up, number, operation)
        simulation.trace("invoke", self.number, (node.id, operation))
        try:
            if operation.kind == "read":
                by_lease = simulation.plan.lease_reads and self.random.random() < 0.5
                if not (by_lease and node.read_by_lease(operation.key, answer)):
                    node.read(operation.key, answer)
                return
            if operation.kind == "write":
                data = write_command(operation.key, operation.value)
            else:
                data = compare_command(operation.key, operation.expected, operation.value)
            node.propose(data, answer)
        except RaftError:
            if self._current == number:
                self._end()  # it certainly was not done
                self.think()

    def _end(self) -> None:
        self._current = 0
        self._under_way = None

    def _finish(
        self, number: int, operation: Operation, data: bytes, result: object, *, certain: bool
    ) -> None:
        if self._current != number:
            return
        if not certain:
            self._give_up(number, operation)
            return
        self._end()
        if operation.kind != "read" and result is None:
            self.think()  # it certainly was not done
            return
        now = self.simulation.kernel.now
        self.history.append(operation._replace(result=result, end=now))
        if data:
            self.acknowledged.append(data)
        self.simulation.trace("answer", self.number, (operation, result))
        self.think()

    def _give_up(self, number: int, operation: Operation) -> None:
        if self._current != number:
            return
        self._end()
        self.history.append(operation)
        self.simulation.trace("unknown", self.number, operation)
        self.think()
