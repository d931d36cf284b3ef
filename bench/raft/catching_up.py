"""A follower that was away: how fast it catches up with 100 MB, by log and by snapshot."""

from __future__ import annotations

import time
from typing import Any

import anyio

from bench.raft.processes import free_ports
from bench.raft.workload import KeyValues, run
from streambus_raft import Config, FileLogStorage, NodeId, RaftServer, TcpTransport

COMMAND_BYTES = 64 * 1024


def seconds(directory: str, megabytes: int, *, by_snapshot: bool) -> float:
    """Seconds from starting an empty third node until it has applied everything."""
    ports = free_ports(3)
    addresses = {node: ("127.0.0.1", port) for node, port in enumerate(ports, 1)}

    def make(node: int) -> RaftServer:
        return RaftServer(
            node,
            (1, 2, 3),
            KeyValues(),
            FileLogStorage(f"{directory}/{node}", node_id=node),
            TcpTransport(node, listen=addresses[node], peers=addresses),
            config=Config(node_id=NodeId(node), tick_seconds=0.05),
            snapshot_log_bytes=0,
            keep_entries=0,
            bootstrap=True,
        )

    async def main() -> float:
        stop = anyio.Event()

        async def keep(server: RaftServer, *, task_status: Any) -> None:
            async with server:
                task_status.started()
                await stop.wait()

        async with anyio.create_task_group() as group:
            servers = {node: make(node) for node in (1, 2)}
            for server in servers.values():
                await group.start(keep, server)
            leader = servers[await servers[1].wait_for_leader()]
            count = megabytes * 1_000_000 // COMMAND_BYTES
            for first in range(0, count, 100):
                numbers = range(first, min(first + 100, count))
                bodies = [n.to_bytes(8, "big") + bytes(COMMAND_BYTES - 8) for n in numbers]
                await leader.propose_many(bodies)
            if by_snapshot:
                await leader.take_snapshot()
            target = leader.metrics().applied_index
            began = time.perf_counter()
            late = make(3)
            await group.start(keep, late)
            while late.metrics().applied_index < target:  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.002)
            elapsed = time.perf_counter() - began
            restored = late.metrics().snapshots_restored
            assert restored == by_snapshot, f"{restored} snapshots were restored"
            stop.set()
        return elapsed

    result: float = run(main)
    return result
