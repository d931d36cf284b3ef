"""Real servers in one process for the tests: started, stopped and asked on any event loop."""

from __future__ import annotations

from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import msgpack

from streambus_raft import (
    Config,
    LogStorage,
    MemoryLogStorage,
    MemoryNetwork,
    NodeId,
    RaftServer,
    Transport,
)
from streambus_raft.errors import ProposalUnknownError, RaftError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from anyio.abc import TaskGroup

T = TypeVar("T")

BACKENDS = ["asyncio", "uvloop", "trio"]
TICK_SECONDS = 0.01
DISK_TICK_SECONDS = 0.05
"""Where syncs of a real disk, perhaps a busy one, must not cost a leader its office."""


class Register:
    """Commands are msgpack'ed (key, value); the answer is (how many commands before, old value)."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.count = 0
        self.indexes: list[int] = []

    def apply(self, index: int, commands: Sequence[bytes]) -> list[Any]:
        assert not self.indexes or index > self.indexes[-1], "an index came twice"
        self.indexes.append(index)
        answers: list[Any] = []
        for command in commands:
            key, value = msgpack.unpackb(command)
            answers.append([self.count, self.values.get(key)])
            self.values[key] = value
            self.count += 1
        return answers

    def query(self, query: Any) -> Any:
        return self.count if query is None else self.values[query]

    def snapshot(self) -> Iterable[bytes]:
        return [msgpack.packb((self.count, self.values))]

    def restore(self, chunks: Iterable[bytes]) -> None:
        self.count, self.values = msgpack.unpackb(b"".join(chunks))


def put(key: str, value: Any) -> bytes:
    """Encode a command."""
    packed: bytes = msgpack.packb((key, value))
    return packed


class Cluster:
    """Servers by node id; each runs in a task of its own."""

    def __init__(self, group: TaskGroup, **options: Any) -> None:
        self._group = group
        self._options = options
        self._stops: dict[int, anyio.Event] = {}
        self._ended: dict[int, anyio.Event] = {}
        self.network = MemoryNetwork()
        self.storages: dict[int, LogStorage] = {}
        self.machines: dict[int, Register] = {}
        self.servers: dict[int, RaftServer] = {}
        self.make_machine: Callable[[int], Register] = lambda _node: Register()
        self.make_storage: Callable[[int], LogStorage] | None = None
        self.make_transport: Callable[[int], Transport] | None = None

    def make(self, node: int, peers: Sequence[int] = (1, 2, 3), **options: Any) -> RaftServer:
        """Make a server; a node's first one founds the cluster, a later one goes on."""
        if self.make_storage is not None:
            self.storages[node] = self.make_storage(node)
        storage = self.storages.setdefault(node, MemoryLogStorage(100 + node))
        transport: Transport = self.network.transport(node)
        if self.make_transport is not None:
            transport = self.make_transport(node)
        options = {**self._options, **options}
        limits = options.pop("limits", {})
        limits = {"tick_seconds": TICK_SECONDS, **limits}
        config = Config(node_id=NodeId(node), **limits)
        options.setdefault("bootstrap", not (node in self.machines or options.get("join")))
        self.machines[node] = self.make_machine(node)
        return RaftServer(
            node,
            peers,
            self.machines[node],
            storage,
            transport,
            config=config,
            random=Random(node),
            **options,
        )

    async def start(
        self, node: int, peers: Sequence[int] = (1, 2, 3), **options: Any
    ) -> RaftServer:
        """Make a server and start it."""
        server = self.make(node, peers, **options)
        self._stops[node], self._ended[node] = anyio.Event(), anyio.Event()
        await self._group.start(self._run, node, server)
        self.servers[node] = server
        return server

    async def _run(self, node: int, server: RaftServer, *, task_status: Any) -> None:
        try:
            async with server:
                task_status.started()
                await self._stops[node].wait()
        finally:
            self._ended[node].set()

    async def stop(self, node: int) -> None:
        """Stop a server and wait until it has ended."""
        self._stops[node].set()
        await self._ended[node].wait()
        del self.servers[node]

    async def leader(self) -> RaftServer:
        """The server that leads with the highest term, as soon as there is one."""
        while True:
            leading = [s for s in self.servers.values() if s.leadership.is_leader]
            if leading:
                return max(leading, key=lambda server: server.leadership.term)
            await anyio.sleep(TICK_SECONDS)

    async def by_leader(self, act: Callable[[RaftServer], Awaitable[T]]) -> T:
        """Have whoever leads do something; where it loses its office meanwhile, the next one.

        With real disks and a busy machine that may happen at any time. It may be done twice.
        """
        while True:
            try:
                return await act(await self.leader())
            except RaftError as error:
                if not error.retriable and not isinstance(error, ProposalUnknownError):
                    raise
                await anyio.sleep(TICK_SECONDS)

    async def follower(self) -> RaftServer:
        """A running server that follows a known leader."""
        leader = await self.leader()
        other = next(server for server in self.servers.values() if server is not leader)
        await other.wait_for_leader()
        return other


@asynccontextmanager
async def running(nodes: int = 3, **options: Any) -> AsyncIterator[Cluster]:
    """A cluster in memory."""
    async with anyio.create_task_group() as group:
        cluster = Cluster(group, **options)
        for node in range(1, nodes + 1):
            await cluster.start(node, range(1, nodes + 1))
        yield cluster
        group.cancel_scope.cancel()


def run(test: Callable[[], Awaitable[None]], backend: str = "asyncio", seconds: float = 30) -> None:
    """Run a test on one of the event loops; it fails when it takes too long."""

    async def limited() -> None:
        with anyio.fail_after(seconds):
            await test()

    options: dict[str, Any] = {"use_uvloop": True} if backend == "uvloop" else {}
    name = "trio" if backend == "trio" else "asyncio"
    try:
        anyio.run(limited, backend=name, backend_options=options)
    except BaseExceptionGroup as group:
        raise innermost(group) from None


def innermost(error: BaseException) -> BaseException:
    """The first real error within groups of groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own time limit bounds it."""
    while not condition():
        await anyio.sleep(TICK_SECONDS / 2)
