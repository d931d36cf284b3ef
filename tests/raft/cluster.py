"""A few cores wired together by hand: every message, write and tick happens when the test says
so."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from streambus_raft import (
    EMPTY_SNAPSHOT,
    Config,
    Entry,
    EntryKind,
    Membership,
    NodeId,
    RaftCore,
    Role,
    bootstrap_snapshot,
    new_membership,
)
from streambus_raft.testing import SimulatedDisk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streambus_raft import Message, ReadState, SnapshotMeta, Write


class Box:
    """One node with its disk, and everything that has come out of it."""

    def __init__(self, node_id: int, disk: SimulatedDisk, **settings: Any) -> None:
        self.id = NodeId(node_id)
        self.disk = disk
        self.settings = settings
        self.writes: list[Write] = []
        """Handed out and not yet reported as durable."""
        self.sent: list[Message] = []
        self.applied: list[Entry] = []
        self.restored: list[SnapshotMeta] = []
        self.reads: list[ReadState] = []
        self.reads_failed: list[int] = []
        self.lives = 0
        self.core: RaftCore
        self.start()

    def start(self, applied: int | None = None) -> None:
        """Begin (again) from what is on the disk."""
        self.lives += 1
        self.writes = []
        config = Config(node_id=self.id, **self.settings)
        self.core = RaftCore(config, self.disk, Random(self.id * 1000 + self.lives), applied)

    def crash(self, kept: int = 0, parts: int = 0, entries_max: int = 0) -> None:
        """Lose power and come back; unsynced writes are lost but for ``kept`` of them."""
        self.disk.crash(kept, parts, entries_max)
        self.sent = []
        self.start()

    def step(self, message: Message) -> None:
        """Take in a message."""
        self.core.step(message)

    def work(self, *, durable: bool = True) -> None:
        """Do everything that the core wants; without ``durable`` writes stay under way."""
        while self.core.has_ready():
            ready = self.core.ready()
            if ready.write is not None:
                self.disk.write(ready.write)
                self.writes.append(ready.write)
            self.sent += ready.messages
            if ready.restore is not None:
                self.restored.append(ready.restore)
                self.core.applied(ready.restore.index)
            if ready.committed:
                self.applied += ready.committed
                self.core.applied(ready.committed[-1].index)
            self.reads += ready.reads
            self.reads_failed += ready.reads_failed
            if ready.quarantine is not None:
                self.disk.condemn(ready.quarantine)
            if durable:
                self.persist()

    def persist(self, count: int | None = None) -> None:
        """The oldest ``count`` writes (all of them) become durable."""
        done = self.writes if count is None else self.writes[:count]
        if done:
            self.disk.sync_first(len(done))
            sequence = done[-1].sequence
            self.writes = self.writes[len(done) :]
            self.core.persisted(sequence)

    def take(self, kind: type | None = None, to: int | None = None) -> list[Any]:
        """Remove and return the sent messages of a class, to a node."""
        taken = [
            each
            for each in self.sent
            if (kind is None or isinstance(each, kind)) and (to is None or each.to == to)
        ]
        self.sent = [each for each in self.sent if each not in taken]
        return taken

    @property
    def commands(self) -> list[bytes]:
        """What the state machine has been given."""
        return [entry.data for entry in self.applied if entry.kind == EntryKind.COMMAND]

    @property
    def role(self) -> Role:
        return self.core.status().role

    @property
    def term(self) -> int:
        return self.core.status().term


class Cluster:
    """Some boxes and a network that delivers at once, except across ``cut``."""

    def __init__(
        self,
        voters: Iterable[int] = (1, 2, 3),
        learners: Iterable[int] = (),
        *,
        registered: bool = True,
        **settings: Any,
    ) -> None:
        membership = new_membership(voters, learners)
        if registered:
            membership = membership.with_storages(
                {each: 100 + each for each in membership.members()}
            )
        self.settings = settings
        self.boxes: dict[int, Box] = {}
        self.now = 0.0
        self.cut: set[tuple[int, int]] = set()
        self.drop: Callable[[Message], bool] = lambda _: False
        for node in membership.members():
            self.add(node, membership)

    def __getitem__(self, node: int) -> Box:
        return self.boxes[node]

    def add(self, node: int, membership: Membership | None = None, storage_id: int = 0) -> Box:
        """A further machine; without a membership it waits to be taken in."""
        first = EMPTY_SNAPSHOT if membership is None else bootstrap_snapshot(membership)
        disk = SimulatedDisk(storage_id or 100 + node, first)
        box = self.boxes[node] = Box(node, disk, **self.settings)
        return box

    def isolate(self, *nodes: int) -> None:
        """Cut these off from all others (not from each other)."""
        for a in self.boxes:
            for b in self.boxes:
                if (a in nodes) != (b in nodes):
                    self.cut.add((a, b))

    def heal(self) -> None:
        """Nothing is cut or dropped any more."""
        self.cut.clear()
        self.drop = lambda _: False

    def settle(self, *, rounds_max: int = 10_000) -> None:
        """Deliver and persist until nobody has anything to do."""
        for _ in range(rounds_max):
            for box in self.boxes.values():
                box.work()
            messages = [message for box in self.boxes.values() for message in box.take()]
            if not messages:
                return
            for message in messages:
                open_way = (message.sender, message.to) not in self.cut
                if open_way and message.to in self.boxes and not self.drop(message):
                    self.boxes[message.to].step(message)
        raise AssertionError("the cluster does not settle")

    def tick(self, count: int = 1, only: Iterable[int] | None = None) -> None:
        """Let ticks pass everywhere, or at some nodes, settling after each."""
        for _ in range(count):
            self.now += 0.1
            for node in only or self.boxes:
                self.boxes[node].core.tick(self.now)
            self.settle()

    def elect(self, node: int) -> Box:
        """Make ``node`` the leader, which nothing may prevent."""
        self[node].core.campaign()
        self.settle()
        assert self[node].role == Role.LEADER, self[node].core.status()
        return self[node]

    def leaders(self) -> list[int]:
        """Who leads, of all terms."""
        return [node for node, box in self.boxes.items() if box.role == Role.LEADER]

    def tick_until_leader(self, ticks_max: int = 100, among: Iterable[int] | None = None) -> Box:
        """Let time pass until one of ``among`` leads and has committed in its term."""
        for _ in range(ticks_max):
            self.tick()
            for node in among or self.boxes:
                box = self.boxes[node]
                status = box.core.status()
                if box.role == Role.LEADER and status.commit == status.last:
                    return box
        raise AssertionError(f"no leader within {ticks_max} ticks")
