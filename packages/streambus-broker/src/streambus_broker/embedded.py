"""A broker inside a synchronous program: its own thread, its own event loop.

    with EmbeddedBroker() as broker:
        Producer(broker.address) ...

Meant for tests, tools and notebooks. Without a configuration it listens on free ports of the
loopback address and keeps its data in a temporary directory that goes when it stops.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import tempfile
import threading
from typing import TYPE_CHECKING, Self, TextIO

from streambus_broker.broker import Broker, make_broker
from streambus_broker.config.addresses import OFF
from streambus_broker.config.broker import BrokerConfig
from streambus_broker.errors import ServeTimeoutError

if TYPE_CHECKING:
    from types import TracebackType

_TIMEOUT_S = 60.0


class EmbeddedBroker:
    """See the module.

    Args:
        config: The broker's configuration; None for free ports and a temporary directory.
        log_stream: Where JSON log lines go; None for nowhere.

    Attributes:
        address: ``host:port`` for clients; empty while it does not run.
        http_address: The same for health and metrics; None where it is off.
        broker: The broker itself, while it runs; its event loop is another thread's.

    Raises:
        BrokerError: What `Broker` raises when it cannot start (on entering).
        ServeTimeoutError: It did not start or stop within a minute.
    """

    def __init__(
        self, config: BrokerConfig | None = None, *, log_stream: TextIO | None = None
    ) -> None:
        self.address = ""
        self.http_address: str | None = None
        self.broker: Broker | None = None
        self._config = config
        self._log_stream = log_stream
        self._temporary: str | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start; returns when clients can connect."""
        config = self._config
        if config is None:
            self._temporary = tempfile.mkdtemp(prefix="streambus-")
            config = BrokerConfig(data_dir=self._temporary, listen="127.0.0.1:0", http=OFF)
        started = threading.Event()
        self._error = None
        self._thread = threading.Thread(
            target=self._run, args=(config, started), name="streambus-broker", daemon=True
        )
        self._thread.start()
        if not started.wait(_TIMEOUT_S):
            raise ServeTimeoutError("start", _TIMEOUT_S)
        if self._error is not None:
            self.stop()
            raise self._error

    def stop(self) -> None:
        """Stop as on SIGTERM: what was accepted is finished. A second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            if self._loop is not None and self._stop is not None and thread.is_alive():
                self._loop.call_soon_threadsafe(self._stop.set)
            thread.join(_TIMEOUT_S)
            if thread.is_alive():
                raise ServeTimeoutError("stop", _TIMEOUT_S)
        self.address, self.http_address, self.broker = "", None, None
        self._loop = self._stop = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def restart(self) -> None:
        """Stop and start again with the same data, on the same ports."""
        config = self._config or BrokerConfig(data_dir=self._temporary or "", http=OFF)
        config = dataclasses.replace(
            config, listen=self.address, http=self.http_address or config.http
        )
        temporary, self._temporary = self._temporary, None
        self.stop()
        self._config = config
        self.start()
        self._temporary = temporary

    def _run(self, config: BrokerConfig, started: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=event_loop) as runner:
                runner.run(self._serve(config, started))
        except BaseException as exc:  # noqa: BLE001 - raised again in the caller's thread
            self._error = exc
        finally:
            started.set()

    async def _serve(self, config: BrokerConfig, started: threading.Event) -> None:
        async with make_broker(config, log_stream=self._log_stream) as broker:
            self.broker = broker
            self.address = broker.address
            self.http_address = broker.http_address
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            started.set()
            await self._stop.wait()


def event_loop() -> asyncio.AbstractEventLoop:
    """Make the fastest event loop there is: uvloop where it exists."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
