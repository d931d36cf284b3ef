"""A client that speaks frames and nothing else: what it sends may be wrong on purpose."""

from __future__ import annotations

import socket
from typing import Any, Self

from streambus_protocol import (
    APIS,
    CreateTopicsRequest,
    ErrorResponse,
    FetchPartition,
    FetchRequest,
    Frame,
    FrameDecoder,
    FrameFlags,
    HandshakeRequest,
    NewTopic,
    ProducePartition,
    ProduceRequest,
    api_of,
    decode_message,
    encode_batch,
    encode_frame,
    encode_message,
)


class RawClient:
    """One blocking connection."""

    def __init__(self, address: str, *, handshake: bool = True, timeout_s: float = 20.0) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._decoder = FrameDecoder()
        self._frames: list[Frame] = []
        self._correlation_id = 0
        if handshake:
            self.handshake = self.call(HandshakeRequest("raw", "0", None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def encode(self, request: tuple[Any, ...], version: int = 0) -> bytes:
        self._correlation_id += 1
        api = api_of(type(request))
        body = encode_message(request, version)
        return encode_frame(api.key, version, 0, self._correlation_id, body)

    def send(self, request: tuple[Any, ...], version: int = 0) -> int:
        self.socket.sendall(self.encode(request, version))
        return self._correlation_id

    def receive_frame(self) -> Frame:
        while not self._frames:
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionResetError("closed by the broker")
            self._frames += self._decoder.receive(data)
        return self._frames.pop(0)

    def receive(self) -> Any:
        frame = self.receive_frame()
        kind: Any = APIS[frame.api].response
        if frame.flags & FrameFlags.ERROR:
            kind = ErrorResponse
        return decode_message(kind, frame.body, frame.version)

    def call(self, request: tuple[Any, ...], version: int = 0) -> Any:
        self.send(request, version)
        return self.receive()

    def create_topic(self, name: str, partitions: int = 1, **config: str) -> Any:
        response = self.call(
            CreateTopicsRequest((NewTopic(name, partitions, -1, config),), 20_000, False)
        )
        return response.topics[0]

    def produce(self, topic: str, *values: bytes, partition: int = 0, acks: int = 1) -> Any:
        batch = encode_batch(list(values), base_timestamp_ms=1_000)
        return self.produce_batch(topic, batch, partition=partition, acks=acks)

    def produce_batch(self, topic: str, batch: bytes, *, partition: int = 0, acks: int = 1) -> Any:
        request = ProduceRequest(acks, 1000, (ProducePartition(topic, partition, batch),))
        if acks == 0:
            return self.send(request)
        return self.call(request).partitions[0]

    def fetch(
        self, topic: str, offset: int, *, partition: int = 0, wait_ms: int = 0, size: int = 1 << 20
    ) -> Any:
        wanted = FetchPartition(topic, partition, offset, -1, size)
        return self.call(FetchRequest(wait_ms, 1, 16 << 20, (wanted,))).partitions[0]

    def is_closed(self) -> bool:
        """Whether the broker closes the connection, now or within the time limit."""
        try:
            return not self.socket.recv(1 << 16)
        except ConnectionResetError:
            return True
