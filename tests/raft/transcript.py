"""A tiny language for conversations between nodes: commands in, what was said and done out.

A file holds blocks, separated by empty lines: one or more commands, a line ``----``, the output.
Commands (N, M are nodes):

    nodes N ... [learners M ...] [setting=value ...]      start a cluster; first command of a file
    campaign N | propose N TEXT ... | read N | transfer N M | member N +M -M ~M
    tick COUNT [N ...]         let time pass, delivering everything after each tick
    settle                     deliver everything
    cut N ... | heal | crash N | snapshot N | join N
    status                     one line for each node

``RAFT_TRANSCRIPTS=write`` in the environment writes the outputs anew; read the difference then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streambus_raft import (
    Change,
    ChangeKind,
    Heartbeat,
    HeartbeatReply,
    Message,
    NodeId,
    Role,
)
from streambus_raft.errors import RaftError
from streambus_raft.testing import format_message
from tests.raft.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable

SIGNS = {"+": ChangeKind.VOTER, "~": ChangeKind.LEARNER, "-": ChangeKind.REMOVE}


class Transcript:
    """Runs commands and writes down what follows from them."""

    def __init__(self) -> None:
        self.cluster: Cluster
        self.output: list[str] = []
        self._applied: dict[int, int] = {}
        self._roles: dict[int, tuple[Role, int]] = {}
        self._quiet = False

    def run(self, commands: list[str]) -> str:
        """Carry out a block of commands, and return its output."""
        self.output = []
        for command in commands:
            name, *words = command.split()
            action: Callable[[list[str]], None] = getattr(self, f"_{name}")
            try:
                action(words)
            except RaftError as exc:
                self.output.append(f"{type(exc).__name__}: {exc}")
        return "\n".join(self.output)

    def _watch(self, message: Message) -> bool:
        # Heartbeats and their answers say nothing while time merely passes.
        if not (self._quiet and isinstance(message, Heartbeat | HeartbeatReply)):
            self._note_changes()
            self.output.append(format_message(message))
        return False

    def _note_changes(self) -> None:
        for node, box in self.cluster.boxes.items():
            status = box.core.status()
            now = (status.role, status.term)
            if self._roles.get(node, (Role.FOLLOWER, 0)) != now:
                self._roles[node] = now
                self.output.append(
                    f"    {node} is {status.role.name.lower()} in term {status.term}"
                )
            for meta in box.restored:
                self.output.append(f"    {node} restores the snapshot at {meta.index}")
            box.restored.clear()
            for data in box.commands[self._applied.get(node, 0) :]:
                self.output.append(f"    {node} applies {data.decode()}")
            self._applied[node] = len(box.commands)
            for read in box.reads:
                self.output.append(f"    {node} may read at {read.index}")
            box.reads.clear()
            for _ in box.reads_failed:
                self.output.append(f"    {node} fails a read")
            box.reads_failed.clear()

    def _nodes(self, words: list[str]) -> None:
        settings: dict[str, Any] = {}
        for word in [each for each in words if "=" in each]:
            name, _, value = word.partition("=")
            settings[name] = value == "yes" if value in ("yes", "no") else int(value)
            words.remove(word)
        voters, learners = words, list[str]()
        if "learners" in words:
            place = words.index("learners")
            voters, learners = words[:place], words[place + 1 :]
        self.cluster = Cluster(map(int, voters), map(int, learners), **settings)
        self.cluster.drop = self._watch

    def _settle(self, words: list[str]) -> None:
        self.cluster.settle()
        self._note_changes()

    def _tick(self, words: list[str]) -> None:
        count, *nodes = map(int, words)
        self._quiet = True
        self.cluster.tick(count, nodes or None)
        self._quiet = False
        self._note_changes()

    def _campaign(self, words: list[str]) -> None:
        self.cluster[int(words[0])].core.campaign()

    def _propose(self, words: list[str]) -> None:
        node, *texts = words
        self.cluster[int(node)].core.propose_many([text.encode() for text in texts])

    def _read(self, words: list[str]) -> None:
        self.cluster[int(words[0])].core.read_index()

    def _transfer(self, words: list[str]) -> None:
        self.cluster[int(words[0])].core.transfer_leadership(NodeId(int(words[1])))

    def _member(self, words: list[str]) -> None:
        node, *wishes = words
        changes = [Change(SIGNS[wish[0]], NodeId(int(wish[1:]))) for wish in wishes]
        self.cluster[int(node)].core.propose_membership(changes)

    def _cut(self, words: list[str]) -> None:
        self.cluster.isolate(*map(int, words))

    def _heal(self, words: list[str]) -> None:
        self.cluster.cut.clear()

    def _join(self, words: list[str]) -> None:
        self.cluster.add(int(words[0]))

    def _crash(self, words: list[str]) -> None:
        box = self.cluster[int(words[0])]
        box.crash()
        box.applied.clear()
        self._applied[box.id] = 0
        self._roles[box.id] = (Role.FOLLOWER, box.term)

    def _snapshot(self, words: list[str]) -> None:
        box = self.cluster[int(words[0])]
        index = box.core.status().applied
        box.disk.save_snapshot(index, box.core.membership_at(index), b"state")
        box.disk.compact(index)
        box.core.compacted()

    def _status(self, words: list[str]) -> None:
        for node, box in self.cluster.boxes.items():
            status = box.core.status()
            self.output.append(
                f"{node}: {status.role.name.lower()}, term {status.term}, log {status.first} to"
                f" {status.last}, commit {status.commit}, voters"
                f" {' '.join(map(str, status.membership.voters))}"
            )
