"""Producer, consumer and admin on a real broker: every scenario on all four shells."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest

from streambus_client import RecordRange, Timestamp, TopicPartition
from streambus_client.errors import (
    ClientClosedError,
    InvalidArgumentError,
    InvalidSettingError,
    InvalidTopicError,
    OffsetOutOfRangeError,
    PartitionNotFoundError,
    RecordTooLargeError,
    TopicExistsError,
    TopicNotFoundError,
)
from tests.client.both import SHELLS, Shell, ready, run_on

pytestmark = pytest.mark.parametrize("name", SHELLS)

NewTopic = Callable[..., str]


async def drain(consumer: Any, count: int, timeout_s: float = 30.0) -> list[Any]:
    """Poll until ``count`` records came; one more look shows that no others follow."""
    records: list[Any] = []
    deadline = time.monotonic() + timeout_s
    while len(records) < count and time.monotonic() < deadline:
        records += await ready(consumer.poll(timeout=1.0))
    records += await ready(consumer.poll(timeout=0.05))
    assert len(records) == count
    return records


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_send_is_read_back_whole(name: str, acks: Any, address: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    cases: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]] | None]] = [
        (b"value", b"key", [("h", b"1"), ("h", b"2"), ("none", None), ("", b"")]),
        (b"", b"", None),
        (None, None, None),
        (b"\x00\xff\r\n" * 100, b"k" * 300, []),
        (b"x" * 70_000, None, None),
    ]

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=acks) as producer:
            for number, (value, key, headers) in enumerate(cases):
                sent = await ready(
                    producer.send(
                        topic, value, key=key, headers=headers, timestamp_ms=1000 + number
                    )
                )
                assert sent == (topic, 0, number if acks else -1, 1000 + number)
            async with shell.consumer(address, topic, start="earliest") as consumer:
                records = await drain(consumer, len(cases))
        for number, (record, (value, key, headers)) in enumerate(zip(records, cases, strict=True)):
            assert record == (topic, 0, number, 1000 + number, key, value, tuple(headers or ()))

    run_on(name, scenario)


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_submitted_records_arrive_once_and_in_order_for_each_key(
    name: str, compression: Any, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic(partitions=3)
    count = 2_000

    async def scenario(shell: Shell) -> None:
        async with shell.producer(
            address, acks=1, compression=compression, batch_bytes_max=4096, linger_ms=1
        ) as producer:
            futures = [
                await ready(producer.submit(topic, b"%d" % number, key=b"%d" % (number % 7)))
                for number in range(count)
            ]
            await ready(producer.flush())
            assert all(future.done() for future in futures)
            places = [await ready(future.result()) for future in futures]
        async with shell.consumer(address, topic, start="earliest") as consumer:
            records = await drain(consumer, count)
        assert sorted(int(record.value) for record in records) == list(range(count))
        by_key: dict[bytes, list[int]] = {}
        for record in records:
            by_key.setdefault(record.key, []).append(int(record.value))
            place = places[int(record.value)]
            assert (place.partition, place.offset) == (record.partition, record.offset)
        assert all(values == sorted(values) for values in by_key.values())
        assert len({record.partition for record in records}) == 3

    run_on(name, scenario)


def test_columns_are_submitted_and_come_back_as_columns(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic()
    values = [b"%d" % number for number in range(10_000)]

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=1, batch_bytes_max=20_000) as producer:
            future = await ready(producer.submit_many(topic, values, timestamp_ms=77))
            runs: list[RecordRange] = await ready(future.result())
            assert next(run.first_offset for run in runs) == 0
            assert sum(run.record_count for run in runs) == len(values)
            for before, after in itertools.pairwise(runs):
                assert after.first_offset == before.first_offset + before.record_count
        seen: list[bytes] = []
        async with (
            shell.consumer(address, topic, start="earliest") as consumer,
            aclosing(shell.iterate(consumer.batches(timeout=0.5))) as batches,
        ):
            async for columns in batches:
                assert list(columns.offsets) == list(
                    range(len(seen), len(seen) + len(columns.values))
                )
                assert set(columns.timestamps_ms) == {77}
                assert set(columns.keys) == {None}
                seen += columns.values
        assert seen == values

    run_on(name, scenario)


def test_keyed_columns_keep_keys_together_and_spread_them(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic(partitions=4)
    keys = [b"%d" % (number % 50) for number in range(5_000)]
    values = [b"%d" % number for number in range(5_000)]

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=1, partitioner="murmur2") as producer:
            await ready(producer.submit_many(topic, values, keys))
            single = await ready(producer.submit(topic, b"last", key=b"7"))
            place = await ready(single.result())
        async with shell.consumer(address, topic, start="earliest") as consumer:
            records = await drain(consumer, 5_001)
        homes: dict[bytes, set[int]] = {}
        for record in records:
            homes.setdefault(record.key, set()).add(record.partition)
        assert all(len(home) == 1 for home in homes.values())
        assert homes[b"7"] == {place.partition}
        assert len(Counter(record.partition for record in records)) == 4

    run_on(name, scenario)


def test_send_goes_behind_what_was_submitted_before(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=1, linger_ms=20) as producer:
            for number in range(20):
                await ready(producer.submit(topic, b"s%d" % number))
                if number % 5 == 4:
                    sent = await ready(producer.send(topic, b"w%d" % number))
                    assert sent.offset == number + (number + 1) // 5

    run_on(name, scenario)


def test_starts_seeks_and_positions(name: str, address: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    where = TopicPartition(topic, 0)

    async def first_of(shell: Shell, start: Any) -> int:
        async with shell.consumer(address, topic, start=start) as consumer:
            return int((await ready(consumer.poll(max_records=1)))[0].offset)

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=1) as producer:
            for number in range(10):
                await ready(producer.send(topic, b"%d" % number, timestamp_ms=1000 * number))
            assert await first_of(shell, "earliest") == 0
            assert await first_of(shell, 4) == 4
            assert await first_of(shell, Timestamp(5500)) == 6
            assert await first_of(shell, datetime.fromtimestamp(7, tz=UTC)) == 7
            async with shell.consumer(address, topic, start="latest") as consumer:
                assert await ready(consumer.positions()) == {where: 10}
                assert await ready(consumer.earliest()) == {where: 0}
                assert await ready(consumer.latest()) == {where: 10}
                assert await ready(consumer.offsets_at(Timestamp(3001))) == {where: 4}
                assert await ready(consumer.offsets_at(Timestamp(99_000))) == {where: 10}
                await ready(producer.send(topic, b"new"))
                assert [record.value for record in await drain(consumer, 1)] == [b"new"]
                await ready(consumer.seek(topic, 0, 8))
                assert await ready(consumer.positions()) == {where: 8}
                assert [record.offset for record in await drain(consumer, 3)] == [8, 9, 10]
                await ready(consumer.seek(topic, 0, "earliest"))
                assert len(await ready(consumer.poll(max_records=2))) == 2
                assert await ready(consumer.positions()) == {where: 2}

    run_on(name, scenario)


def test_iteration_loses_nothing_when_it_is_left_and_taken_up(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=1) as producer:
            await ready(producer.submit_many(topic, [b"%d" % number for number in range(100)]))
            await ready(producer.flush())
        async with shell.consumer(address, topic, start="earliest") as consumer:
            seen: list[int] = []
            while len(seen) < 40:
                async with aclosing(shell.iterate(consumer)) as records:
                    async for record in records:
                        seen.append(record.offset)
                        assert await ready(consumer.positions()) == {
                            TopicPartition(topic, 0): record.offset + 1
                        }
                        if len(seen) % 10 == 0:
                            break
            seen += [record.offset for record in await ready(consumer.poll(max_records=7))]
            async with aclosing(shell.iterate(consumer.batches())) as batches:
                async for columns in batches:
                    seen += columns.offsets
                    break
            assert seen == list(range(100))

    run_on(name, scenario)


def test_paused_partition_rests_and_goes_on(name: str, address: str, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=2)

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=1) as producer:
            for number in range(6):
                await ready(producer.send(topic, b"%d" % number, partition=number % 2))
        async with shell.consumer(address, topic, start="earliest") as consumer:
            await ready(consumer.pause((topic, 1)))
            assert {record.partition for record in await drain(consumer, 3)} == {0}
            await ready(consumer.resume((topic, 1)))
            assert {record.partition for record in await drain(consumer, 3)} == {1}
            await ready(consumer.seek(topic, 0, 0))
            await ready(consumer.pause())
            assert await ready(consumer.poll(timeout=0.1)) == []
            await ready(consumer.resume())
            assert len(await drain(consumer, 3)) == 3

    run_on(name, scenario)


def test_assignment_of_single_partitions(name: str, address: str, new_topic: NewTopic) -> None:
    first, second = new_topic(partitions=3), new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=1) as producer:
            for number in range(3):
                await ready(producer.send(first, b"%d" % number, partition=number))
            await ready(producer.send(second, b"other"))
        async with shell.consumer(address, start="earliest") as consumer:
            consumer.assign([(first, 2), (second, 0)])
            values = {record.value for record in await drain(consumer, 2)}
            assert values == {b"2", b"other"}
            assert sorted(consumer.assignment()) == sorted([(first, 2), (second, 0)])
            consumer.subscribe([first])
            assert len(await drain(consumer, 2)) == 2, "partition 2 goes on where it was"
            with pytest.raises(InvalidArgumentError, match="not assigned"):
                await ready(consumer.seek(second, 0, 0))

    run_on(name, scenario)


def test_partitions_added_later_are_read_from_their_beginning(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.admin(address) as admin, shell.producer(address, acks=1) as producer:
            async with shell.consumer(address, topic, metadata_age_ms_max=100) as consumer:
                assert await ready(consumer.positions()) == {TopicPartition(topic, 0): 0}
                await ready(admin.alter_topic(topic, partitions=2))
                async with shell.producer(address, acks=1) as fresh:
                    sent = await ready(fresh.send(topic, b"early", partition=1))
                    assert sent.offset == 0
                assert (await drain(consumer, 1))[0].value == b"early"
            assert await ready(producer.partition_count(topic)) == 2

    run_on(name, scenario)


def test_topics_live_from_creation_to_deletion(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.admin(address) as admin:
            with pytest.raises(TopicExistsError, match=topic):
                await ready(admin.create_topic(topic))
            await ready(admin.create_topic(topic + "x", validate_only=True))
            assert topic + "x" not in {one.name for one in await ready(admin.list_topics())}
            await ready(
                admin.create_topic(
                    topic + "x", partitions=3, replication_factor=1, config={"retention_ms": 5000}
                )
            )
            described = await ready(admin.describe_topic(topic + "x"))
            assert [one.partition for one in described.partitions] == [0, 1, 2]
            assert {one.leader for one in described.partitions} == {described.partitions[0].leader}
            assert described.config["retention_ms"] == "5000"
            assert described.config_sources["retention_ms"] == "topic"
            assert described.partitions[0].earliest == described.partitions[0].latest == 0
            await ready(admin.alter_topic(topic + "x", config={"retention_ms": None}))
            described = await ready(admin.describe_topic(topic + "x"))
            assert described.config_sources["retention_ms"] == "default"
            offsets = await ready(admin.offsets(topic + "x", time=Timestamp(0)))
            assert [(one.earliest, one.latest, one.at_time) for one in offsets] == [(0, 0, 0)] * 3
            listed = {one.name: one.partition_count for one in await ready(admin.list_topics())}
            assert listed[topic + "x"] == 3
            await ready(admin.delete_topic(topic + "x"))
            with pytest.raises(TopicNotFoundError, match=topic + "x"):
                await ready(admin.describe_topic(topic + "x"))
            cluster = await ready(admin.cluster())
            assert cluster.healthy
            assert cluster.controller in {one.node_id for one in cluster.brokers}
            [health] = await ready(admin.health())
            assert health.live
            assert health.ready
            assert health.components

    run_on(name, scenario)


def test_wrong_requests_are_named(name: str, address: str, new_topic: NewTopic) -> None:
    topic = new_topic(max_message_bytes=2000)

    async def scenario(shell: Shell) -> None:
        async with shell.admin(address) as admin:
            with pytest.raises(InvalidTopicError):
                await ready(admin.create_topic("no/slash"))
            with pytest.raises(InvalidTopicError):
                await ready(admin.create_topic("few", partitions=0))
            with pytest.raises(InvalidTopicError):
                await ready(admin.create_topic("many", replication_factor=3))
            with pytest.raises(InvalidSettingError, match="bogus"):
                await ready(admin.create_topic("set", config={"bogus": 1}))
            with pytest.raises(TopicNotFoundError):
                await ready(admin.delete_topic("nowhere"))
        async with shell.producer(address, acks=1) as producer:
            with pytest.raises(TopicNotFoundError, match="nowhere"):
                await ready(producer.send("nowhere", b""))
            with pytest.raises(TopicNotFoundError):
                await ready(producer.submit("nowhere", b""))
            with pytest.raises(PartitionNotFoundError, match="0 to 0"):
                await ready(producer.send(topic, b"", partition=1))
            with pytest.raises(InvalidArgumentError, match="value is str"):
                await ready(producer.send(topic, "text"))
            with pytest.raises(InvalidArgumentError, match=r"values\[1\]"):
                await ready(producer.submit_many(topic, [b"", 1]))
            with pytest.raises(InvalidArgumentError, match="1 entries beside 2"):
                await ready(producer.submit_many(topic, [b"", b""], [b""]))
            for keys in (None, [b"k", b"k"]):
                with pytest.raises(RecordTooLargeError, match="split it"):
                    await ready(producer.submit_many(topic, [b"", b"x" * (17 << 20)], keys))
            with pytest.raises(InvalidArgumentError, match="headers"):
                await ready(producer.send(topic, b"", headers=[("h", 1)]))
            with pytest.raises(RecordTooLargeError):
                await ready(producer.send(topic, b"x" * 3000))
            with pytest.raises(RecordTooLargeError, match="split it"):
                await ready(producer.send(topic, b"x" * (17 << 20)))
            future = await ready(producer.submit(topic, b"x" * 3000))
            with pytest.raises(RecordTooLargeError):
                await ready(future.result())
            assert (await ready(producer.send(topic, b"fine"))).offset == 0
        async with shell.consumer(address, "nowhere") as consumer:
            with pytest.raises(TopicNotFoundError, match="nowhere"):
                await ready(consumer.poll(timeout=30.0))
        async with shell.consumer(address) as consumer:
            consumer.assign([(topic, 7)])
            with pytest.raises(PartitionNotFoundError, match="0 to 0"):
                await ready(consumer.poll(timeout=30.0))

    run_on(name, scenario)


def test_offset_outside_of_the_log(name: str, address: str, new_topic: NewTopic) -> None:
    topic = new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=1) as producer:
            await ready(producer.send(topic, b"only"))
        async with shell.consumer(address, topic, start=50) as consumer:
            with pytest.raises(OffsetOutOfRangeError, match="offset 50"):
                await ready(consumer.poll(timeout=30.0))
            await ready(consumer.seek(topic, 0, 0))
            assert (await drain(consumer, 1))[0].value == b"only"
        async with shell.consumer(address, topic, start=50, out_of_range="earliest") as consumer:
            assert (await drain(consumer, 1))[0].value == b"only"

    run_on(name, scenario)


def test_failure_that_no_future_was_asked_about_is_raised_by_flush(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic(max_message_bytes=2000)

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address, acks=1) as producer:
            await ready(producer.submit(topic, b"x" * 3000))
            with pytest.raises(RecordTooLargeError):
                await ready(producer.flush())
            await ready(producer.flush())
        with pytest.raises(RecordTooLargeError):
            async with shell.producer(address, acks=1) as producer:
                await ready(producer.submit(topic, b"x" * 3000))

    run_on(name, scenario)


def test_small_buffer_makes_submit_wait_and_never_fail(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(
            address, acks=1, batch_bytes_max=500, buffer_bytes_max=1000, linger_ms=0
        ) as producer:
            for number in range(300):
                await ready(producer.submit(topic, b"%d" % number))
            await ready(producer.submit_many(topic, [b"%d" % n for n in range(300, 600)]))
        async with shell.consumer(address, topic, start="earliest") as consumer:
            records = await drain(consumer, 600)
        assert [int(record.value) for record in records] == list(range(600))

    run_on(name, scenario)


def test_closed_client_says_so(name: str, address: str, new_topic: NewTopic) -> None:
    topic = new_topic()

    async def scenario(shell: Shell) -> None:
        async with shell.producer(address) as producer:
            await ready(producer.send(topic, b"1"))
            await ready(producer.close())
            await ready(producer.close())
            for call in (producer.send, producer.submit):
                with pytest.raises(ClientClosedError):
                    await ready(call(topic, b"2"))
        async with shell.consumer(address, topic) as consumer:
            await ready(consumer.close())
            with pytest.raises(ClientClosedError):
                await ready(consumer.poll())
        async with shell.admin(address) as admin:
            await ready(admin.close())
            with pytest.raises(ClientClosedError):
                await ready(admin.list_topics())

    run_on(name, scenario)


def test_block_left_by_an_error_still_delivers(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic()

    async def scenario(shell: Shell) -> None:
        futures = []

        async def leave_by_an_error() -> None:
            async with shell.producer(address, acks=1, linger_ms=10_000) as producer:
                futures.append(await ready(producer.submit(topic, b"1")))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await leave_by_an_error()
        [future] = futures
        assert (await ready(future.result())).offset == 0

    run_on(name, scenario)


def test_done_callback_is_called_with_the_future(
    name: str, address: str, new_topic: NewTopic
) -> None:
    topic = new_topic()

    def bad(_: object) -> None:
        raise ZeroDivisionError

    async def scenario(shell: Shell) -> None:
        called: list[Any] = []
        async with shell.producer(address, acks=1) as producer:
            future = await ready(producer.submit(topic, b"1"))
            future.add_done_callback(bad)
            future.add_done_callback(called.append)
            await ready(producer.flush())
            assert (await ready((await ready(producer.submit(topic, b"2"))).result())).offset == 1
        assert called == [future]
        future.add_done_callback(called.append)
        assert called == [future, future]

    run_on(name, scenario)
