"""Round trips: ``send`` and fetch of one record, against a blocking TCP echo of the same sizes."""

from __future__ import annotations

import socket
import statistics
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from bench.client import servers
from bench.report import Row, Sample, at_most, compare, interleave, ratio_at_most
from streambus_client import Admin, Consumer, Producer
from streambus_protocol import (
    APIS,
    ApiKey,
    FetchedPartition,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    ProducedPartition,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    encode_batch,
    encode_message,
)

if TYPE_CHECKING:
    from collections.abc import Callable

VALUE = b"v" * 100
TOPIC = "latency"

_HEADER_BYTES = 12
_OFFSET = 5000  # as wide on the wire as the offsets that are measured


def _sizes() -> tuple[tuple[int, int], tuple[int, int]]:
    """Bytes of question and answer on the wire, of a send and of a fetch."""

    def frame(key: ApiKey, message: tuple[object, ...]) -> int:
        return _HEADER_BYTES + len(encode_message(message, APIS[key].version_max))

    batch = encode_batch((VALUE,), base_timestamp_ms=0)
    send = ProduceRequest(1, 30_000, (ProducePartition(TOPIC, 0, batch),))
    sent = ProduceResponse(0, (ProducedPartition(0, None, _OFFSET, -1, 0),))
    fetch = FetchRequest(500, 1, 1, (FetchPartition(TOPIC, 0, _OFFSET, 1, 1),))
    fetched = FetchResponse(0, (FetchedPartition(0, None, _OFFSET, 0, batch),))
    return (
        (frame(ApiKey.PRODUCE, send), frame(ApiKey.PRODUCE, sent)),
        (frame(ApiKey.FETCH, fetch), frame(ApiKey.FETCH, fetched)),
    )


SEND_BYTES, FETCH_BYTES = _sizes()


def rows(repeats: int, count: int) -> list[Row]:
    """Measure on both cores and on one."""
    measured = _rows("both cores", repeats, count, send_limit=1.15)
    with servers.one_core():
        return measured + _rows(
            "one core", repeats, count, send_limit=1.8, send_us=25, fetch_limit=1.65, fetch_us=22
        )


def _rows(
    where: str,
    repeats: int,
    count: int,
    *,
    send_limit: float,
    send_us: float | None = None,
    fetch_limit: float | None = None,
    fetch_us: float | None = None,
) -> list[Row]:
    with ExitStack() as stack:
        broker = stack.enter_context(servers.broker())
        admin = stack.enter_context(Admin(broker))
        admin.create_topic(TOPIC)
        producer = stack.enter_context(Producer(broker, acks=1))
        producer.send(TOPIC, VALUE)
        reader = stack.enter_context(
            Consumer(
                broker,
                TOPIC,
                start=0,
                prefetch_bytes_max=0,
                fetch_bytes_max=1,
                partition_bytes_max=1,
            )
        )
        reader.poll(1)
        sends = stack.enter_context(servers.echo(*SEND_BYTES))
        fetches = stack.enter_context(servers.echo(*FETCH_BYTES))

        def fetch() -> None:
            assert len(reader.poll(1)) == 1

        send_times = interleave(
            {
                "echo": lambda: _echo_us(sends, *SEND_BYTES, count),
                "send": lambda: _median_us(lambda: producer.send(TOPIC, VALUE), count),
            },
            repeats=repeats,
            warm_up=True,
        )
        fetch_times = interleave(
            {
                "echo": lambda: _echo_us(fetches, *FETCH_BYTES, count),
                "fetch": lambda: _median_us(fetch, count),
            },
            repeats=repeats,
        )
    made = _against_echo(where, send_times, fetch_times, send_limit, fetch_limit)
    if send_us is not None and fetch_us is not None:
        send, fetched = send_times["send"], fetch_times["fetch"]
        made += [
            Row(f"send acks=1, {where}", send.median, "µs", target=at_most(send_us), sample=send),
            Row(
                f"fetch one ready record, {where}",
                fetched.median,
                "µs",
                target=at_most(fetch_us),
                sample=fetched,
            ),
        ]
    return made


def _against_echo(
    where: str,
    send_times: dict[str, Sample],
    fetch_times: dict[str, Sample],
    send_limit: float,
    fetch_limit: float | None,
) -> list[Row]:
    return [
        compare(
            f"send acks=1, {where}",
            send_times,
            "µs",
            ours="send",
            baseline="echo",
            target=ratio_at_most(send_limit),
            note="p50; written by the leader, not synced",
        ),
        compare(
            f"fetch one ready record, {where}",
            fetch_times,
            "µs",
            ours="fetch",
            baseline="echo",
            target=None if fetch_limit is None else ratio_at_most(fetch_limit),
            note="p50",
        ),
    ]


def _median_us(call: Callable[[], object], count: int) -> float:
    times = []
    clock = time.perf_counter_ns
    for _ in range(count):
        began = clock()
        call()
        times.append(clock() - began)
    return statistics.median(times) / 1000


def _echo_us(address: str, question_bytes: int, answer_bytes: int, count: int) -> float:
    host, _, port = address.partition(":")
    question = b"q" * question_bytes
    with socket.create_connection((host, int(port))) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> None:
            peer.sendall(question)
            left = answer_bytes
            while left:
                left -= len(peer.recv(65536))

        return _median_us(ask, count)
