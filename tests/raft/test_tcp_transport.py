"""The TCP transport with real sockets: what is refused, what is garbage, TLS, and coming back."""

from __future__ import annotations

import ssl
import struct
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import msgpack
import pytest

from streambus_raft import (
    Codec,
    Forward,
    Heartbeat,
    NodeId,
    PeerMessage,
    RaftServer,
    TcpOptions,
    TcpTransport,
    Term,
)
from streambus_raft._envelope import Envelope, encode_envelope
from streambus_raft._forwarding import encode_forward
from streambus_raft._frames import (
    VERSION,
    FrameKind,
    FrameReader,
    Hello,
    RefusalCode,
    decode_refused,
    encode_frame,
    encode_hello,
)
from streambus_raft.errors import ConfigError, MessageError
from tests.raft.servers import BACKENDS, Cluster, put, run, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from anyio.abc import SocketStream

OPTIONS = TcpOptions(message_bytes_max=100_000, backoff_seconds_max=0.1)


class Inbox:
    """Takes what arrives."""

    def __init__(self) -> None:
        self.messages: list[PeerMessage] = []

    def receive(self, messages: Sequence[PeerMessage]) -> None:
        self.messages += messages


def heartbeat(sender: int, to: int, number: int = 1) -> Heartbeat:
    return Heartbeat(NodeId(sender), NodeId(to), Term(1), 1, 0, number, 9)


@asynccontextmanager
async def listening(**options: Any) -> AsyncIterator[tuple[TcpTransport, Inbox]]:
    """Node 1, with nobody to dial."""
    inbox = Inbox()
    transport = TcpTransport(
        1, cluster="kv", listen=("127.0.0.1", 0), random=Random(1), **{"options": OPTIONS} | options
    )
    async with transport.running(inbox):
        yield transport, inbox


async def dial(transport: TcpTransport, hello: bytes | None) -> SocketStream:
    stream = await anyio.connect_tcp("127.0.0.1", transport.port)
    if hello is not None:
        await stream.send(hello)
    return stream


async def first_frame(stream: SocketStream) -> tuple[int, bytes]:
    reader = FrameReader(10_000)
    while True:
        if frames := reader.feed(await stream.receive()):
            return frames[0]


async def is_closed(stream: SocketStream) -> bool:
    """Whether the other side closes without another word."""
    try:
        return not await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return True


GREETING = encode_hello(Hello(VERSION, "kv", 2, 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_messages_arrive_in_order_over_a_connection_that_comes_back(backend: str) -> None:
    async def test() -> None:
        async with listening() as (one, inbox):
            two = TcpTransport(
                2, cluster="kv", listen=("127.0.0.1", 0), peers={1: ("127.0.0.1", one.port)}
            )
            async with two.running(Inbox()):
                await until(lambda: two.metrics.connects == 1)
                two.send(NodeId(1), [heartbeat(2, 1, number) for number in range(100)])
                await until(lambda: len(inbox.messages) == 100)
                assert inbox.messages == [heartbeat(2, 1, number) for number in range(100)]
                two.send(NodeId(3), [heartbeat(2, 3)])
                assert two.metrics.messages_dropped == 1
                for scope in list(one._accepted.values()):
                    scope.cancel()  # the network breaks the connection
                await until(lambda: two.metrics.connects == 2)
                two.send(NodeId(1), [heartbeat(2, 1, 7)])
                await until(lambda: len(inbox.messages) == 101)

    run(test, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_peers_come_move_and_go_while_it_runs(backend: str) -> None:
    async def test() -> None:
        async with listening() as (old, first), listening() as (new, second):
            two = TcpTransport(2, cluster="kv", listen=("127.0.0.1", 0), options=OPTIONS)
            async with two.running(Inbox()):
                two.set_peer(1, ("127.0.0.1", old.port))
                two.set_peer(1, ("127.0.0.1", old.port))  # it is known already
                await until(lambda: two.metrics.connects == 1)
                two.send(NodeId(1), [heartbeat(2, 1)])
                await until(lambda: len(first.messages) == 1)
                two.set_peer(1, ("127.0.0.1", new.port))
                await until(lambda: two.metrics.connects == 2)
                two.send(NodeId(1), [heartbeat(2, 1)])
                await until(lambda: len(second.messages) == 1)
                await until(lambda: not old._accepted)
                two.remove_peer(1)
                two.remove_peer(1)
                two.send(NodeId(1), [heartbeat(2, 1)])
                assert two.metrics.messages_dropped == 1
                await until(lambda: not new._accepted)
                two.set_peer(2, ("127.0.0.1", old.port))  # this is itself
                assert two.metrics.connects == 2

    run(test, backend)


def test_every_division_of_the_stream_gives_the_same_frames() -> None:
    stream = b"".join(encode_frame(FrameKind.MESSAGE, bytes([n]) * n) for n in range(1, 20))
    for step in range(1, 60):
        reader = FrameReader(100)
        frames: list[tuple[int, bytes]] = []
        for start in range(0, len(stream), step):
            frames += reader.feed(stream[start : start + step])
        assert frames == [(FrameKind.MESSAGE, bytes([n]) * n) for n in range(1, 20)]


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (Hello(VERSION + 1, "kv", 2, 1), RefusalCode.VERSION),
        (Hello(VERSION, "another", 2, 1), RefusalCode.CLUSTER),
        (Hello(VERSION, "kv", 2, 3), RefusalCode.WRONG_NODE),
        (Hello(VERSION, "kv", 1, 1), RefusalCode.WRONG_NODE),
    ],
)
def test_a_greeting_that_does_not_fit_is_refused_with_a_reason(
    hello: Hello, code: RefusalCode
) -> None:
    async def test() -> None:
        async with listening() as (transport, inbox):
            async with await dial(transport, encode_hello(hello)) as stream:
                kind, payload = await first_frame(stream)
                assert kind == FrameKind.REFUSED
                assert decode_refused(payload)[0] == code
                assert await is_closed(stream)
            assert transport.metrics.refusals == 1
            assert not inbox.messages

    run(test)


CODEC = Codec("kv")
GARBAGE = {
    "no frame": b"GET / HTTP/1.1\r\nHost: raft\r\n\r\n",
    "a frame that promises too much": struct.pack("<IBQ", 1 << 31, FrameKind.MESSAGE, 0),
    "a wrong checksum": encode_frame(FrameKind.MESSAGE, b"x" * 20)[:-1] + b"y",
    "an empty frame": struct.pack("<IBQ", 0, FrameKind.MESSAGE, 0),
    "a frame of unknown kind": encode_frame(FrameKind.WELCOME, b"x"),
    "no message": encode_frame(FrameKind.MESSAGE, b"\xc1"),
    "a message of another cluster": encode_frame(
        FrameKind.MESSAGE, Codec("other").encode(heartbeat(2, 1))
    ),
    "a message from the future": encode_frame(
        FrameKind.MESSAGE, msgpack.packb([99, "kv", 1, 2, 1])
    ),
    "a message in another's name": encode_frame(FrameKind.MESSAGE, CODEC.encode(heartbeat(3, 1))),
    "a message to another": encode_frame(FrameKind.MESSAGE, CODEC.encode(heartbeat(2, 3))),
    "no forward": encode_frame(FrameKind.FORWARD, b"\x93\x01\x02\x03"),
    "a forward in another's name": encode_frame(
        FrameKind.FORWARD,
        encode_forward(
            Forward(NodeId(2), NodeId(1), encode_envelope(Envelope(3, 1, [b"x"], None)))
        ),
    ),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_closes_that_connection_only_and_is_counted(garbage: bytes) -> None:
    async def test() -> None:
        async with listening() as (transport, inbox):
            third = encode_hello(Hello(VERSION, "kv", 3, 1))
            async with (
                await dial(transport, third) as good,
                await dial(transport, GREETING) as bad,
            ):
                assert (await first_frame(good))[0] == FrameKind.WELCOME
                assert (await first_frame(bad))[0] == FrameKind.WELCOME
                await bad.send(garbage)
                assert await is_closed(bad)
                assert transport.metrics.garbage == 1
                assert not inbox.messages
                message = heartbeat(3, 1)
                await good.send(encode_frame(FrameKind.MESSAGE, CODEC.encode(message)))
                await until(lambda: inbox.messages == [message])

    run(test)


@pytest.mark.parametrize("greeting", [b"\0" * 40, encode_frame(FrameKind.MESSAGE, b"x"), b"x" * 64])
def test_garbage_in_place_of_a_greeting_is_counted(greeting: bytes) -> None:
    async def test() -> None:
        async with listening() as (transport, _), await dial(transport, greeting) as stream:
            assert await is_closed(stream)
            assert transport.metrics.garbage == 1

    run(test)


def test_whoever_does_not_greet_is_shown_out() -> None:
    async def test() -> None:
        impatient = replace(OPTIONS, greeting_seconds_max=0.1)
        async with (
            listening(options=impatient) as (transport, _),
            await dial(transport, None) as stream,
        ):
            assert await is_closed(stream)
            assert transport.metrics.connects == 0

    run(test)


def test_no_memory_is_taken_for_what_a_frame_only_promises() -> None:
    reader = FrameReader(1 << 20)
    with pytest.raises(MessageError):
        reader.feed(struct.pack("<IBQ", (1 << 20) + 1, 4, 0))
    patient = FrameReader(1 << 20)
    assert patient.feed(struct.pack("<IBQ", 1 << 20, 4, 0)) == []
    assert len(patient._buffer) < 100


def test_a_slow_peer_is_bounded_and_the_rest_is_dropped() -> None:
    async def test() -> None:
        options = TcpOptions(queue_bytes_max=5000, send_seconds_max=0.2)
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def deaf(stream: SocketStream) -> None:
            async with stream:
                await stream.send(encode_frame(FrameKind.WELCOME, b"\x91\x01"))
                await anyio.sleep_forever()

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, deaf)
            transport = TcpTransport(
                2,
                cluster="kv",
                listen=("127.0.0.1", 0),
                peers={1: ("127.0.0.1", port)},
                options=options,
            )
            async with transport.running(Inbox()):
                await until(lambda: transport.metrics.connects == 1)
                transport.send(NodeId(1), [heartbeat(2, 1, n) for n in range(1000)])
                assert transport.metrics.messages_dropped > 900
                await until(lambda: transport.metrics.messages_sent > 10)
            group.cancel_scope.cancel()

    run(test)


@pytest.mark.parametrize("options", [{"queue_bytes_max": 0}, {"backoff_seconds_max": 0.01}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TcpOptions(**options)


# --- whole clusters ---


class Ports:
    """Addresses that stay the same when a node comes back."""

    def __init__(self, contexts: Sequence[ssl.SSLContext | None] = (None, None)) -> None:
        self._contexts = contexts
        self.addresses: dict[int, tuple[str, int]] = {}
        self.transports: dict[int, TcpTransport] = {}

    async def reserve(self, nodes: Sequence[int]) -> None:
        listeners = [await anyio.create_tcp_listener(local_host="127.0.0.1") for _ in nodes]
        for node, listener in zip(nodes, listeners, strict=True):
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            self.addresses[node] = ("127.0.0.1", port)
            await listener.aclose()

    def make(self, node: int) -> TcpTransport:
        self.transports[node] = TcpTransport(
            node,
            listen=self.addresses[node],
            peers=self.addresses,
            server_ssl=self._contexts[0],
            client_ssl=self._contexts[1],
        )
        return self.transports[node]


async def agree(ports: Ports, *, lose_one: bool) -> None:
    """A cluster over TCP elects, replicates, loses its leader and takes it back."""
    await ports.reserve((1, 2, 3))
    async with anyio.create_task_group() as group:
        cluster = Cluster(group, forward=True)
        cluster.make_transport = ports.make
        for node in (1, 2, 3):
            await cluster.start(node)
        leader, follower = await cluster.leader(), await cluster.follower()
        session = await follower.open_session()
        assert await session.propose(put("a", 1)) == [0, None]
        assert await follower.read("a") == 1
        if lose_one:
            await cluster.stop(leader.node_id)
            asked: RaftServer = next(iter(cluster.servers.values()))
            session = await asked.open_session()
            assert await session.propose(put("a", 2)) == [1, 1]
            again = await cluster.start(leader.node_id)
            assert await again.read("a") == 2
        group.cancel_scope.cancel()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cluster_over_tcp_loses_its_leader_and_takes_it_back(backend: str) -> None:
    run(lambda: agree(Ports(), lose_one=True), backend)


def test_a_node_joins_and_leaves_a_cluster_over_tcp() -> None:
    async def test() -> None:
        ports = Ports()
        await ports.reserve((1, 2, 3))
        async with anyio.create_task_group() as group:
            cluster = Cluster(group, forward=True)
            cluster.make_transport = ports.make
            for node in (1, 2, 3):
                await cluster.start(node)
            leader = await cluster.leader()
            await leader.propose(put("a", 1))
            known = dict(ports.transports)
            await ports.reserve((4,))
            joining = await cluster.start(4, (), join=True)
            for transport in known.values():
                transport.set_peer(4, ports.addresses[4])
            await leader.add_learner(4)
            membership = await leader.promote(4)
            assert membership.voters == (1, 2, 3, 4)
            assert await joining.read("a") == 1
            assert (await leader.remove(4)).voters == (1, 2, 3)
            for transport in known.values():
                transport.remove_peer(4)
            assert await leader.propose(put("a", 2)) == [1, 1]
            group.cancel_scope.cancel()

    run(test)


def make_contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Both ends with one certificate that both demand and trust."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=raft"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    return server, client


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cluster_over_tls(backend: str, tmp_path: Path) -> None:
    ports = Ports(make_contexts(tmp_path))
    run(lambda: agree(ports, lose_one=False), backend)
    assert all(transport.metrics.connects for transport in ports.transports.values())


def test_without_a_certificate_nobody_joins_in(tmp_path: Path) -> None:
    server_context, _ = make_contexts(tmp_path)

    async def test() -> None:
        async with listening(server_ssl=server_context) as (transport, inbox):
            two = TcpTransport(
                2, cluster="kv", listen=("127.0.0.1", 0), peers={1: ("127.0.0.1", transport.port)}
            )
            async with two.running(Inbox()):
                await anyio.sleep(0.5)
                two.send(NodeId(1), [heartbeat(2, 1)])
                assert two.metrics.messages_dropped == 1
            assert not inbox.messages

    run(test)
