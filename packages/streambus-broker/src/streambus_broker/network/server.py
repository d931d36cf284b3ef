"""The data port: accepts, admits and watches connections, and holds what they share."""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

from streambus_broker.config.addresses import join_address, split_address
from streambus_broker.errors import AddressInUseError
from streambus_broker.network.admission import Admission
from streambus_broker.network.connection import Connection, Route
from streambus_broker.network.vigil import Vigil, core_count

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from streambus_broker.config.broker import BrokerConfig
    from streambus_broker.observe.logs import Logger
    from streambus_protocol import ProtocolError, TraceContext

TICK_S = 1.0
_SWEEP_SLICE = 500
_FLUSH_BYTES = 256 * 1024


class Tracer(Protocol):
    """What the server needs of tracing."""

    def request(self, context: TraceContext, api: int) -> AbstractContextManager[Any]:
        """Open a span around a request."""

    def close(self) -> None:
        """Send what has gathered; may block."""


class DataServer:
    """See the module.

    Attributes:
        routes: ``api << 8 | version`` → where such requests go.
        connections: Every admitted connection.
        tick: Seconds since the start, coarse; time limits are counted in it.
        due: Waiting fetches that became answerable while requests were served.
        dirty: Connections with gathered answers to flush.
        vigil: Keeps the loop awake for a moment after a request.
    """

    def __init__(self, config: BrokerConfig, logger: Logger) -> None:
        self.routes: dict[int, Route] = {}
        self.connections: dict[Connection, None] = {}
        self.tick = 0
        self.due: list[Any] = []
        self.dirty: list[Connection] = []
        self.tracer: Tracer | None = None
        self.answer_waits: Callable[[list[Any]], None] = list.clear
        self.frame_bytes_max = config.request_bytes_max
        self.handshake_bytes_max = config.handshake_request_bytes_max
        self.flush_bytes = _FLUSH_BYTES
        self.accepted = self.bytes_in = self.bytes_out = 0
        self.bad_requests = self.reading_paused = 0
        self.refused: dict[str, int] = {}
        self.closed_for: dict[str, int] = {}
        self.unexpected_errors = 0
        self.held_bytes = 0
        self.admission = Admission(
            config.connections_max,
            config.connections_per_address_max,
            config.connections_new_per_address_per_s_max,
        )
        self._config = config
        self._logger = logger
        self.loop = self._loop = asyncio.get_running_loop()
        self.vigil = Vigil(self.loop.call_soon, perf_counter_ns, 0)
        self._server: asyncio.Server | None = None
        self._held: dict[Connection, int] = {}
        self._full: dict[Connection, None] = {}

    def stay_awake(self) -> None:
        """Hold a vigil after requests from now on, if it is wanted and makes sense here."""
        awake_us = self._config.busy_poll_us if core_count() > 1 else 0
        self.vigil = Vigil(self.loop.call_soon, perf_counter_ns, awake_us * 1000)

    # --- life ----------------------------------------------------------------------------------

    async def listen(self) -> str:
        """Open the port; return the address as bound.

        Raises:
            AddressInUseError: The address cannot be bound.
        """
        host, port = split_address(self._config.listen)
        try:
            self._server = await self._loop.create_server(
                lambda: Connection(self), host, port, backlog=1024
            )
        except OSError as exc:
            raise AddressInUseError(
                self._config.listen, "listen", exc.strerror or str(exc)
            ) from exc
        bound = self._server.sockets[0].getsockname()
        return join_address(host, bound[1])

    def stop_listening(self) -> None:
        """Take no new connections."""
        if self._server is not None:
            self._server.close()

    def close_connections(self) -> None:
        """Close every connection; what is already written still goes out."""
        for connection in list(self.connections):
            connection.flush()
            connection.transport.close()

    @property
    def pending(self) -> int:
        """Requests of all connections whose answers come later."""
        return sum(connection.pending for connection in self.connections)

    # --- what connections tell -----------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """Admit a new connection, or count why not and close it."""
        peer = connection.transport.get_extra_info("peername")
        address = str(peer[0]) if peer else "unknown"
        reason = self.admission.arrive(address, self._loop.time())
        if reason:
            self.refused[reason] = self.refused.get(reason, 0) + 1
            connection.transport.abort()
            return
        self.accepted += 1
        connection.address = address
        self.connections[connection] = None
        high = self._config.queued_bytes_per_connection_max
        connection.transport.set_write_buffer_limits(high=high)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        if connection.address:
            del self.connections[connection]
            self.admission.leave(connection.address)
            self.hold(connection, 0)
            self._full.pop(connection, None)

    def garbage(self, connection: Connection, error: ProtocolError) -> None:
        """Close a connection that does not speak the protocol."""
        self.close_for(connection, "garbage", str(error))

    def close_for(self, connection: Connection, reason: str, detail: str) -> None:
        """Close a connection and count why."""
        self.closed_for[reason] = self.closed_for.get(reason, 0) + 1
        self._logger.info(
            "close_connection", detail, reason=reason, address=connection.address, sparse=True
        )
        connection.transport.abort()

    def unexpected(self, api: int, error: Exception) -> None:
        """Log an error that no request should be able to cause."""
        self.unexpected_errors += 1
        self._logger.error(
            "serve_request", "unexpected error", category="internal", api=api, error=error
        )

    def hold(self, connection: Connection, size_bytes: int) -> None:
        """Account for bytes that a connection makes the broker keep; pause it over the budget."""
        self.held_bytes += size_bytes - self._held.pop(connection, 0)
        if size_bytes:
            self._held[connection] = size_bytes
            if self.held_bytes > self._config.queued_bytes_max:
                self.reading_paused += 1
                self._full[connection] = None
                connection.transport.pause_reading()
        elif self._full and self.held_bytes <= self._config.queued_bytes_max:
            resumed, self._full = self._full, {}
            for paused in resumed:
                if not paused.transport.is_closing():
                    paused.transport.resume_reading()

    def is_over_budget(self, connection: Connection) -> bool:
        """Tell whether a connection is paused because of the bytes that all of them hold."""
        return connection in self._full

    def answer_due(self) -> None:
        """Answer the fetches that became due, after the answers that made them so."""
        due, self.due = self.due, []
        self.answer_waits(due)
        self.flush_dirty()

    def flush_dirty(self) -> None:
        """Write the gathered answers of every connection that has some: one write each."""
        dirty, self.dirty = self.dirty, []
        for connection in dirty:
            connection.flush()

    # --- time limits ---------------------------------------------------------------------------

    async def watch(self) -> None:
        """Count the ticks and close connections that exceed a time limit, for ever."""
        config = self._config
        idle = max(1, config.idle_timeout_ms // 1000)
        handshake = max(1, config.handshake_timeout_ms // 1000)
        frame = max(1, config.frame_timeout_ms // 1000)
        while True:
            await asyncio.sleep(TICK_S)
            self.tick += 1
            tick = self.tick
            for index, connection in enumerate(list(self.connections)):
                if index % _SWEEP_SLICE == _SWEEP_SLICE - 1:
                    await asyncio.sleep(0)
                began = connection.frame_began_tick
                if not connection.ready and tick - connection.opened_tick > handshake:
                    self.close_for(connection, "handshake_timeout", "no handshake in time")
                elif began >= 0 and tick - began > frame:
                    self.close_for(connection, "frame_timeout", "a frame was not finished in time")
                elif tick - connection.heard_tick > idle and not connection.pending:
                    self.close_for(connection, "idle_timeout", "nothing was heard for too long")
            self.admission.forget_idle(self._loop.time())
