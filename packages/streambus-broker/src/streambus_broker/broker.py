"""The broker's life: open, recover, serve, watch, shut down.

`Broker` is an async context manager; inside it the broker serves on its data port. It can run on
any asyncio event loop, real or simulated: files, scheduler, clock and randomness come in through
`Doors`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import time
from typing import TYPE_CHECKING, Any, Self, TextIO

import anyio

from streambus_broker.api.table import Apis, serve_apis
from streambus_broker.config.addresses import OFF, split_address
from streambus_broker.data_directory import DataDirectory
from streambus_broker.doors import Doors, steady_clock_s
from streambus_broker.errors import ConfigError, SettingError
from streambus_broker.log.producers import IdleProducers
from streambus_broker.log.retention import expired
from streambus_broker.log.store import LogStore
from streambus_broker.metadata.registry import NodeStarted
from streambus_broker.metadata.store import load_registry
from streambus_broker.network.listener import bind
from streambus_broker.network.server import DataServer
from streambus_broker.node import Node
from streambus_broker.observe.health import Facts, Health, judge
from streambus_broker.observe.lag import LoopLag
from streambus_broker.observe.logs import Logger, LogSink
from streambus_storage import (
    LSMTree,
    StorageError,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from anyio.abc import TaskGroup
    from prometheus_client.metrics_core import Metric

    from streambus_broker.config.broker import BrokerConfig
    from streambus_broker.metadata.registry import Registry

_DRAIN_POLL_S = 0.005
_OBSERVE_DELAY_S = 0.25
_MARK_S = 2.0


async def _until(holds: Callable[[], bool]) -> None:
    """Wait for something that nobody signals, because it happens once in a broker's life."""
    while not holds():  # noqa: ASYNC110 - an event would cost every request
        await asyncio.sleep(_DRAIN_POLL_S)


def _check_tracing() -> None:
    """Refuse at once what would fail when the broker already serves.

    Raises:
        ConfigError: Tracing is on and its packages are not installed.
    """
    try:
        found = importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        problem = "needs packages that are not installed"
        remedy = 'pip install "streambus-broker[tracing]", or tracing = "off"'
        raise ConfigError([SettingError("tracing", "otlp", problem, remedy)])


def _load(modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)


class Broker:
    """One broker: ``async with Broker(config) as broker: ... broker.address ...``.

    Args:
        config: Its configuration.
        doors: The outside world; the real one by default.
        log_stream: Where JSON log lines go; None for nowhere.

    Raises:
        DataDirectoryError: The data directory is in use, damaged, of an unknown format or not
            writable (on entering).
        AddressInUseError: A port cannot be bound (on entering).
    """

    _damage_remedy = "restore it from a checkpoint, or examine it with streambus_storage verify"

    def __init__(
        self,
        config: BrokerConfig,
        *,
        doors: Doors | None = None,
        log_stream: TextIO | None = None,
    ) -> None:
        self.config = config
        self.address = ""
        self.http_address: str | None = None
        self.lag = LoopLag()
        self.node: Node
        self.apis: Apis
        self.data_tree: LSMTree
        self.meta_tree: LSMTree
        self._doors = doors or Doors(steady_s=steady_clock_s)
        self.directory = DataDirectory(config, self._doors, self._damage_remedy)
        self._sink = LogSink(log_stream, self._doors.clock_ms)
        self._logger = self.logger("broker")
        self.failure: Exception | None = None
        self.failed = asyncio.Event()
        self._started_s = 0.0
        self._serving = False
        self._stack: contextlib.AsyncExitStack

    # --- life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            try:
                await self._open(stack)
            except BaseException:
                self._sink.start()  # the reasons must be seen
                raise
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            await self._hand_over()
            await self._drain()
        if error is None or isinstance(error, asyncio.CancelledError):
            return await self._stack.__aexit__(kind, error, trace)
        await self._stack.aclose()  # a task group would wrap the block's own error
        return None

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        config = self.config
        began_s = time.perf_counter()
        if config.tracing != OFF:
            _check_tracing()
        self.directory.make()
        self.meta_tree = stack.enter_context(self.directory.open_meta())
        self.data_tree = stack.enter_context(self.directory.open_data())
        server = DataServer(config, self.logger("network"))
        if self._doors.scheduler is None:  # under virtual time nothing comes while one waits awake
            server.stay_awake()
        store = LogStore(self.data_tree, config.data_dir, config.tail_cache_bytes)
        self.node = node = await self._make_node(server, store)
        self.apis = self._serve_apis()
        server.routes = self.apis.routes
        self.address = await server.listen()
        stack.callback(server.stop_listening)
        listener = None
        if config.http not in ("", OFF):
            listener, self.http_address = bind(config.http, "http")
            stack.callback(listener.close)
        node.advertised = split_address(config.advertise or self.address)
        self._started_s = time.monotonic()
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(server.watch)
        tasks.start_soon(self.apis.topics.work)
        tasks.start_soon(self._retain)
        tasks.start_soon(self.lag.watch, self._sink.tick)
        self._serving = True
        await self._take_part(stack, tasks)
        self._logger.info(
            "start",
            "broker started",
            address=self.address,
            node_id=config.node_id,
            **self._found(),
            took_ms=round((time.perf_counter() - began_s) * 1000, 1),
        )
        tasks.start_soon(self._observe, listener)
        if config.tracing != OFF:
            tasks.start_soon(self._trace)

    def _found(self) -> dict[str, Any]:
        """What the metadata holds at the start; one of a cluster has yet to apply it."""
        registry = self.node.registry
        if not registry.cluster.cluster_id:
            return {}
        return {
            "cluster_id": registry.cluster.cluster_id,
            "topics": len(registry.topics),
            "partitions": len(self.node.logs),
        }

    # What a broker of a cluster does otherwise: see `streambus_broker.cluster.broker`.

    async def _make_node(self, server: DataServer, store: LogStore) -> Node:
        """Load the metadata, open the logs."""
        registry = load_registry(
            self.meta_tree, self.config.data_dir, f"{self._doors.random.getrandbits(88):022x}"
        )
        node = Node(*self._node_parts(registry, server, store))
        await node.commit(NodeStarted())
        with self.directory.errors():
            node.open_logs()
        return node

    def _node_parts(
        self, registry: Registry, server: DataServer, store: LogStore
    ) -> tuple[Any, ...]:
        doors = self._doors
        return (
            self.config,
            registry,
            self.meta_tree,
            store,
            server,
            doors.clock_ms,
            doors.random,
            self.logger,
            doors.steady_s,
        )

    def _serve_apis(self) -> Apis:
        return serve_apis(self.node, self.health)

    async def _take_part(self, stack: contextlib.AsyncExitStack, tasks: TaskGroup) -> None:
        """Begin what runs beside serving."""
        del stack
        tasks.start_soon(self.node.reclaim)
        tasks.start_soon(self._keep_producers)

    async def _hand_over(self) -> None:
        """Before a shutdown: give others what this broker does for them."""

    async def _drain(self) -> None:
        """Finish what was accepted, within the time that the configuration gives."""
        node = self.node
        server = node.server
        node.closing = True
        self._serving = False
        server.stop_listening()
        node.server.due.extend(node.waits.everything())
        server.answer_due()
        with anyio.move_on_after(self.config.shutdown_timeout_ms / 1000):
            await _until(self._is_drained)
            server.close_connections()
            await _until(lambda: not server.connections)
        for connection in list(server.connections):
            connection.transport.abort()
        with contextlib.suppress(StorageError):
            self._mark_all()
            self.data_tree.sync()
        self._logger.info("stop", "broker stopped")
        self._sink.start()

    def _is_drained(self) -> bool:
        """Whether nobody waits any more for the answer to something that was accepted."""
        return not self.node.server.pending

    async def _observe(self, listener: socket.socket | None) -> None:
        """Start what starting must not wait for: logs, health and metrics over HTTP."""
        # These imports take longer than all that came before them: they are left to a thread,
        # and to a moment when the first clients have been served.
        modules = ["structlog"] if self._sink.wanted else []
        if listener is not None:
            modules.append("streambus_broker.observe.http")
        if modules:
            await asyncio.sleep(_OBSERVE_DELAY_S)
            await anyio.to_thread.run_sync(_load, modules)
        self._sink.start()
        if listener is None:
            return
        from streambus_broker.observe.http import serve_http

        await serve_http(self, listener)

    async def _trace(self) -> None:
        """Trace requests from now on; export what is left at the end."""
        from streambus_broker.observe import load_traces

        traces = await anyio.to_thread.run_sync(load_traces, self.config.node_id)
        server = self.node.server
        server.tracer = traces
        for key, route in server.routes.items():
            route.handler = traces.around(key >> 8, route.handler)
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(traces.close)

    # --- background ----------------------------------------------------------------------------

    async def _retain(self) -> None:
        """Delete what has outlived its retention, round after round."""
        logger = self.logger("retention")
        node = self.node
        while True:
            await asyncio.sleep(self.config.retention_check_ms / 1000)
            if not node.knows_latest:
                continue
            now_ms = node.retention_now_ms()
            for log in list(node.logs.values()):
                expiry = expired(log, now_ms)
                if expiry is None:
                    continue
                try:
                    deleted_bytes = node.store.expire(log, expiry)
                except StorageError as error:
                    node.storage_failed("retain", error)
                    break
                if deleted_bytes:
                    node.retention_deleted_bytes += deleted_bytes
                    logger.info(
                        "retain",
                        "old records deleted",
                        topic=log.topic,
                        partition=log.partition,
                        deleted_bytes=deleted_bytes,
                        log_start_offset=log.log_start_offset,
                    )
                await asyncio.sleep(0)

    async def _keep_producers(self) -> None:
        """Now and then, note what the partitions know of their producers; forget the idle ones."""
        node = self.node
        forgetting = IdleProducers(self.config.producer_idle_ms_max, node.loop.time())
        while True:
            await asyncio.sleep(_MARK_S)
            rounds_max = forgetting.due(node.loop.time())
            for log in list(node.logs.values()):
                if rounds_max:
                    log.producers.expire(rounds_max)
                try:
                    node.store.mark(log)
                except StorageError as error:
                    node.storage_failed("mark", error)
                    break
                await asyncio.sleep(0)

    def _mark_all(self) -> None:
        """At the end: spare the next start the reading of what this one knows.

        Raises:
            StorageError: It will be read.
        """
        for log in self.node.logs.values():
            self.node.store.mark(log)

    # --- what others ask -----------------------------------------------------------------------

    def logger(self, component: str) -> Logger:
        """Make the logger of a component."""
        return self._sink.logger(component, self.config.levels())

    @property
    def logs_dropped(self) -> int:
        """How many events were not logged: beyond the ration, or nobody took them."""
        return self._sink.dropped

    def broker_count(self) -> int:
        """How many brokers there are."""
        return 1

    def more_metrics(self, *, detail: bool = False) -> Iterator[Metric]:
        """Metrics beside those of a broker on its own, for the small or the detailed page."""
        del detail
        return iter(())

    def health(self) -> Health:
        """Judge how this broker does."""
        node = self.node
        offline = sum(
            partition.leader < 0
            for topic in node.registry.topics.values()
            for partition in topic.partitions
        )
        error = node.storage_error
        return judge(
            Facts(
                uptime_ms=int((time.monotonic() - self._started_s) * 1000),
                serving=self._serving,
                closing=node.closing,
                storage_error=None if error is None else str(error),
                storage_is_final=node.storage_is_final,
                loop_lag_s=self.lag.recent_max_s,
                loop_turned_s_ago=self.lag.since_turn_s(),
                connections=len(node.server.connections),
                connections_max=self.config.connections_max,
                offline_partitions=offline,
            )
        )


def make_broker(
    config: BrokerConfig, *, doors: Doors | None = None, log_stream: TextIO | None = None
) -> Broker:
    """Make the broker that a configuration asks for: on its own, or one of a cluster."""
    if not config.clustered:
        return Broker(config, doors=doors, log_stream=log_stream)
    from streambus_broker.cluster.broker import ClusterBroker

    return ClusterBroker(config, doors=doors, log_stream=log_stream)
