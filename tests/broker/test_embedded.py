from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from streambus_broker import Broker, ConfigError
from streambus_broker.embedded import EmbeddedBroker
from tests.broker.conftest import config_for
from tests.broker.raw import RawClient

if TYPE_CHECKING:
    from pathlib import Path


def test_the_fixture_gives_a_running_broker(streambus_broker: EmbeddedBroker) -> None:
    with RawClient(streambus_broker.address) as client:
        client.create_topic("t")
        assert client.produce("t", b"v").base_offset == 0


def test_an_embedded_broker_leaves_nothing_behind() -> None:
    threads = threading.active_count()
    broker = EmbeddedBroker()
    for _ in range(2):
        with broker, RawClient(broker.address) as client:
            client.create_topic("t")
            client.produce("t", b"v", acks=-1)
        assert broker.address == ""
        broker.stop()
    assert threading.active_count() == threads


def test_a_broker_runs_on_an_event_loop(tmp_path: Path) -> None:
    async def main() -> str:
        async with Broker(config_for(tmp_path)) as broker:
            host, _, port = broker.address.rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await writer.wait_closed()
            return broker.address

    assert asyncio.run(main()).startswith("127.0.0.1:")
    assert asyncio.run(main())  # everything was given back


def test_an_error_inside_the_block_is_the_one_that_is_seen(tmp_path: Path) -> None:
    async def main() -> None:
        async with Broker(config_for(tmp_path)):
            raise LookupError("the user's own")

    with pytest.raises(LookupError, match="own"):
        asyncio.run(main())


def test_a_wrong_configuration_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        config_for(tmp_path, listen="0.0.0.0:1")
