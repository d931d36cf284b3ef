"""A program as a user writes it; ``lint:check`` holds its types, a test runs it.

Every name of the front door stands here with the type that a checker gives to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

import anyio

from streambus_client import (
    Admin,
    AsyncAdmin,
    AsyncConsumer,
    AsyncProducer,
    Consumer,
    Producer,
    Record,
    RecordColumns,
    RecordMetadata,
    TopicDescription,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def blocking(address: str) -> int:
    """Use every name of the blocking front door; give the number of records read."""
    with Admin(address) as admin:
        admin.create_topic("orders", partitions=3, replication_factor=1, config={})
        topic = admin.describe_topic("orders")
        assert_type(topic, TopicDescription)
        assert_type(topic.partitions[0].leader, int)
        assert_type(topic.partitions[0].replicas, tuple[int, ...])
        assert_type(topic.partitions[0].in_sync, tuple[int, ...])
        assert_type(topic.partitions[0].earliest, int)
        assert_type(topic.partitions[0].latest, int)
        assert "orders" in [listed.name for listed in admin.list_topics()]
        assert admin.cluster().healthy
    with Producer([address], acks="all") as producer:
        meta = producer.send("orders", b"value", key=b"k", headers=[("h", b"1"), ("h", None)])
        assert_type(meta, RecordMetadata)
        assert_type((meta.partition, meta.offset, meta.timestamp_ms), tuple[int, int, int])
        future = producer.submit("orders", b"value", key=b"k")
        values: Sequence[bytes] = [b"a", b"b"]
        producer.submit_many("orders", values, keys=None)
        producer.flush()
        assert_type(future.result(), RecordMetadata)
    return _read(address)


def _read(address: str) -> int:
    read = 0
    with Consumer(address, "orders", start="earliest") as consumer:
        for record in consumer:
            assert_type(record, Record)
            assert_type((record.key, record.value), tuple[bytes | None, bytes | None])
            assert record.headers == (("h", b"1"), ("h", None)) or not record.headers
            read += 1
            break
        while records := consumer.poll(max_records=500, timeout=1.0):
            assert_type(records, list[Record])
            read += len(records)
    with Consumer(address, "orders", start="earliest") as consumer:
        for columns in consumer.batches():
            assert_type(columns, RecordColumns)
            assert len(columns.offsets) == len(columns.values) == len(columns.timestamps_ms)
            break
    return read


async def awaited(address: str) -> None:
    """Use the async front door."""
    async with AsyncAdmin(address) as admin:
        assert_type(await admin.describe_topic("orders"), TopicDescription)
        await admin.alter_topic("orders", config={"retention_ms": 1000})
    async with AsyncProducer(address, acks=1) as producer:
        assert_type(await producer.send("orders", b"x"), RecordMetadata)
        await producer.flush()
    async with AsyncConsumer(address, "orders", start="earliest") as consumer:
        async for record in consumer:
            assert_type(record, Record)
            break
    async with AsyncAdmin(address) as admin:
        await admin.delete_topic("orders")


def main(address: str) -> None:
    """Run both."""
    assert blocking(address) == 4
    anyio.run(awaited, address)
