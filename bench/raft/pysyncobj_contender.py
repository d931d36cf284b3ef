"""PySyncObj doing the same: the one Raft library for Python that people use today.

In one process: three of its objects with a thread each, as it is meant to be used. As processes:
``python -m bench.raft.pysyncobj_contender NODE DIRECTORY PORTS`` with its journal, which it does
not sync. Its clients are callbacks, so a thousand of them cost it no task switches.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from pysyncobj import SyncObj, SyncObjConf, replicated

from bench.raft.processes import free_ports
from bench.raft.workload import Load, make_command
from bench.report import percentile


class Replicated(SyncObj):  # type: ignore[misc]  # the package has no types
    """A dictionary, replicated by PySyncObj."""

    def __init__(self, own: str, others: list[str], journal: str | None = None) -> None:
        settings = SyncObjConf(
            autoTick=True,
            journalFile=journal,
            commandsQueueSize=200_000,
            dynamicMembershipChange=False,
        )
        self.values: dict[bytes, bytes] = {}
        super().__init__(own, others, settings)

    @replicated  # type: ignore[untyped-decorator]  # the package has no types
    def put(self, command: bytes) -> bool:
        """Set a value."""
        self.values[command[:8]] = command
        return True


def measure(node: Any, clients: int, size_bytes: int, seconds: float) -> Load:
    """Keep ``clients`` proposals under way; each answer begins the next."""
    latencies: list[float] = []
    failures = [0]
    clock = time.perf_counter
    end = clock() + seconds
    left = threading.Semaphore(0)

    def propose(command: bytes) -> None:
        began = clock()

        def done(_result: Any, error: Any) -> None:
            now = clock()
            if error:
                failures[0] += 1
            else:
                latencies.append(now - began)
            if now < end:
                propose(command)
            else:
                left.release()

        node.put(command, callback=done)

    began = clock()
    for number in range(clients):
        propose(make_command(number, size_bytes))
    for _ in range(clients):
        left.acquire(timeout=seconds + 30)
    elapsed = clock() - began
    if not latencies:
        return Load(0.0, float("inf"), float("inf"))
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    return Load(len(latencies) / elapsed, p50 * 1e6, p99 * 1e6, failures[0])


def wait_ready(nodes: list[Any]) -> Any:
    """Wait for a leader that all know, and return it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if all(node.isReady() for node in nodes):
            for node in nodes:
                if node._isLeader():
                    return node
        time.sleep(0.02)
    raise TimeoutError("PySyncObj found no leader in 30 seconds")


def load(clients: int, size_bytes: int, seconds: float) -> Load:
    """Measure three objects in this process."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    nodes = [Replicated(own, [a for a in addresses if a != own]) for own in addresses]
    try:
        leader = wait_ready(nodes)
        measure(leader, min(clients, 100), size_bytes, 0.3)
        return measure(leader, clients, size_bytes, seconds)
    finally:
        for node in nodes:
            node.destroy()
        time.sleep(0.3)  # its threads end by themselves, and nothing tells when


def serve(number: int, directory: str, ports: list[int]) -> None:
    """Run one node as a process, asked as ``bench.raft.node`` is."""
    addresses = [f"127.0.0.1:{port}" for port in ports]
    own = addresses[number - 1]
    others = [address for address in addresses if address != own]
    node = Replicated(own, others, f"{directory}/journal-{number}")
    for line in sys.stdin:
        request = json.loads(line)
        while not node.isReady():
            time.sleep(0.02)
        if request[0] == "leader":
            while str(node._getLeader()) not in addresses:
                time.sleep(0.02)
            answer: Any = addresses.index(str(node._getLeader())) + 1
        else:
            answer = measure(node, *request[1:])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], [int(port) for port in sys.argv[3].split(",")])
