"""The metadata group's messages, carried by brokers' connections to each other's data ports.

Every node dials every other; what it has to say goes over the connection that it dialled. While a
peer cannot be reached, messages to it are dropped: Raft sends anew what matters.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgpack

from streambus_broker.cluster.peers import PeerConnection, PeerError, connect
from streambus_protocol import RaftMessagesRequest
from streambus_raft import (
    AppendReply,
    Codec,
    Forward,
    ForwardRefused,
    HeartbeatReply,
    TransportMetrics,
)
from streambus_raft.errors import MessageError, MessageMalformedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from streambus_raft import NodeId, PeerMessage, Receiver

_PAUSE_S_MIN, _PAUSE_S_MAX = 0.05, 0.4
_TIMEOUT_S = 2.0
_PROBE_S, _PROBE_TIMEOUT_S = 0.5, 1.0
"""Messages are not answered on the connection that carries them, so nobody would notice that it is
dead without either end having been told (a firewall forgot it, say); TCP alone takes a quarter of
an hour to say so, and a node that the leader does not reach is outside for all that time."""
_ANSWERS = (HeartbeatReply, AppendReply)
"""These say that what was sent has arrived, although they come by the peer's own connection."""
_FORWARD, _REFUSED, _CORE = b"f", b"r", b"c"


class RaftTransport:
    """``Transport`` of streambus_raft; see the module.

    Args:
        node_id: This node.
        group: The name that the members have in common.
        cluster_id: Tells the cluster's id once it is known.
        gone: Told which node's connection broke, where nobody listens since.
        greet: Looks at a new connection before it is used; raises `PeerError` against it.
        complain: Told, once for each reason, why a node cannot be reached.

    Attributes:
        metrics: What was done so far.
        problems: Why which node cannot be reached at present.
    """

    def __init__(
        self,
        node_id: int,
        group: str,
        cluster_id: Callable[[], str],
        gone: Callable[[int], None],
        *,
        greet: Callable[[PeerConnection], Awaitable[None]],
        complain: Callable[[int, str], None],
    ) -> None:
        self.metrics = TransportMetrics()
        self.problems: dict[int, str] = {}
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._told_gone = gone
        self._greet = greet
        self._complain = complain
        self._gone: set[int] = set()
        self._codec = Codec(group)
        self._addresses: dict[int, tuple[str, int]] = {}
        self._links: dict[int, PeerConnection] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._receiver: Receiver | None = None

    def set_peer(self, node_id: int, address: tuple[str, int]) -> None:
        """Say where a node is; where that is news, it is dialled anew."""
        if node_id == self._node_id or self._addresses.get(node_id) == address:
            return
        self._addresses[node_id] = address
        if self._receiver is not None:
            self._dial(node_id)

    def forget_peer(self, node_id: int) -> None:
        """Dial a node no more."""
        self._addresses.pop(node_id, None)
        self._gone.discard(node_id)
        self.problems.pop(node_id, None)
        task = self._tasks.pop(node_id, None)
        if task is not None:
            task.cancel()

    @property
    def gone(self) -> frozenset[int]:
        """Nodes whose connection broke and at whose address nobody listens since."""
        return frozenset(self._gone)

    def is_connected(self, node_id: int) -> bool:
        """Whether messages to a node have a chance to arrive."""
        return node_id in self._links

    def link(self, node_id: int) -> PeerConnection | None:
        """The connection to a node, for small requests beside the messages."""
        return self._links.get(node_id)

    def links(self) -> list[PeerConnection]:
        """All connections that work."""
        return list(self._links.values())

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncIterator[None]:
        """See ``Transport``."""
        self._receiver = receiver
        for node_id in list(self._addresses):
            self._dial(node_id)
        try:
            yield
        finally:
            self._receiver = None
            tasks = list(self._tasks.values())
            self._tasks.clear()
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)

    def send(self, to: NodeId, messages: Sequence[PeerMessage]) -> None:
        """See ``Transport``."""
        link = self._links.get(to)
        encoded = tuple(map(self._encode, messages))
        if link is None or not link.post(RaftMessagesRequest(self._node_id, encoded)):
            self.metrics.messages_dropped += len(messages)
            return
        self.metrics.messages_sent += len(messages)
        self.metrics.bytes_sent += sum(map(len, encoded))

    def arrived(self, request: RaftMessagesRequest) -> None:
        """Take what another node sent; what is not for this node or not its own is dropped."""
        receiver = self._receiver
        if receiver is None:
            return
        try:
            messages = [self._decode(data) for data in request.messages]
            for message in messages:
                if message.sender != request.sender or message.to != self._node_id:
                    raise MessageMalformedError(f"node {request.sender} speaks for another")
        except MessageError:
            self.metrics.garbage += 1
            return
        self.metrics.messages_received += len(messages)
        link = self._links.get(request.sender)
        if link is not None and any(isinstance(each, _ANSWERS) for each in messages):
            link.heard()
        receiver.receive(messages)

    def _encode(self, message: PeerMessage) -> bytes:
        if isinstance(message, Forward | ForwardRefused):
            kind = _FORWARD if isinstance(message, Forward) else _REFUSED
            packed: bytes = msgpack.packb(list(message))
            return kind + packed
        return _CORE + self._codec.encode(message)

    def _decode(self, data: bytes) -> PeerMessage:
        kind, rest = data[:1], data[1:]
        if kind == _CORE:
            return self._codec.decode(rest)
        if kind not in (_FORWARD, _REFUSED):
            raise MessageMalformedError(f"a message of kind {kind!r}")
        try:
            fields = msgpack.unpackb(rest, use_list=False)
        except (ValueError, msgpack.UnpackException) as exc:
            raise MessageMalformedError(f"no msgpack: {exc}") from exc
        expected: Iterable[type] = (int, int, bytes) if kind == _FORWARD else (int,) * 5
        if type(fields) is not tuple or tuple(map(type, fields)) != tuple(expected):
            raise MessageMalformedError("a forward of another shape")
        return Forward._make(fields) if kind == _FORWARD else ForwardRefused._make(fields)

    # --- dialling ------------------------------------------------------------------------------

    def _dial(self, node_id: int) -> None:
        former = self._tasks.pop(node_id, None)
        if former is not None:
            former.cancel()
        task = asyncio.get_running_loop().create_task(self._keep(node_id))
        self._tasks[node_id] = task

    async def _keep(self, node_id: int) -> None:
        """Connect, wait until it breaks, connect again."""
        pause_s = _PAUSE_S_MIN
        broke = False
        while True:
            host, port = self._addresses[node_id]
            try:
                link = await self._connect(host, port, node_id)
            except PeerError as error:
                if self.problems.get(node_id) != str(error):
                    self.problems[node_id] = str(error)
                    self._complain(node_id, str(error))
                if broke and error.refused:
                    broke = False
                    self._gone.add(node_id)
                    self._told_gone(node_id)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)
                continue
            pause_s = _PAUSE_S_MIN
            self.metrics.connects += 1
            self._links[node_id] = link
            self._gone.discard(node_id)
            self.problems.pop(node_id, None)
            try:
                await _until_dead(link)
                broke = True
            finally:
                if self._links.get(node_id) is link:
                    del self._links[node_id]
                link.close()

    async def _connect(self, host: str, port: int, node_id: int) -> PeerConnection:
        """Connect once.

        Raises:
            PeerError: It cannot be reached, or is not who it should be.
        """
        link = await connect(
            host,
            port,
            cluster_id=self._cluster_id(),
            expect=node_id,
            timeout_s=_TIMEOUT_S,
        )
        try:
            await self._greet(link)
        except BaseException:
            link.close()
            raise
        return link


async def _until_dead(link: PeerConnection) -> None:
    """Wait until a connection ends, or nothing comes back on it."""
    loop = asyncio.get_running_loop()
    ended = loop.create_task(link.closed.wait())
    try:
        while True:
            await asyncio.wait((ended,), timeout=_PROBE_S)
            if ended.done():
                return
            if loop.time() - link.heard_s >= _PROBE_S:  # else its end has answered
                await link.probe(_PROBE_TIMEOUT_S)
    except PeerError:
        return
    finally:
        ended.cancel()
