"""The metadata's state machine, given a snapshot by another thread while the event loop goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

from streambus_broker.cluster import commands as c
from streambus_broker.cluster.group import MetadataMachine
from streambus_broker.cluster.state import ClusterState
from streambus_broker.metadata.registry import TakeProducerIds
from streambus_broker.observe.logs import LogSink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def _in_loop(check: Callable[[MetadataMachine, list[bytes]], Awaitable[None]]) -> None:
    async def run() -> None:
        logger = LogSink(None, lambda: 0).logger("cluster", {"cluster": "info"})
        source = MetadataMachine(ClusterState(), logger)
        source.apply(1, [c.encode_command(c.FormCluster("x" * 22))])
        source.apply(7, [c.encode_command(c.SetClusterSettings((("default_partitions", 4),)))])
        await check(MetadataMachine(ClusterState(), logger), list(source.snapshot()))

    asyncio.run(run())


def test_the_state_changes_on_the_loop_alone() -> None:
    """Found by reading: whoever looked meanwhile could see the new index with the old brokers."""

    async def check(machine: MetadataMachine, chunks: list[bytes]) -> None:
        threads: list[threading.Thread] = []
        machine.restored = lambda: threads.append(threading.current_thread())
        reading = asyncio.get_running_loop().run_in_executor(None, machine.restore, chunks)
        machine.state.index = 3
        ends_s = time.monotonic() + 40
        while machine._read is None:  # the loop does not turn: nothing may change
            assert time.monotonic() < ends_s
            time.sleep(0.001)
        assert (machine.state.index, machine.state.settings) == (3, {})
        await reading
        assert (machine.state.index, machine.state.settings) == (7, {"default_partitions": 4})
        assert threads == [threading.current_thread()]

    _in_loop(check)


def test_what_comes_next_finds_the_snapshot_in_place() -> None:
    async def check(machine: MetadataMachine, chunks: list[bytes]) -> None:
        restored: list[int] = []
        machine.restored = lambda: restored.append(machine.state.index)
        machine.restore(chunks)
        machine.query(None)
        assert restored == [7]
        machine.restore(chunks)
        ((code, _, answer, _),) = machine.apply(8, [c.encode_command(TakeProducerIds(10))])
        assert (code, answer) == (0, 1)
        await asyncio.sleep(0)
        assert restored == [7, 7]
        assert machine.state.index == 8

    _in_loop(check)


def test_what_cannot_be_used_ends_the_broker() -> None:
    async def check(machine: MetadataMachine, chunks: list[bytes]) -> None:
        broken: list[Exception] = []
        problem = OSError("no such log")

        def fail() -> None:
            raise problem

        machine.restored, machine.broken = fail, broken.append
        machine.restore(chunks)
        await asyncio.sleep(0)
        assert broken == [problem]

    _in_loop(check)
