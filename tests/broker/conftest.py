from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgpack
import pytest

from streambus_broker import BrokerConfig
from streambus_broker.embedded import EmbeddedBroker
from streambus_storage import LSMTree
from tests.broker.raw import RawClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def config_for(path: Path, **settings: object) -> BrokerConfig:
    given: dict[str, object] = {"data_dir": str(path), "listen": "127.0.0.1:0", "http": "off"}
    return BrokerConfig(**(given | settings))  # type: ignore[arg-type]  # by keyword


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(config_for(tmp_path / "data")) as running:
        yield running


@pytest.fixture
def change_format() -> Callable[[Path], None]:
    """Write a format version of the future into a metadata tree."""

    def change(path: Path) -> None:
        with LSMTree.open(str(path)) as tree:
            tree.put(b"format", msgpack.packb(99), sync=True)

    return change


@pytest.fixture
def client(broker: EmbeddedBroker) -> Iterator[RawClient]:
    with RawClient(broker.address) as connected:
        yield connected


def wait_until(holds: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for what another thread or process brings about, and fail if it does not."""
    end_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.01)
