"""One client connection: bytes in, requests dispatched, answers out. The hot path.

Rules:

- Everything decoded from one read is answered with one write.
- A handler is a plain function. It returns the answer's frame, or None where there is none or
  where it comes later through `Connection.answer`. Answers may overtake each other; the
  correlation id tells them apart.
- The first request is the handshake; before it, frames are limited to 64 KiB and nothing else is
  served.
- A client that does not read its answers is not read from either: requests wait in the backlog.
  So do the requests behind one that waits for the disk (`Connection.hold_requests`).
- One client's bulk does not keep the loop from the others: after so many bytes the loop turns.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, cast

from streambus_protocol import (
    ApiKey,
    ErrorCode,
    ErrorResponse,
    Frame,
    FrameDecoder,
    FrameFlags,
    ProtocolError,
    encode_frame,
    encode_message,
    find_api,
    split_trace,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_broker.network.server import DataServer

_HEAD = struct.Struct(">IHBBI")  # docs/formats/frame.md: length, api, version, flags, correlation
_HEAD_BYTES = _HEAD.size
_unpack_head = _HEAD.unpack_from
_UNCOUNTED_BYTES = 4  # of the length field itself
_LONG_READ_BYTES = 64 * 1024  # shorter reads end libuv's row of reads by themselves
_BURST_BYTES_MAX = 512 * 1024  # libuv reads up to 32 times in a row, before any timer fires
_RESPONSE = int(FrameFlags.RESPONSE)
_ERROR = int(FrameFlags.RESPONSE | FrameFlags.ERROR)
_TRACED = int(FrameFlags.TRACED)
_HANDSHAKE = int(ApiKey.HANDSHAKE)


class ApiStats:
    """Plain counters of one API, added to on the hot path and read when metrics are scraped.

    Attributes:
        errors: Requests answered with an error as a whole.
        ns_total: Time spent in the handler, in nanoseconds.
        buckets: Requests by the bit length of their nanoseconds: bucket n holds those below 2**n.
    """

    __slots__ = ("buckets", "errors", "ns_total")

    def __init__(self) -> None:
        self.errors = 0
        self.ns_total = 0
        self.buckets = [0] * 64

    @property
    def requests(self) -> int:
        """Requests served."""
        return sum(self.buckets)


class Route:
    """Where requests of one API and version go."""

    __slots__ = ("api", "handler", "stats", "version")

    def __init__(
        self,
        api: int,
        version: int,
        handler: Callable[[Connection, int, int, bytes], bytes | None],
        stats: ApiStats,
    ) -> None:
        self.api = api
        self.version = version
        self.handler = handler
        self.stats = stats


class Connection(asyncio.Protocol):
    """See the module. Made by the server's listener, one for each client."""

    __slots__ = (
        "_backlog",
        "_burst_bytes",
        "_decoder",
        "_held",
        "_out",
        "_partial",
        "_serving",
        "_write_paused",
        "address",
        "fetch_lane",
        "frame_began_tick",
        "heard_tick",
        "opened_tick",
        "pending",
        "produce_lane",
        "ready",
        "server",
        "transport",
    )

    def __init__(self, server: DataServer) -> None:
        self.server = server
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.address = ""  # empty until admitted
        self.ready = False  # the handshake was done
        self.pending = 0  # requests whose answers come later
        self.opened_tick = self.heard_tick = server.tick
        self.frame_began_tick = -1
        self.produce_lane: Any = None  # belongs to the produce API
        self.fetch_lane: Any = None  # belongs to the fetch API
        self._decoder = FrameDecoder(server.handshake_bytes_max)
        self._partial = False  # the decoder holds a part of a frame
        self._out: list[bytes] = []
        self._serving = False
        self._write_paused = False
        self._held = False
        self._burst_bytes = 0
        self._backlog: deque[Frame] = deque()

    # --- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the client or turn it away."""
        self.transport = cast("asyncio.Transport", transport)
        self.server.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's
        """Forget everything that was still to be answered here."""
        self._backlog.clear()
        self._out.clear()
        self.server.closed(self)

    def data_received(self, data: bytes) -> None:
        """Decode what came, serve every whole request, answer with one write."""
        server = self.server
        self.heard_tick = server.tick
        size = len(data)
        server.bytes_in += size
        if size >= _LONG_READ_BYTES:
            self._burst_bytes += size
            if self._burst_bytes > _BURST_BYTES_MAX:
                self._turn()
        if (
            not self._partial
            and self.ready
            and size >= _HEAD_BYTES
            and not (self._write_paused or self._held or self._backlog)
        ):
            length, api, version, flags, correlation_id = _unpack_head(data)
            if length == size - _UNCOUNTED_BYTES and not flags:
                route = server.routes.get(api << 8 | version)
                if route is not None:
                    self._serve_alone(route, correlation_id, data[_HEAD_BYTES:])
                    return
        try:
            frames = self._decoder.receive(data)
        except ProtocolError as error:
            server.garbage(self, error)
            return
        self._partial = bool(self._decoder.pending_bytes)
        if self._partial:
            if self.frame_began_tick < 0 or frames:
                self.frame_began_tick = server.tick
            server.hold(self, self._decoder.pending_bytes)
        elif self.frame_began_tick >= 0:
            self.frame_began_tick = -1
            server.hold(self, 0)
        if self._backlog:
            self._backlog.extend(frames)
            return
        self._serve_all(frames)

    def eof_received(self) -> bool:
        """Close when the client has closed its side."""
        return False

    def pause_writing(self) -> None:
        """Stop reading: the client does not take its answers."""
        self._write_paused = True
        self.server.reading_paused += 1
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Serve what has waited, then read on."""
        self._write_paused = False
        self._go_on()

    # --- pauses --------------------------------------------------------------------------------

    def hold_requests(self) -> None:
        """Serve and read nothing further until `release_requests`: order must be kept."""
        self._held = True
        self.transport.pause_reading()

    def release_requests(self) -> None:
        """Serve what has waited behind the held request, then read on."""
        self._held = False
        if not self.transport.is_closing():
            self._go_on()

    def _go_on(self) -> None:
        if self._held or self._write_paused:
            return
        frames, self._backlog = list(self._backlog), deque()
        self._serve_all(frames)
        self._read_on()

    def _read_on(self) -> None:
        """Read again, unless there is a reason not to."""
        paused = self._write_paused or self._held or self.server.is_over_budget(self)
        if not (paused or self.transport.is_closing()):
            self.transport.resume_reading()

    def _turn(self) -> None:
        """Let the loop turn before this connection is read from again."""
        self._burst_bytes = 0
        if not (self._write_paused or self._held):
            self.transport.pause_reading()
            self.server.loop.call_soon(self._read_on)

    # --- answers -------------------------------------------------------------------------------

    def answer(self, frame: bytes) -> None:
        """Send an answer; together with others where requests are being served right now."""
        if self._serving:
            self._out.append(frame)
        elif not self.transport.is_closing():
            self.server.bytes_out += len(frame)
            self.transport.write(frame)

    def answer_later(self, frame: bytes) -> None:
        """Send the answer to a request that was counted as pending; flushed by the server."""
        self.pending -= 1
        if not self._out and not self._serving:
            self.server.dirty.append(self)
        self._out.append(frame)

    def flush(self) -> None:
        """Write what has gathered."""
        out = self._out
        if out and not self._serving:
            frame = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            if not self.transport.is_closing():
                self.server.bytes_out += len(frame)
                self.transport.write(frame)

    def accept_large_frames(self) -> None:
        """Take frames of full size: the handshake is done."""
        self.ready = True
        self._decoder.frame_bytes_max = self.server.frame_bytes_max

    # --- serving -------------------------------------------------------------------------------

    def _serve_alone(self, route: Route, correlation_id: int, body: bytes) -> None:
        """Serve the usual read: exactly one whole, plain request. Does what `_serve_all` does."""
        started_ns = perf_counter_ns()
        server, out = self.server, self._out
        self._serving = True
        try:
            answer = route.handler(self, route.version, correlation_id, body)
        except Exception as error:  # noqa: BLE001 - one bad request costs nobody else anything
            frame = Frame(route.api, route.version, 0, correlation_id, body)
            answer = self._failed(frame, route, error)
        self._serving = False
        if out:
            if answer is not None:
                out.append(answer)
            self.flush()
        elif answer is not None:
            server.bytes_out += len(answer)
            self.transport.write(answer)
        if server.due:
            server.answer_due()
        now_ns = perf_counter_ns()
        took_ns = now_ns - started_ns
        stats = route.stats
        stats.ns_total += took_ns
        stats.buckets[took_ns.bit_length()] += 1
        vigil = server.vigil
        vigil.last_ns = now_ns
        if vigil.may_begin:
            vigil.begin()

    def _serve_all(self, frames: list[Frame]) -> None:
        out = self._out
        self._serving = True
        try:
            for index, frame in enumerate(frames):
                closing = not self.ready and self.transport.is_closing()
                if self._write_paused or self._held or closing:
                    self._backlog.extend(frames[index:])
                    break
                answer = self._serve(frame)
                if answer is not None:
                    out.append(answer)
                    if len(answer) > self.server.flush_bytes:
                        self._serving = False
                        self.flush()
                        self._serving = True
        finally:
            self._serving = False
        self.flush()
        if self.server.due:
            self.server.answer_due()

    def _serve(self, frame: Frame) -> bytes | None:
        api, version, flags, correlation_id, body = frame
        server = self.server
        route = server.routes.get(api << 8 | version)
        started_ns = perf_counter_ns()
        tracing = None
        try:
            if flags:
                if flags & _RESPONSE:
                    raise ProtocolError("a client sent a response")
                if flags & _TRACED:
                    context, body = split_trace(body)
                    if server.tracer is not None:
                        tracing = server.tracer.request(context, api)
            if tracing is not None:
                with tracing:
                    answer = self._handle(route, frame, body)
            elif route is None or not self.ready:
                answer = self._handle(route, frame, body)
            else:
                answer = route.handler(self, version, correlation_id, body)
        except Exception as error:  # noqa: BLE001 - one bad request costs nobody else anything
            answer = self._failed(frame, route, error)
        if route is not None:
            stats = route.stats
            took_ns = perf_counter_ns() - started_ns
            stats.ns_total += took_ns
            stats.buckets[took_ns.bit_length()] += 1
        return answer

    def _handle(self, route: Route | None, frame: Frame, body: bytes) -> bytes | None:
        """Serve what is not the usual case: before the handshake, unknown, or traced."""
        if not self.ready and frame.api != _HANDSHAKE:
            self.server.garbage(self, ProtocolError("a request came before the handshake"))
            return None
        if route is None:
            find_api(frame.api, frame.version)  # raises what is wrong with it
            raise ProtocolError(f"API {frame.api} is not served here")
        return route.handler(self, frame.version, frame.correlation_id, body)

    def _failed(self, frame: Frame, route: Route | None, error: Exception) -> bytes:
        if isinstance(error, ProtocolError):
            code, detail = error.code, str(error)
            self.server.bad_requests += 1
        else:
            code, detail = ErrorCode.INTERNAL, "the broker met an error of its own; see its log"
            self.server.unexpected(frame.api, error)
        if route is not None:
            route.stats.errors += 1
        return error_frame(frame.api, frame.version, frame.correlation_id, code, detail)


def error_frame(api: int, version: int, correlation_id: int, code: int, detail: str) -> bytes:
    """Build the frame that says why a request as a whole was not served."""
    body = encode_message(ErrorResponse(code, detail), 0)
    return encode_frame(api, version, _ERROR, correlation_id, body)


def response_frame(api: int, version: int, correlation_id: int, body: bytes) -> bytes:
    """Build an answer's frame."""
    return encode_frame(api, version, _RESPONSE, correlation_id, body)
