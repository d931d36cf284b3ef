"""All nodes in one process and one event loop, logs in memory: what the library itself costs."""

from __future__ import annotations

from contextlib import AsyncExitStack

from bench.raft.workload import KeyValues, Load, measure, run
from streambus_raft import Config, MemoryLogStorage, MemoryNetwork, NodeId, RaftServer


def load(nodes: int, clients: int, size_bytes: int, seconds: float, *, uvloop: bool = True) -> Load:
    """Measure a cluster of ``nodes`` in this process."""

    async def main() -> Load:
        network = MemoryNetwork()
        peers = range(1, nodes + 1)
        async with AsyncExitStack() as stack:
            servers = [
                await stack.enter_async_context(
                    RaftServer(
                        node,
                        peers,
                        KeyValues(),
                        MemoryLogStorage(node),
                        network.transport(node),
                        config=Config(node_id=NodeId(node), tick_seconds=0.05),
                        keep_entries=100,
                        bootstrap=True,
                    )
                )
                for node in peers
            ]
            leader = servers[await servers[0].wait_for_leader() - 1]
            await measure(leader, min(clients, 100), size_bytes, 0.2)
            leader = servers[await servers[0].wait_for_leader() - 1]  # perhaps another one
            return await measure(leader, clients, size_bytes, seconds)

    result: Load = run(main, uvloop=uvloop)
    return result
