"""What every contender is asked to do: clients that each wait for their answer, then ask again."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from bench.report import percentile
from streambus_raft.errors import RaftError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from streambus_raft import RaftServer

KEY_BYTES = 8


class KeyValues:
    """A dictionary; a command is a key of 8 bytes and a value, the answer is True."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}

    def apply(self, index: int, commands: Sequence[bytes]) -> list[Any]:  # noqa: ARG002 - protocol
        """Set values."""
        values = self.values
        for command in commands:
            values[command[:KEY_BYTES]] = command
        return [True] * len(commands)

    def query(self, query: Any) -> Any:
        """Look a value up, or count all for None."""
        return len(self.values) if query is None else self.values.get(query)

    def snapshot(self) -> Iterable[bytes]:
        """All commands that count; the list stands still while the dictionary goes on."""
        return list(self.values.values())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Not to look into: the benchmark counts bytes."""
        self.values = {number.to_bytes(8, "big"): chunk for number, chunk in enumerate(chunks)}


class Load(NamedTuple):
    """What one measurement found."""

    per_second: float
    p50_us: float
    p99_us: float
    failures: int = 0


def make_command(number: int, size_bytes: int) -> bytes:
    """A command of exactly ``size_bytes``, on one of 1,000 keys."""
    return (number % 1000).to_bytes(KEY_BYTES, "big") + b"v" * (size_bytes - KEY_BYTES)


async def measure(server: RaftServer, clients: int, size_bytes: int, seconds: float) -> Load:
    """Run ``clients`` tasks that propose one command after the other."""
    latencies: list[float] = []
    failures: list[int] = []
    clock = time.perf_counter
    end = clock() + seconds

    async def client(number: int) -> None:
        command = make_command(number, size_bytes)
        note, propose = latencies.append, server.propose
        began = clock()
        while began < end:
            try:
                await propose(command)
            except RaftError:  # leadership changed under the load: go on, and tell
                failures.append(1)
                await anyio.sleep(0.01)
                began = clock()
                continue
            now = clock()
            note(now - began)
            began = now

    began = clock()
    async with anyio.create_task_group() as group:
        for number in range(clients):
            group.start_soon(client, number)
    elapsed = clock() - began
    if not latencies:
        return Load(0.0, math.nan, math.nan, len(failures))
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    return Load(len(latencies) / elapsed, p50 * 1e6, p99 * 1e6, len(failures))


def run(main: Callable[[], Coroutine[Any, Any, Any]], *, uvloop: bool = True) -> Any:
    """Run on uvloop, or on plain asyncio."""
    return anyio.run(main, backend_options={"use_uvloop": uvloop})
