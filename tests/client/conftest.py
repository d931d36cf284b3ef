"""Brokers for the client's tests: one in this process, shared; and real processes to be killed."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from streambus_broker import EmbeddedBroker
from streambus_client import Admin
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

START_S_MAX = 90.0

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[EmbeddedBroker]:
    """A broker for all tests that only need topics of their own."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture
def address(shared_broker: EmbeddedBroker) -> str:
    return shared_broker.address


@pytest.fixture
def new_topic(address: str) -> Callable[..., str]:
    """Create a topic of a name that no other test has.

    It keeps records for ever: tests write timestamps of 1970.
    """

    def create(partitions: int = 1, **config: object) -> str:
        name = f"t{next(_numbers)}"
        config.setdefault("retention_ms", -1)
        with Admin(address) as admin:
            admin.create_topic(name, partitions=partitions, config=config)
        return name

    return create


class BrokerProcess:
    """``streambus serve``: one port and one data directory through all its lives."""

    def __init__(self, data_dir: Path) -> None:
        (self.port,) = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it accepts connections."""
        command = [sys.executable, "-m", "streambus_client", "serve"]
        command += ["--data-dir", str(self._data_dir), "--listen", self.address, "--http", "off"]
        with (self._data_dir.parent / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log)
        deadline = time.monotonic() + START_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, "the broker ended by itself"
                assert time.monotonic() < deadline, "the broker does not listen"
                time.sleep(0.02)
            else:
                return

    def new_topic(self) -> str:
        """Create a topic of a name that no other test has."""
        name = f"t{next(_numbers)}"
        with Admin(self.address) as admin:
            admin.create_topic(name)
        return name

    def revive(self) -> None:
        """Start it again, or let it go on, whatever a test has done to it."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        else:
            self.send(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is said."""
        self.send(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()


@pytest.fixture(scope="session")
def _process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    process = BrokerProcess(tmp_path_factory.mktemp("broker") / "data")
    process.start()
    yield process
    process.close()


@pytest.fixture
def broker_process(_process: BrokerProcess) -> BrokerProcess:
    """A running broker process, shared by the tests that kill and stop it."""
    _process.revive()
    return _process
