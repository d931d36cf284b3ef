"""Servers connected over TCP, optionally with TLS.

Theory of operation: every node dials every peer, and what it has to say goes over the connection
it dialled; a connection carries messages in one direction only. So nobody needs to agree on whose
connection survives, and a cut in one direction is just that.

While a peer is not connected, or takes nothing, messages to it are dropped: the core sends anew
what matters. What a connection carries is judged frame by frame; garbage closes that connection,
is counted, and touches nothing else.
"""

from __future__ import annotations

import logging
import random as random_module
import ssl
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener

from streambus_raft._codec import Codec
from streambus_raft._event_loop import Signal, running_event_loop
from streambus_raft._forwarding import Forward, ForwardRefused, decode_forward, encode_forward
from streambus_raft._frames import (
    GREETING_BYTES_MAX,
    VERSION,
    FrameKind,
    FrameReader,
    Hello,
    RefusalCode,
    decode_hello,
    decode_refused,
    encode_frame,
    encode_hello,
    encode_refused,
)
from streambus_raft._messages import AppendRequest, SnapshotChunk
from streambus_raft._transport import TransportMetrics
from streambus_raft.errors import (
    ConfigError,
    MessageError,
    MessageMalformedError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from random import Random

    from anyio.abc import ByteStream, TaskGroup

    from streambus_raft._forwarding import PeerMessage
    from streambus_raft._transport import Receiver
    from streambus_raft._types import NodeId

logger = logging.getLogger("streambus_raft.transport")

_RECEIVE_BYTES = 256 * 1024
_CLOSED = (
    anyio.EndOfStream,
    anyio.ClosedResourceError,
    anyio.BrokenResourceError,
    OSError,
    ssl.SSLError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpOptions:
    """Limits and times of a :class:`TcpTransport`.

    Attributes:
        message_bytes_max: Longest message that is accepted; at least what the core may send.
        queue_bytes_max: What may wait for one peer; beyond it messages are dropped.
        greeting_seconds_max: How long a new connection may take to greet.
        send_seconds_max: How long a peer may take nothing before its connection is given up.
        backoff_seconds_min: Pause after the first failed attempt to connect; doubles.
        backoff_seconds_max: Longest pause between attempts.
        greetings_pending_max: Connections that have not greeted yet; more are closed at once.
    """

    message_bytes_max: int = 64 << 20
    queue_bytes_max: int = 64 << 20
    greeting_seconds_max: float = 5.0
    send_seconds_max: float = 5.0
    backoff_seconds_min: float = 0.05
    backoff_seconds_max: float = 1.0
    greetings_pending_max: int = 64

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be above 0")
        if self.backoff_seconds_max < self.backoff_seconds_min:
            raise ConfigError("backoff_seconds_max is below backoff_seconds_min")


@dataclass(slots=True, eq=False)
class _Peer:
    node_id: int
    address: tuple[str, int]
    signal: Signal
    queue: deque[PeerMessage] = field(default_factory=deque)
    queued_bytes: int = 0
    connected: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class TcpTransport:
    """The ``Transport`` over TCP.

    Args:
        node_id: This node.
        cluster: A name that all members share; connections of another cluster are refused.
        listen: Host and port to listen on; port 0 takes a free one, see ``port``.
        peers: Where the other nodes listen; an entry for this node itself is ignored. More can be
            added with :meth:`set_peer` while running.
        server_ssl: Speak TLS on what is accepted; give a context that demands certificates
            (``verify_mode = ssl.CERT_REQUIRED``), or anybody can join in.
        client_ssl: Speak TLS on what is dialled.
        options: Limits and times.
        random: Spreads the pauses between attempts to connect.

    Attributes:
        metrics: What was done so far.
        port: The port it listens on, once running.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        node_id: int,
        *,
        cluster: str = "raft",
        listen: tuple[str, int],
        peers: Mapping[int, tuple[str, int]] | None = None,
        server_ssl: ssl.SSLContext | None = None,
        client_ssl: ssl.SSLContext | None = None,
        options: TcpOptions | None = None,
        random: Random | None = None,
    ) -> None:
        self.options = options or TcpOptions()
        self.metrics = TransportMetrics()
        self.port = 0
        self._node_id = node_id
        self._cluster = cluster
        self._listen = listen
        self._addresses = {n: a for n, a in (peers or {}).items() if n != node_id}
        self._server_ssl = server_ssl
        self._client_ssl = client_ssl
        self._random = random or random_module.Random()  # noqa: S311 - spreads pauses, no secret
        self._codec = Codec(cluster, self.options.message_bytes_max)
        self._peers: dict[int, _Peer] = {}
        self._accepted: dict[int, anyio.CancelScope] = {}
        self._greeting = 0
        self._receiver: Receiver | None = None
        self._group: TaskGroup | None = None

    def set_peer(self, node_id: int, address: tuple[str, int]) -> None:
        """Say where a node listens; a connection to another address is dropped."""
        if node_id == self._node_id or self._addresses.get(node_id) == address:
            return
        self._addresses[node_id] = address
        if self._group is not None:
            self._dial(node_id, address)

    def remove_peer(self, node_id: int) -> None:
        """Forget a node: no more is sent to it. It may still send to this one."""
        self._addresses.pop(node_id, None)
        peer = self._peers.pop(node_id, None)
        if peer is not None:
            peer.scope.cancel()

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncIterator[None]:
        """See ``Transport``.

        Raises:
            OSError: the address cannot be listened on.
        """
        host, port = self._listen
        listener: Any = await anyio.create_tcp_listener(
            local_host=host, local_port=port, reuse_port=False
        )
        self.port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - no Django here
        if self._server_ssl is not None:
            listener = TLSListener(listener, self._server_ssl, standard_compatible=False)
        self._receiver = receiver
        async with listener, anyio.create_task_group() as group:
            self._group = group
            group.start_soon(self._listen_on, listener)
            for node_id, address in self._addresses.items():
                self._dial(node_id, address)
            try:
                yield
            finally:
                self._group = None
                self._peers.clear()
                group.cancel_scope.cancel()

    # --- what goes out ---

    def send(self, to: NodeId, messages: Sequence[PeerMessage]) -> None:
        """See ``Transport``."""
        peer = self._peers.get(to)
        if peer is None or not peer.connected:
            self.metrics.messages_dropped += len(messages)
            return
        for message in messages:
            size = _estimated_bytes(message)
            if peer.queued_bytes + size > self.options.queue_bytes_max and peer.queue:
                self.metrics.messages_dropped += 1
                continue
            peer.queued_bytes += size
            peer.queue.append(message)
        peer.signal.set()

    def _dial(self, node_id: int, address: tuple[str, int]) -> None:
        assert self._group is not None
        if (former := self._peers.pop(node_id, None)) is not None:
            former.scope.cancel()
        peer = _Peer(node_id, address, Signal(running_event_loop()))
        self._peers[node_id] = peer
        self._group.start_soon(self._keep_connected, peer)

    async def _keep_connected(self, peer: _Peer) -> None:
        """Connect, carry, and connect again after a pause, until the peer is forgotten."""
        options = self.options
        pause = options.backoff_seconds_min
        with peer.scope:
            while True:
                try:
                    if await self._carry(peer):
                        pause = options.backoff_seconds_min
                except _CLOSED as exc:
                    logger.debug("connection to node %d at %s: %r", peer.node_id, peer.address, exc)
                except MessageError as exc:
                    self.metrics.garbage += 1
                    logger.warning("node %d at %s: %s", peer.node_id, peer.address, exc)
                finally:
                    peer.connected = False
                    peer.queue.clear()
                    peer.queued_bytes = 0
                await anyio.sleep(pause * self._random.uniform(0.5, 1.0))
                pause = min(2 * pause, options.backoff_seconds_max)

    async def _carry(self, peer: _Peer) -> bool:
        """Open one connection and use it until it breaks; say whether it was greeted at all."""
        host, port = peer.address
        with anyio.fail_after(self.options.greeting_seconds_max):
            stream: ByteStream = await (
                anyio.connect_tcp(host, port)
                if self._client_ssl is None
                else anyio.connect_tcp(
                    host, port, ssl_context=self._client_ssl, tls_standard_compatible=False
                )
            )
        async with stream:
            if not await self._greet(peer, stream):
                return False
            self.metrics.connects += 1
            peer.connected = True
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch_for_end, stream, group.cancel_scope)
                try:
                    await self._send_queued(peer, stream)
                except _CLOSED as exc:
                    logger.debug("connection to node %d broke: %r", peer.node_id, exc)
                group.cancel_scope.cancel()
        return True

    async def _greet(self, peer: _Peer, stream: ByteStream) -> bool:
        hello = Hello(VERSION, self._cluster, self._node_id, peer.node_id)
        reader = FrameReader(GREETING_BYTES_MAX)
        with anyio.fail_after(self.options.greeting_seconds_max):
            await stream.send(encode_hello(hello))
            frames: list[tuple[int, bytes]] = []
            while not frames:
                frames = reader.feed(await stream.receive(GREETING_BYTES_MAX))
        kind, payload = frames[0]
        if kind == FrameKind.WELCOME:
            return True
        if kind != FrameKind.REFUSED:
            raise MessageMalformedError(f"a frame of kind {kind} in place of a welcome")
        code, text = decode_refused(payload)
        self.metrics.refusals += 1
        logger.warning("node %d refuses us (%d): %s", peer.node_id, code, text)
        return False

    async def _watch_for_end(self, stream: ByteStream, scope: anyio.CancelScope) -> None:
        """Notice that the peer closed; nothing is ever said in this direction."""
        try:
            await stream.receive(1)
        except _CLOSED:
            pass
        else:
            self.metrics.garbage += 1
        scope.cancel()

    async def _send_queued(self, peer: _Peer, stream: ByteStream) -> None:
        """Everything that waits goes out with one write, up to a bound of memory."""
        metrics, limit = self.metrics, self.options.message_bytes_max
        while True:
            await peer.signal.wait()
            while peer.queue:
                frames: list[bytes] = []
                size = 0
                while peer.queue and size < _RECEIVE_BYTES:
                    message = peer.queue.popleft()
                    peer.queued_bytes -= _estimated_bytes(message)
                    frame = self._encode(message)
                    if len(frame) > limit:
                        metrics.messages_dropped += 1
                        logger.error("a message of %d bytes is above the limit", len(frame))
                        continue
                    frames.append(frame)
                    size += len(frame)
                with anyio.fail_after(self.options.send_seconds_max):
                    await stream.send(frames[0] if len(frames) == 1 else b"".join(frames))
                metrics.messages_sent += len(frames)
                metrics.bytes_sent += size

    def _encode(self, message: PeerMessage) -> bytes:
        if isinstance(message, Forward | ForwardRefused):
            return encode_frame(FrameKind.FORWARD, encode_forward(message))
        return encode_frame(FrameKind.MESSAGE, self._codec.encode(message))

    # --- what comes in ---

    async def _listen_on(self, listener: Any) -> None:
        """Accept connections; where that fails (no descriptors left), go on after a pause."""
        while True:
            try:
                await listener.serve(self._accept)
            except* OSError as group:
                logger.warning("node %d cannot accept connections: %r", self._node_id, group)
            await anyio.sleep(self.options.backoff_seconds_min)

    async def _accept(self, stream: ByteStream) -> None:
        if self._greeting >= self.options.greetings_pending_max:
            self.metrics.refusals += 1
            await anyio.aclose_forcefully(stream)
            return
        try:
            async with stream:
                await self._serve(stream)
        except _CLOSED as exc:
            logger.debug("an accepted connection broke: %r", exc)
        except MessageError as exc:
            self.metrics.garbage += 1
            logger.warning("an accepted connection was closed: %s", exc)
        except Exception:
            # A fault of ours in reading what came must not take the other connections along.
            self.metrics.garbage += 1
            logger.exception("an accepted connection was closed by a fault of the library itself")

    async def _serve(self, stream: ByteStream) -> None:
        reader = FrameReader(GREETING_BYTES_MAX)
        self._greeting += 1
        try:
            with anyio.fail_after(self.options.greeting_seconds_max):
                frames: list[tuple[int, bytes]] = []
                while not frames:
                    frames = reader.feed(await stream.receive(GREETING_BYTES_MAX))
                kind, payload = frames.pop(0)
                if kind != FrameKind.HELLO:
                    raise MessageMalformedError(f"a frame of kind {kind} in place of a greeting")
                hello = decode_hello(payload)
                refused = self._judge(hello)
                if refused is not None:
                    self.metrics.refusals += 1
                    await stream.send(encode_refused(*refused))
                    return
                await stream.send(encode_frame(FrameKind.WELCOME, b"\x91\x01"))
        finally:
            self._greeting -= 1
        reader.bytes_max = self.options.message_bytes_max
        if (former := self._accepted.pop(hello.sender, None)) is not None:
            former.cancel()  # the node dialled anew: the older connection is dead
        with anyio.CancelScope() as scope:
            self._accepted[hello.sender] = scope
            try:
                while True:
                    if frames:
                        self._deliver(frames, hello.sender)
                    frames = reader.feed(await stream.receive(_RECEIVE_BYTES))
            finally:
                if self._accepted.get(hello.sender) is scope:
                    del self._accepted[hello.sender]

    def _judge(self, hello: Hello) -> tuple[RefusalCode, str] | None:
        if hello.version != VERSION:
            return RefusalCode.VERSION, f"this node speaks version {VERSION}"
        if hello.cluster != self._cluster:
            return RefusalCode.CLUSTER, "this node belongs to another cluster"
        if hello.to != self._node_id or hello.sender == self._node_id:
            return RefusalCode.WRONG_NODE, f"this is node {self._node_id}"
        return None

    def _deliver(self, frames: list[tuple[int, bytes]], sender: int) -> None:
        messages: list[PeerMessage] = []
        try:
            for kind, payload in frames:
                message: PeerMessage
                if kind == FrameKind.MESSAGE:
                    message = self._codec.decode(payload)
                elif kind == FrameKind.FORWARD:
                    message = decode_forward(payload)
                else:
                    raise MessageMalformedError(f"a frame of kind {kind} after the greeting")
                if message.sender != sender or message.to != self._node_id:
                    where = f"from {message.sender} to {message.to}"
                    raise MessageMalformedError(f"node {sender} passes on a message {where}")
                messages.append(message)
                self.metrics.bytes_received += len(payload)
        finally:
            if messages and self._receiver is not None:
                self.metrics.messages_received += len(messages)
                self._receiver.receive(messages)


def _estimated_bytes(message: PeerMessage) -> int:
    """What a message will roughly take in a buffer, without encoding it."""
    if isinstance(message, AppendRequest):
        entries = message.entries
        return 128 + sum(len(entry.data) + 16 for entry in entries)
    if isinstance(message, SnapshotChunk | Forward):
        return 128 + len(message.data)
    return 128
