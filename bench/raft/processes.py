"""Three processes over loopback, each with its log on the disk, synced before it acknowledges."""

from __future__ import annotations

import contextlib
import json
import math
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, Self

from bench.raft.workload import Load

if TYPE_CHECKING:
    from types import TracebackType


OURS = "bench.raft.node"
THEIRS = "bench.raft.pysyncobj_contender"
ANSWER_SECONDS_MAX = 60.0


class ContenderFailedError(Exception):
    """A process of a contender has ended, or does not answer."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Processes:
    """Three nodes, each a process that is asked over its standard input."""

    def __init__(self, directory: str, module: str = OURS, tick_seconds: float = 0.1) -> None:
        self._tick_seconds = tick_seconds
        self._directory = directory
        self._module = module
        self._ports = free_ports(3)
        self._processes: dict[int, subprocess.Popen[str]] = {}
        for node in (1, 2, 3):
            self.start(node)

    def start(self, node: int) -> None:
        """Start a node, or start it again."""
        ports = ",".join(map(str, self._ports))
        arguments = (node, self._directory, ports, self._tick_seconds)
        self._processes[node] = subprocess.Popen(
            [sys.executable, "-m", self._module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if self._module == OURS else subprocess.DEVNULL,
            text=True,
        )

    def ask(self, node: int, *request: Any) -> Any:
        """Ask a node and wait for its answer."""
        self.tell(node, *request)
        return self.hear(node)

    def tell(self, node: int, *request: Any) -> None:
        """Ask without waiting."""
        pipe = self._processes[node].stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(request) + "\n")
            pipe.flush()
        except BrokenPipeError:
            raise ContenderFailedError(f"node {node} of {self._module} has ended") from None

    def hear(self, node: int) -> Any:
        """Wait for an answer, for up to a minute.

        Raises:
            ContenderFailedError: none came, or the process has ended.
        """
        pipe = self._processes[node].stdout
        assert pipe is not None
        ready, _, _ = select.select([pipe], [], [], ANSWER_SECONDS_MAX)
        line = pipe.readline() if ready else ""
        if not line:
            raise ContenderFailedError(f"node {node} of {self._module} gives no answer")
        return json.loads(line)

    def kill(self, node: int) -> None:
        """End a node as a crash would."""
        process = self._processes[node]
        process.send_signal(signal.SIGKILL)
        self._reap(process)

    @staticmethod
    def _reap(process: subprocess.Popen[str]) -> None:
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what it never read is flushed here
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            self._reap(process)


def load(processes: Processes, clients: int, size_bytes: int, seconds: float) -> Load:
    """Measure with clients in the leader's process."""
    leader = processes.ask(1, "leader")
    processes.ask(leader, "load", min(clients, 100), size_bytes, 0.3)
    return Load(*processes.ask(leader, "load", clients, size_bytes, seconds))


def load_theirs(clients: int, size_bytes: int, seconds: float) -> Load:
    """Measure PySyncObj as fresh processes: one that has failed is not to spoil the next figure.

    Under much load its journal loses its footing (an IndexError for every message); what is
    reported then is not a number.
    """
    with tempfile.TemporaryDirectory() as directory, Processes(directory, THEIRS) as nodes:
        try:
            return load(nodes, clients, size_bytes, seconds)
        except ContenderFailedError:
            return Load(math.nan, math.nan, math.nan)


def failovers(processes: Processes, kills: int) -> list[float]:
    """Kill the leader again and again: seconds from each kill to the next acknowledged write."""
    gaps: list[float] = []
    for _ in range(kills):
        leader = processes.ask(1, "leader")
        witness = leader % 3 + 1
        processes.ask(witness, "put")
        began = time.monotonic()
        processes.kill(leader)
        gaps.append(processes.ask(witness, "put") - began)
        processes.start(leader)
        processes.ask(leader, "put")  # it takes part again before the next one is killed
    return gaps
