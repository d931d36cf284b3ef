"""Records a second, batched, one producer and one consumer, against Redis Streams and JetStream.

All values are 100 bytes; everybody acknowledges what is written and not yet synced. Each contender
is used as its own documentation advises for throughput: Redis pipelined, JetStream with
asynchronous publishes and pulls of many.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

from bench.client import servers
from bench.report import Row, Sample, Target, at_least, interleave, ratio_at_least
from streambus_client import Admin, Consumer, Producer

if TYPE_CHECKING:
    from collections.abc import Callable

VALUE = b"v" * 100
_COLUMN = 10_000
_REDIS_PIPELINE = 1_000
_NATS_PULL = 1_000
_numbers = count()
_written: dict[str, str] = {}
"""Where each contender wrote last: that is what it reads."""

Contenders = dict[str, "Callable[[], float]"]


def rows(repeats: int, records: int, records_of_baselines: int) -> tuple[list[Row], list[str]]:
    """Measure; also names the baselines that are not installed."""
    missing = []
    with ExitStack() as stack:
        broker = stack.enter_context(servers.broker())
        produce: Contenders = {"ours": lambda: _produce(broker, records)}
        consume: Contenders = {"ours": lambda: _consume(broker, records)}
        if servers.redis_command():
            redis = stack.enter_context(servers.redis())
            produce["Redis Streams"] = lambda: _redis_add(redis, records_of_baselines)
            consume["Redis Streams"] = lambda: _redis_read(redis, records_of_baselines)
        else:
            missing.append("redis-server")
        if servers.nats_command():
            nats = stack.enter_context(servers.nats())
            produce["NATS JetStream"] = lambda: asyncio.run(
                _nats_publish(nats, records_of_baselines)
            )
            consume["NATS JetStream"] = lambda: asyncio.run(_nats_pull(nats, records_of_baselines))
        else:
            missing.append("nats-server")
        produced = interleave(produce, repeats=repeats)
        consumed = interleave(consume, repeats=repeats)
    made = _judge("produce, batched, acks=1", produced, at_least(1_000_000), ratio_at_least(5))
    made += _judge("consume, as columns", consumed, at_least(2_000_000), ratio_at_least(3))
    return made, missing


def _judge(what: str, samples: dict[str, Sample], absolute: Target, relative: Target) -> list[Row]:
    ours = samples["ours"]
    made = [Row(what, ours.median, "records/s", target=absolute, sample=ours)]
    others = {name: sample for name, sample in samples.items() if name != "ours"}
    best = max(others, key=lambda name: others[name].median, default=None)
    for name, sample in others.items():
        target = relative if name == best else None
        made.append(
            Row(what, ours.median, "records/s", name, sample.median, target, "", ours, sample)
        )
    return made


def _produce(broker: str, records: int) -> float:
    topic = _written["ours"] = f"throughput-{next(_numbers)}"
    values = [VALUE] * _COLUMN
    with Admin(broker) as admin:
        admin.create_topic(topic)
    with Producer(broker, acks=1) as producer:
        producer.send(topic, VALUE)
        began = time.perf_counter()
        for _ in range(records // _COLUMN):
            producer.submit_many(topic, values)
        producer.flush()
        return records / (time.perf_counter() - began)


def _consume(broker: str, records: int) -> float:
    topic = _written["ours"]
    seen = 0
    with Consumer(broker, topic, start="earliest") as consumer:
        consumer.positions()
        began = time.perf_counter()
        for columns in consumer.batches():
            seen += len(columns.values)
            if seen >= records:
                break
        return seen / (time.perf_counter() - began)


def _redis_add(address: str, records: int) -> float:
    client = _redis(address)
    client.delete("stream")
    began = time.perf_counter()
    for _ in range(records // _REDIS_PIPELINE):
        pipeline = client.pipeline(transaction=False)
        for _ in range(_REDIS_PIPELINE):
            pipeline.xadd("stream", {b"v": VALUE})
        pipeline.execute()
    took_s = time.perf_counter() - began
    client.close()
    return records / took_s


def _redis_read(address: str, records: int) -> float:
    client = _redis(address)
    position, seen = b"0", 0
    began = time.perf_counter()
    while seen < records:
        [[_, entries]] = client.xread({"stream": position}, count=_REDIS_PIPELINE)
        seen += len(entries)
        position = entries[-1][0]
    took_s = time.perf_counter() - began
    client.close()
    return seen / took_s


def _redis(address: str) -> Any:
    import redis

    host, _, port = address.partition(":")
    return redis.Redis(host, int(port), protocol=2)


async def _nats_publish(address: str, records: int) -> float:
    import nats

    connection = await nats.connect(f"nats://{address}")
    stream = connection.jetstream()
    name = _written["NATS"] = f"s{next(_numbers)}"
    await stream.add_stream(name=name, subjects=[name])
    began = time.perf_counter()
    for _ in range(records):
        await stream.publish_async(name, VALUE)
    await stream.publish_async_completed()
    took_s = time.perf_counter() - began
    await connection.close()
    return records / took_s


async def _nats_pull(address: str, records: int) -> float:
    import nats

    connection = await nats.connect(f"nats://{address}")
    stream = connection.jetstream()
    config = nats.js.api.ConsumerConfig(ack_policy=nats.js.api.AckPolicy.NONE)
    subscription = await stream.pull_subscribe(_written["NATS"], config=config)
    seen = 0
    began = time.perf_counter()
    while seen < records:
        seen += len(await subscription.fetch(_NATS_PULL, timeout=10))
    took_s = time.perf_counter() - began
    await connection.close()
    return seen / took_s
