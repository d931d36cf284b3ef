from __future__ import annotations

import struct
import time
from random import Random
from typing import TYPE_CHECKING

import pytest

from streambus_broker import BrokerError
from streambus_broker.embedded import EmbeddedBroker
from streambus_broker.errors import AddressInUseError, DataDirectoryError
from streambus_protocol import (
    ErrorCode,
    FetchPartition,
    FetchRequest,
    HandshakeRequest,
    HealthRequest,
    MetadataRequest,
    ProducePartition,
    ProduceRequest,
    encode_batch,
    encode_frame,
)
from tests.broker.conftest import config_for, wait_until
from tests.broker.raw import RawClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def counters(broker: EmbeddedBroker) -> dict[str, int]:
    running = broker.broker
    assert running is not None
    return running.node.server.closed_for


def lives(broker: EmbeddedBroker) -> bool:
    with RawClient(broker.address) as client:
        return bool(client.call(HealthRequest()).live)


# --- requests ------------------------------------------------------------------------------------


def test_unknown_topics_and_partitions_are_named(client: RawClient) -> None:
    client.create_topic("t", 2)
    unknown = client.produce("absent", b"v")
    assert unknown.error == ErrorCode.UNKNOWN_TOPIC
    assert "absent" in unknown.detail
    for partition in (2, -1):
        beyond = client.produce("t", b"v", partition=partition)
        assert beyond.error == ErrorCode.UNKNOWN_PARTITION
        assert "0 to 1" in beyond.detail
        assert client.fetch("t", 0, partition=partition).error == ErrorCode.UNKNOWN_PARTITION
    assert client.fetch("absent", 0).error == ErrorCode.UNKNOWN_TOPIC


def test_offsets_outside_the_log_are_refused(client: RawClient) -> None:
    client.create_topic("t")
    client.produce("t", b"v")
    for offset in (2, -1, 2**62, -(2**63)):
        assert client.fetch("t", offset).error == ErrorCode.OFFSET_OUT_OF_RANGE


def test_a_bad_batch_is_refused_and_its_neighbours_are_not(client: RawClient) -> None:
    client.create_topic("t", 4, max_message_bytes="2KiB")
    good = encode_batch([b"v"], base_timestamp_ms=1)
    flipped = good[:-1] + bytes([good[-1] ^ 1])
    large = encode_batch([b"v" * 4000], base_timestamp_ms=1)
    old_magic = good[:24] + b"\x63" + good[25:]
    bad_codec = good[:25] + b"\x63" + good[26:]
    batches = (good, flipped, large, old_magic, bad_codec, b"", good + b"x", good)
    partitions = tuple(ProducePartition("t", 0, batch) for batch in batches)
    results = client.call(ProduceRequest(1, 1000, partitions)).partitions
    assert [one.error for one in results] == [
        0,
        ErrorCode.CORRUPT_BATCH,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.UNSUPPORTED_CODEC,
        ErrorCode.CORRUPT_BATCH,
        ErrorCode.CORRUPT_BATCH,
        0,
    ]
    assert [one.base_offset for one in results] == [0, -1, -1, -1, -1, -1, -1, 1]
    assert all(one.detail for one in results if one.error)


def test_acks_must_be_known(client: RawClient) -> None:
    answer = client.call(ProduceRequest(7, 1000, ()))
    assert answer.error == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (encode_frame(999, 0, 0, 5, b""), ErrorCode.UNSUPPORTED_API),
        (encode_frame(2, 99, 0, 5, b""), ErrorCode.UNSUPPORTED_VERSION),
        (encode_frame(2, 0, 0, 5, b"\xc1garbage"), ErrorCode.MALFORMED_REQUEST),
        (encode_frame(2, 0, 0, 5, b""), ErrorCode.MALFORMED_REQUEST),
        (encode_frame(1, 0, 4, 5, b"short"), ErrorCode.MALFORMED_REQUEST),
        (encode_frame(1, 0, 1, 5, b""), ErrorCode.MALFORMED_REQUEST),
    ],
)
def test_a_bad_request_is_answered_and_the_connection_lives(
    client: RawClient, frame: bytes, code: ErrorCode
) -> None:
    client.socket.sendall(frame)
    answer = client.receive_frame()
    assert answer.correlation_id == 5
    assert code.to_bytes(1, "big") in answer.body
    assert client.call(MetadataRequest(None)).topics == ()


# --- connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 100,
        b"\0" * 100,
        struct.pack(">I", 2**31),
        encode_frame(1, 0, 0, 1, b""),  # anything before the handshake
        struct.pack(">IHBBI", 64 * 1024 + 1, 0, 0, 0, 1),  # too much before it
        encode_frame(0, 0, 0x80, 1, b""),  # reserved flags
    ],
)
def test_garbage_closes_the_connection_and_is_counted(broker: EmbeddedBroker, sent: bytes) -> None:
    with RawClient(broker.address, handshake=False) as client:
        client.socket.sendall(sent)
        assert client.is_closed()
    assert counters(broker) == {"garbage": 1}
    assert lives(broker)


def test_random_garbage_never_stops_the_broker(broker: EmbeddedBroker) -> None:
    seed = 7_2024
    random = Random(seed)
    for _ in range(100):
        with RawClient(broker.address, handshake=random.random() < 0.5) as client:
            piece = random.randbytes(random.randint(1, 300))
            if random.random() < 0.5:
                piece = encode_frame(random.randrange(12), 0, 0, 1, piece)
            client.socket.sendall(piece)
    assert lives(broker), seed
    assert broker.broker is not None
    assert broker.broker.node.server.unexpected_errors == 0, seed


def test_a_large_frame_is_fine_after_the_handshake_and_too_large_is_not(
    broker: EmbeddedBroker, client: RawClient
) -> None:
    client.create_topic("t", 1, max_message_bytes="15MiB")
    assert client.produce("t", b"x" * (14 << 20)).error == 0
    assert len(client.fetch("t", 0, size=1).batches) > 14 << 20
    client.socket.sendall(struct.pack(">IHBBI", (16 << 20) + 1, 2, 0, 0, 1))
    assert client.is_closed()
    assert counters(broker) == {"garbage": 1}


@pytest.mark.parametrize(
    ("setting", "begin", "reason"),
    [
        ("handshake_timeout_ms", b"", "handshake_timeout"),
        ("frame_timeout_ms", b"\0\0", "frame_timeout"),
        ("idle_timeout_ms", b"", "idle_timeout"),
    ],
)
def test_a_silent_connection_is_closed_in_time(
    tmp_path: Path, setting: str, begin: bytes, reason: str
) -> None:
    config = config_for(tmp_path, **{setting: 1000})
    with EmbeddedBroker(config) as broker:
        handshake = reason != "handshake_timeout"
        with RawClient(broker.address, handshake=handshake) as client:
            client.socket.sendall(begin)
            assert client.is_closed()
        assert counters(broker) == {reason: 1}


def test_a_waiting_fetch_is_not_idle(tmp_path: Path) -> None:
    config = config_for(tmp_path, idle_timeout_ms=1000)
    with EmbeddedBroker(config) as broker, RawClient(broker.address) as client:
        client.create_topic("t")
        began_s = time.monotonic()
        assert client.fetch("t", 0, wait_ms=2500).error == 0
        assert time.monotonic() - began_s > 2


def test_too_many_connections_are_turned_away(tmp_path: Path) -> None:
    config = config_for(tmp_path, connections_per_address_max=3)
    with EmbeddedBroker(config) as broker:
        clients = [RawClient(broker.address) for _ in range(3)]
        with RawClient(broker.address, handshake=False) as fourth:
            assert fourth.is_closed()
        clients.pop().socket.close()
        assert broker.broker is not None
        server = broker.broker.node.server
        wait_until(lambda: len(server.connections) == 2)
        assert server.refused == {"connections_per_address_max": 1}
        clients[0].call(HealthRequest())
        for client in clients:
            client.socket.close()


def test_a_client_that_does_not_read_holds_up_nobody_but_itself(tmp_path: Path) -> None:
    config = config_for(tmp_path, queued_bytes_per_connection_max=256 * 1024)
    with (
        EmbeddedBroker(config) as broker,
        RawClient(broker.address) as honest,
        RawClient(broker.address) as greedy,
    ):
        honest.create_topic("t")
        for _ in range(8):
            honest.produce("t", b"x" * 500_000)
        wanted = (FetchPartition("t", 0, 0, -1, 1 << 22),)
        request = greedy.encode(FetchRequest(0, 1, 1 << 22, wanted))
        greedy.socket.sendall(request * 200)  # asks for 800 MB and reads none of it
        assert broker.broker is not None
        server = broker.broker.node.server
        wait_until(lambda: server.reading_paused > 0)
        assert honest.produce("t", b"y").error == 0
        # One answer of 4 MB may be on its way; further ones wait for the client.
        queued = [one.transport.get_write_buffer_size() for one in server.connections]
        assert max(queued) < 12 << 20
        for _ in range(200):
            assert len(greedy.receive().partitions[0].batches) > 3_500_000


def test_unfinished_frames_keep_to_the_budget(tmp_path: Path) -> None:
    config = config_for(tmp_path, queued_bytes_max=1 << 20, frame_timeout_ms=1000)
    with EmbeddedBroker(config) as broker:
        hogs = [RawClient(broker.address) for _ in range(4)]
        for hog in hogs:
            hog.socket.setblocking(False)
            head = struct.pack(">IHBBI", 8 << 20, 2, 0, 0, 1)
            try:
                hog.socket.sendall(head + b"x" * (4 << 20))
            except BlockingIOError:
                continue
        assert broker.broker is not None
        server = broker.broker.node.server
        wait_until(lambda: server.reading_paused > 0)
        assert server.held_bytes < 4 << 20
        wait_until(lambda: server.closed_for.get("frame_timeout") == 4)
        wait_until(lambda: server.held_bytes == 0)
        assert lives(broker)
        for hog in hogs:
            hog.socket.close()


# --- starting ------------------------------------------------------------------------------------


def refused(config_path: Path, **settings: object) -> BrokerError:
    with pytest.raises(BrokerError) as caught:
        EmbeddedBroker(config_for(config_path, **settings)).start()
    return caught.value


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with EmbeddedBroker(config_for(tmp_path / "d")):
        error = refused(tmp_path / "d")
    assert isinstance(error, DataDirectoryError)
    assert "in use" in str(error)
    assert str(tmp_path) in str(error)


@pytest.mark.parametrize("setting", ["listen", "http"])
def test_a_port_in_use_is_refused(tmp_path: Path, setting: str) -> None:
    with EmbeddedBroker(config_for(tmp_path / "one")) as broker:
        error = refused(tmp_path / "two", **{setting: broker.address})
        assert isinstance(error, AddressInUseError)
        assert error.address == broker.address
        assert f"--{setting}" in str(error)
        assert lives(broker)
    with EmbeddedBroker(config_for(tmp_path / "two")) as broker:
        assert lives(broker)  # nothing was left locked


def test_a_damaged_directory_is_refused(tmp_path: Path) -> None:
    with EmbeddedBroker(config_for(tmp_path)) as broker, RawClient(broker.address) as client:
        client.create_topic("t")
        for number in range(100):
            client.produce("t", b"%d" % number * 100, acks=-1)
    [log] = [path for path in (tmp_path / "data").iterdir() if path.stat().st_size > 9_000]
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    error = refused(tmp_path)
    assert isinstance(error, DataDirectoryError)
    assert "damaged" in str(error)
    assert log.name in str(error)


def test_an_unknown_format_is_refused(
    tmp_path: Path, change_format: Callable[[Path], None]
) -> None:
    with EmbeddedBroker(config_for(tmp_path)):
        pass
    change_format(tmp_path / "meta")
    error = refused(tmp_path)
    assert isinstance(error, DataDirectoryError)
    assert "format version 99" in str(error)


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    error = refused(tmp_path / "file" / "data")
    assert isinstance(error, DataDirectoryError)
    assert "choose another directory" in str(error)


def test_a_wrong_handshake_body_is_answered(broker: EmbeddedBroker) -> None:
    with RawClient(broker.address, handshake=False) as client:
        client.socket.sendall(encode_frame(0, 0, 0, 9, b"\x91\x01"))
        assert client.receive().error == ErrorCode.MALFORMED_REQUEST
        assert client.call(HandshakeRequest("raw", "0", None)).error == 0
