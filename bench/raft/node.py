"""One node as a process of its own: ``python -m bench.raft.node NODE DIRECTORY PORTS TICK``.

It reads requests as JSON lines from its standard input and answers each with one line:
``["leader"]``, ``["load", clients, size_bytes, seconds]``, ``["put"]`` (once, through whoever
leads; the answer is the time of the acknowledgement on the monotonic clock, which processes
share).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import anyio

from bench.raft.workload import KeyValues, make_command, measure, run
from streambus_raft import Config, FileLogStorage, NodeId, RaftServer, TcpTransport
from streambus_raft.errors import RaftError


async def serve(node: int, directory: str, ports: list[int], tick_seconds: float) -> None:
    """Run the node and answer requests until the input ends."""
    addresses = {peer: ("127.0.0.1", port) for peer, port in enumerate(ports, 1)}
    server = RaftServer(
        node,
        addresses,
        KeyValues(),
        FileLogStorage(f"{directory}/{node}", node_id=node),
        TcpTransport(node, listen=addresses[node], peers=addresses),
        config=Config(node_id=NodeId(node), tick_seconds=tick_seconds),
        forward=True,
        patience_ticks=10,
        bootstrap=True,
    )
    async with server:
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            print(json.dumps(await answer(server, json.loads(line))), flush=True)


async def answer(server: RaftServer, request: list[Any]) -> Any:
    """Do what is asked."""
    if request[0] == "leader":
        return await server.wait_for_leader()
    if request[0] == "load":
        return await measure(server, *request[1:])
    while True:
        try:
            await server.propose(make_command(0, 16))
        except RaftError:
            await anyio.sleep(0.005)
        else:
            return time.monotonic()


if __name__ == "__main__":
    numbers = [int(port) for port in sys.argv[3].split(",")]
    run(lambda: serve(int(sys.argv[1]), sys.argv[2], numbers, float(sys.argv[4])))
