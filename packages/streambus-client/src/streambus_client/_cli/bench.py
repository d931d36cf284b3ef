"""``streambus bench``: what a running cluster gives, seen from here."""

import os
import time
from typing import Annotated

import typer

from streambus_client import Admin, Consumer, Producer
from streambus_client._cli._options import DEFAULT_BROKERS, Brokers, Output, OutputOption
from streambus_client._cli._output import write_rows
from streambus_client._cli._running import say
from streambus_client._options import Acks

_COLUMN = 10_000


def bench(
    records: Annotated[int, typer.Option("--records", "-n", min=1, help="In each part.")] = 200_000,
    sends: Annotated[int, typer.Option("--sends", min=1, help="Single sends to time.")] = 2_000,
    size_bytes: Annotated[int, typer.Option("--size", "-s", min=0, help="Of a value.")] = 100,
    partitions: Annotated[int, typer.Option("--partitions", "-p", min=1, help="How many.")] = 1,
    acks: Annotated[str, typer.Option("--acks", help="0, 1 or all.")] = "1",
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
) -> None:
    """Time single sends, batched produce and consume on a topic of its own, which is then deleted.

    Latencies with acks=1 do not include a sync to disk; with acks=all they do.
    """
    if acks not in ("0", "1", "all"):
        raise typer.BadParameter(f"{acks!r} is not 0, 1 or all", param_hint="--acks")
    wanted: Acks = "all" if acks == "all" else 1 if acks == "1" else 0
    topic = f"bench-{os.getpid()}-{time.time_ns()}"
    value = os.urandom(size_bytes)
    with Admin(brokers, client_id="streambus-bench") as admin:
        admin.create_topic(topic, partitions=partitions)
        say(f"topic {topic}, {records} records of {size_bytes} bytes, acks={acks}")
        try:
            rows = [
                *_sends(brokers, topic, value, wanted, sends),
                _produce(brokers, topic, value, wanted, records),
                _consume(brokers, topic, records),
            ]
        finally:
            admin.delete_topic(topic)
    write_rows(rows, output)


def _sends(brokers: str, topic: str, value: bytes, acks: Acks, count: int) -> list[dict[str, str]]:
    times_ns = []
    with Producer(brokers, acks=acks) as producer:
        producer.send(topic, value)
        for _ in range(count):
            began = time.perf_counter_ns()
            producer.send(topic, value)
            times_ns.append(time.perf_counter_ns() - began)
    times_ns.sort()
    return [
        {"what": f"send p{percent}", "figure": f"{_at(times_ns, percent) / 1000:.1f} us"}
        for percent in (50, 99)
    ]


def _at(ascending: list[int], percent: int) -> int:
    return ascending[min(len(ascending) - 1, len(ascending) * percent // 100)]


def _produce(brokers: str, topic: str, value: bytes, acks: Acks, count: int) -> dict[str, str]:
    with Producer(brokers, acks=acks) as producer:
        producer.partition_count(topic)
        began = time.perf_counter()
        for start in range(0, count, _COLUMN):
            producer.submit_many(topic, [value] * min(_COLUMN, count - start))
        producer.flush()
        took_s = time.perf_counter() - began
    return {"what": "produce, batched", "figure": f"{count / took_s:,.0f} records/s"}


def _consume(brokers: str, topic: str, count: int) -> dict[str, str]:
    seen = 0
    with Consumer(brokers, topic, start="earliest") as consumer:
        began = time.perf_counter()
        for columns in consumer.batches(timeout=10.0):
            seen += len(columns.values)
            if seen >= count:
                break
        took_s = time.perf_counter() - began
    return {"what": "consume, batches", "figure": f"{seen / took_s:,.0f} records/s"}
