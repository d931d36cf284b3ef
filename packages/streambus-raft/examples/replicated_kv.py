"""A replicated key-value store: three processes on this machine, one of which is killed.

    python replicated_kv.py                 the demonstration
    python replicated_kv.py serve NODE DIRECTORY PORT,PORT,PORT PORT,PORT,PORT [first]

A node speaks Raft on its first port, and JSON lines on its second: ``["set", key, value]`` and
``["get", key]`` are answered by ``{"ok": ...}`` or ``{"error": ...}``, ``["who"]`` by the leader.
``first`` founds the cluster: without it a node whose disk was emptied refuses to start.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from streambus_raft import Config, FileLogStorage, NodeId, RaftServer, TcpTransport
from streambus_raft.errors import RaftError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anyio.abc import SocketStream


class KeyValues:
    """Commands are JSON pairs of key and value, queries are keys."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def apply(self, index: int, commands: Sequence[bytes]) -> list[Any]:  # noqa: ARG002 - not needed
        """Set values; each answer is what was there before."""
        answers: list[Any] = []
        for command in commands:
            key, value = json.loads(command)
            answers.append(self.values.get(key))
            self.values[key] = value
        return answers

    def query(self, key: str) -> Any:
        """Look a value up."""
        return self.values.get(key)

    def snapshot(self) -> Iterable[bytes]:
        """Encode everything."""
        return [json.dumps(self.values).encode()]

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Decode everything."""
        self.values = json.loads(b"".join(chunks))


async def serve(
    node: int, directory: str, raft_ports: list[int], client_ports: list[int], *, first: bool
) -> None:
    """Run one node until the process is killed."""
    addresses = {peer: ("127.0.0.1", port) for peer, port in enumerate(raft_ports, 1)}
    server = RaftServer(
        node,
        peers=addresses,
        state_machine=KeyValues(),
        storage=FileLogStorage(f"{directory}/{node}", node_id=node),
        transport=TcpTransport(node, listen=addresses[node], peers=addresses),
        config=Config(node_id=NodeId(node), tick_seconds=0.05),
        forward=True,
        bootstrap=first,
    )

    async def handle(stream: SocketStream) -> None:
        async with stream:
            lines = BufferedByteReceiveStream(stream)
            while True:
                try:
                    line = await lines.receive_until(b"\n", 65536)
                except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                    return
                await stream.send(json.dumps(await answer(json.loads(line))).encode() + b"\n")

    async def answer(request: list[Any]) -> dict[str, Any]:
        try:
            with anyio.fail_after(5):
                if request[0] == "set":
                    # A session is retried when leadership changes, and applied once all the same.
                    return {"ok": await session.propose(json.dumps(request[1:]).encode())}
                if request[0] == "get":
                    return {"ok": await server.read(request[1])}
                return {"ok": server.leadership.leader}
        except (RaftError, TimeoutError) as exc:
            return {"error": f"{type(exc).__name__}: {exc}"}

    async with server:
        session = await server.open_session()
        listener = await anyio.create_tcp_listener(
            local_host="127.0.0.1", local_port=client_ports[node - 1]
        )
        await listener.serve(handle)


def ask(port: int, *request: Any) -> Any:
    """Ask one node; ``OSError`` if it is not there or cannot answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=6) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        reply = json.loads(connection.makefile().readline() or '{"error": "closed"}')
    if "error" in reply:
        raise OSError(reply["error"])
    return reply["ok"]


def ask_any(ports: Iterable[int], *request: Any) -> Any:
    """Ask one node after the other until one answers, for up to 20 seconds."""
    deadline = time.monotonic() + 20
    while True:
        for port in ports:
            try:
                return ask(port, *request)
            except OSError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def demonstrate() -> None:
    """Start three processes, write, kill the leader, go on writing, start it again."""
    ports = free_ports(6)
    raft_ports, client_ports = ports[:3], ports[3:]

    with tempfile.TemporaryDirectory() as directory:

        def start(node: int, *more: str) -> subprocess.Popen[bytes]:
            lists = [",".join(map(str, each)) for each in (raft_ports, client_ports)]
            command = [sys.executable, __file__, "serve", str(node), directory, *lists, *more]
            return subprocess.Popen(command)  # noqa: S603 - this very file

        processes = {node: start(node, "first") for node in (1, 2, 3)}
        try:
            for number in range(100):
                ask_any(client_ports, "set", f"key-{number}", number)
            leader = ask_any(client_ports, "who")
            print(f"wrote 100 keys; node {leader} leads")

            processes[leader].send_signal(signal.SIGKILL)
            processes[leader].wait()
            others = [port for node, port in enumerate(client_ports, 1) if node != leader]
            began = time.monotonic()
            ask_any(others, "set", "after the kill", "still writing")
            gap = time.monotonic() - began
            print(f"killed node {leader}; the next write was acknowledged after {gap:.2f} s")

            assert [ask_any(others, "get", f"key-{n}") for n in range(100)] == list(range(100))
            print("all keys are still there")

            processes[leader] = start(leader)
            value = ask_any([client_ports[leader - 1]], "get", "after the kill")
            assert value == "still writing"
            print(f"node {leader} is back and knows what it missed")
        finally:
            for process in processes.values():
                process.kill()
                process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        own, for_clients = ([int(port) for port in text.split(",")] for text in sys.argv[4:6])
        first = sys.argv[6:] == ["first"]
        anyio.run(partial(serve, int(sys.argv[2]), sys.argv[3], own, for_clients, first=first))
    else:
        demonstrate()
