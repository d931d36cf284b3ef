"""A broker that starts applies its metadata log again; what that warned of is no news by then."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from streambus_broker.cluster import commands as c
from streambus_broker.cluster.group import MetadataMachine
from streambus_broker.cluster.state import ClusterState
from streambus_broker.observe.logs import LogSink


def register(storage_id: bytes, incarnation: bytes) -> c.RegisterBroker:
    return c.RegisterBroker(
        1, incarnation, storage_id, "127.0.0.1", 9092, None, c.LEVEL_MIN, c.LEVEL_MAX
    )


LOG: tuple[Any, ...] = (
    c.FormCluster("0" * 22),
    register(b"a" * 16, b"1" * 16),
    c.FenceBroker(1, 2),
    register(b"b" * 16, b"2" * 16),  # with another disk
)


@pytest.mark.parametrize(("history_end", "told"), [(0, 1), (len(LOG) - 1, 1), (len(LOG), 0)])
def test_only_what_is_new_is_warned_of(history_end: int, told: int) -> None:
    async def run() -> str:
        stream = io.StringIO()
        sink = LogSink(stream, lambda: 0)
        sink.start()
        machine = MetadataMachine(ClusterState(), sink.logger("cluster", {"cluster": "info"}))
        machine.history_end = history_end
        for index, command in enumerate(LOG, 1):
            ((code, detail, _, _),) = machine.apply(index, [c.encode_command(command)])
            assert code == 0, detail
        return stream.getvalue()

    events = [json.loads(line)["event"] for line in asyncio.run(run()).splitlines()]
    assert events == ["broker 1 came back with another data directory"] * told
