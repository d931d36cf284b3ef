from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from streambus_broker.embedded import EmbeddedBroker
from streambus_protocol import (
    EARLIEST,
    LATEST,
    MAX_TIMESTAMP,
    AlterTopicsRequest,
    DeleteTopicsRequest,
    DescribeTopicsRequest,
    ErrorCode,
    FetchPartition,
    FetchRequest,
    HandshakeRequest,
    HealthRequest,
    ListOffsetsRequest,
    MetadataRequest,
    OffsetQuery,
    ProducePartition,
    ProduceRequest,
    TopicAlteration,
    decode_columns,
    encode_batch,
    iterate_batches,
)
from tests.broker.conftest import config_for, wait_until
from tests.broker.raw import RawClient

if TYPE_CHECKING:
    from pathlib import Path


def values_of(batches: bytes) -> list[bytes | None]:
    return [value for _, one in iterate_batches(batches) for value in decode_columns(one).values]


def test_a_handshake_tells_who_the_broker_is(broker: EmbeddedBroker) -> None:
    with RawClient(broker.address) as client:
        assert client.handshake.error == 0
        cluster_id = client.handshake.cluster_id
    with RawClient(broker.address, handshake=False) as client:
        wrong = client.call(HandshakeRequest("raw", "0", "another"))
        assert wrong.error == ErrorCode.WRONG_CLUSTER
        right = client.call(HandshakeRequest("raw", "0", cluster_id))
        assert right.error == 0


def test_topics_are_created_listed_described_altered_and_deleted(client: RawClient) -> None:
    assert client.create_topic("orders", 3, retention_ms="7d").error == 0
    assert client.create_topic("orders").error == ErrorCode.TOPIC_EXISTS
    assert client.create_topic("no/good").error == ErrorCode.INVALID_TOPIC_NAME
    wrong = client.create_topic("x", 1, foo="1")
    assert wrong.error == ErrorCode.INVALID_CONFIG
    assert "foo" in wrong.detail
    metadata = client.call(MetadataRequest(None))
    assert [(topic.name, len(topic.partitions)) for topic in metadata.topics] == [("orders", 3)]
    assert metadata.brokers[0].broker_id == metadata.controller == 1
    alteration = TopicAlteration("orders", 5, {"retention_ms": None, "retention_bytes": "5MiB"})
    altered = client.call(AlterTopicsRequest((alteration,), 20_000, False))
    assert altered.topics[0].error == 0
    described = client.call(DescribeTopicsRequest(("orders", "absent")))
    settings = {one.name: (one.value, one.source) for one in described.topics[0].settings}
    assert settings["retention_ms"] == ("604800000", "default")
    assert settings["retention_bytes"] == (str(5 * 1024 * 1024), "topic")
    assert described.topics[1].error == ErrorCode.UNKNOWN_TOPIC
    metadata = client.call(MetadataRequest(("orders", "absent")))
    assert len(metadata.topics[0].partitions) == 5
    assert metadata.topics[1].error == ErrorCode.UNKNOWN_TOPIC
    deleted = client.call(DeleteTopicsRequest(("orders", "absent"), 20_000, False))
    assert [one.error for one in deleted.topics] == [0, ErrorCode.UNKNOWN_TOPIC]
    assert client.call(MetadataRequest(None)).topics == ()


def test_validate_only_changes_nothing(client: RawClient) -> None:
    client.create_topic("orders")
    answer = client.call(DeleteTopicsRequest(("orders",), 20_000, True))
    assert answer.topics[0].error == 0
    assert len(client.call(MetadataRequest(None)).topics) == 1


def test_a_deletion_that_comes_late_leaves_another_topic_of_that_name_alone(
    client: RawClient,
) -> None:
    def topic_id() -> bytes:
        found: bytes = client.call(DescribeTopicsRequest(("t",)), 1).topics[0].topic_id
        return found

    client.create_topic("t")
    deletion = DeleteTopicsRequest(("t",), 1000, False, (topic_id(),))
    assert client.call(deletion, 1).topics[0].error == 0
    client.create_topic("t")
    client.produce("t", b"kept")
    late = client.call(deletion, 1).topics[0]
    assert late.error == ErrorCode.UNKNOWN_TOPIC
    assert "another one" in late.detail
    assert values_of(client.fetch("t", 0).batches) == [b"kept"]
    assert client.call(deletion._replace(topic_ids=(topic_id(),)), 1).topics[0].error == 0
    two = client.call(deletion._replace(topic_ids=(b"x" * 16, b"y" * 16)), 1)
    assert two.error == ErrorCode.MALFORMED_REQUEST


@pytest.mark.parametrize("acks", [1, -1])
def test_what_is_produced_is_fetched(client: RawClient, acks: int) -> None:
    client.create_topic("t", 2)
    assert client.produce("t", b"a", b"b", acks=acks).base_offset == 0
    assert client.produce("t", b"c", acks=acks).base_offset == 2
    fetched = client.fetch("t", 0)
    assert values_of(fetched.batches) == [b"a", b"b", b"c"]
    assert fetched.high_watermark == 3
    assert values_of(client.fetch("t", 1).batches) == [b"a", b"b", b"c"]  # whole batches
    assert client.fetch("t", 3).batches == b""
    assert client.fetch("t", 0, partition=1).batches == b""


def test_unacknowledged_records_arrive_without_an_answer(client: RawClient) -> None:
    client.create_topic("t")
    client.produce("t", b"x", acks=0)
    assert client.produce("t", b"y").base_offset == 1


def test_many_requests_of_one_read_are_answered_in_order(client: RawClient) -> None:
    client.create_topic("t")
    batch = encode_batch([b"v"], base_timestamp_ms=1)
    request = ProduceRequest(1, 1000, (ProducePartition("t", 0, batch),))
    client.socket.sendall(b"".join(client.encode(request) for _ in range(500)))
    offsets = [client.receive().partitions[0].base_offset for _ in range(500)]
    assert offsets == list(range(500))


def test_a_fetch_waits_until_enough_has_come(broker: EmbeddedBroker, client: RawClient) -> None:
    client.create_topic("t", 2)
    client.produce("t", b"x")
    partitions = (FetchPartition("t", 0, 1, -1, 1 << 20), FetchPartition("t", 1, 0, -1, 1 << 20))
    with RawClient(broker.address) as consumer:
        consumer.send(FetchRequest(20_000, 250, 1 << 20, partitions))
        answered = threading.Event()
        responses = []

        def wait() -> None:
            responses.append(consumer.receive())
            answered.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        client.produce("t", b"y" * 50)
        assert not answered.wait(0.1)
        client.produce("t", b"z" * 100, partition=1)
        waiter.join(20)
    [response] = responses
    assert [values_of(one.batches) for one in response.partitions] == [[b"y" * 50], [b"z" * 100]]


def test_a_fetch_gives_up_waiting_in_time(client: RawClient) -> None:
    client.create_topic("t")
    began_s = time.monotonic()
    assert client.fetch("t", 0, wait_ms=100).batches == b""
    assert 0.09 < time.monotonic() - began_s < 20


def test_an_answer_keeps_to_its_limits_but_one_batch_always_fits(client: RawClient) -> None:
    client.create_topic("t", 2)
    for _ in range(4):
        client.produce("t", b"x" * 1000)
        client.produce("t", b"x" * 1000, partition=1)
    assert len(values_of(client.fetch("t", 0, size=1).batches)) == 1
    assert len(values_of(client.fetch("t", 0, size=2500).batches)) == 2
    partitions = tuple(FetchPartition("t", number, 0, -1, 1 << 20) for number in (0, 1))
    both = client.call(FetchRequest(0, 1, 5500, partitions)).partitions
    assert [len(values_of(one.batches)) for one in both] == [4, 1]
    both = client.call(FetchRequest(0, 1, 4500, partitions)).partitions
    assert [len(values_of(one.batches)) for one in both] == [4, 0]


def test_offsets_by_earliest_latest_and_timestamp(client: RawClient) -> None:
    client.create_topic("t")
    for first in range(0, 1000, 10):
        deltas = list(range(10))
        batch = encode_batch([b"v"] * 10, base_timestamp_ms=first, timestamp_deltas=deltas)
        client.produce_batch("t", batch)

    def find(timestamp_ms: int) -> tuple[int, int]:
        query = OffsetQuery("t", 0, timestamp_ms)
        found = client.call(ListOffsetsRequest((query,))).partitions[0]
        assert found.error == 0
        return found.offset, found.timestamp_ms

    assert find(EARLIEST) == (0, -1)
    assert find(LATEST) == (1000, -1)
    assert find(MAX_TIMESTAMP) == (999, 999)
    for timestamp_ms in (0, 1, 9, 10, 11, 555, 999):
        assert find(timestamp_ms) == (timestamp_ms, timestamp_ms)
    assert find(1000) == (-1, -1)


def test_timestamps_out_of_order_find_the_first_record_that_is_late_enough(
    client: RawClient,
) -> None:
    client.create_topic("t")
    for timestamp_ms in (50, 20, 90, 10, 70):
        client.produce_batch("t", encode_batch([b"v"], base_timestamp_ms=timestamp_ms))
    for timestamp_ms, expected in ((5, 0), (50, 0), (51, 2), (90, 2), (91, -1)):
        query = OffsetQuery("t", 0, timestamp_ms)
        found = client.call(ListOffsetsRequest((query,))).partitions[0]
        assert found.offset == expected


def test_settings_rewrite_batches(client: RawClient) -> None:
    client.create_topic("t", 1, compression="zstd", message_timestamp_type="append_time")
    result = client.produce("t", *[b"v" * 100] * 100)
    assert result.append_time_ms > 1_600_000_000_000
    [(header, batch)] = list(iterate_batches(client.fetch("t", 0).batches))
    assert header.length < 1000
    assert list(decode_columns(batch).timestamps_ms) == [result.append_time_ms] * 100


def test_leader_epochs_are_checked_and_rise_with_a_restart(tmp_path: Path) -> None:
    broker = EmbeddedBroker(config_for(tmp_path))
    with broker:
        with RawClient(broker.address) as client:
            client.create_topic("t")
            epoch = client.call(MetadataRequest(("t",))).topics[0].partitions[0].leader_epoch
        broker.restart()
        with RawClient(broker.address) as client:
            info = client.call(MetadataRequest(("t",))).topics[0].partitions[0]
            assert info.leader_epoch > epoch

            def fetch(leader_epoch: int) -> int:
                wanted = FetchPartition("t", 0, 0, leader_epoch, 1000)
                answer = client.call(FetchRequest(0, 1, 1000, (wanted,)))
                return int(answer.partitions[0].error)

            assert fetch(info.leader_epoch) == 0
            assert fetch(epoch) == ErrorCode.FENCED_LEADER_EPOCH
            assert fetch(info.leader_epoch + 1) == ErrorCode.UNKNOWN_LEADER_EPOCH


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    broker = EmbeddedBroker(config_for(tmp_path))
    with broker:
        with RawClient(broker.address) as client:
            cluster_id = client.handshake.cluster_id
            client.create_topic("t", 2, retention_ms="-1")
            for number in range(100):
                client.produce("t", b"%d" % number, acks=number % 2 or -1)
        broker.restart()
        with RawClient(broker.address) as client:
            assert client.handshake.cluster_id == cluster_id
            expected = [b"%d" % number for number in range(100)]
            assert values_of(client.fetch("t", 0).batches) == expected
            assert values_of(client.fetch("t", 50).batches) == expected[50:]
            assert client.produce("t", b"next").base_offset == 100
            described = client.call(DescribeTopicsRequest(("t",))).topics[0]
            assert ("retention_ms", "-1", "topic") in [tuple(one) for one in described.settings]


def test_old_records_go_by_size_and_by_age(tmp_path: Path) -> None:
    broker = EmbeddedBroker(config_for(tmp_path, retention_check_ms=20))
    with broker:
        with RawClient(broker.address) as client:
            client.create_topic("size", 1, retention_bytes="5000", retention_ms="-1")
            client.create_topic("age", 1, retention_ms="1000")
            now_ms = int(time.time() * 1000)
            for number in range(20):
                values = [b"x" * 1000]
                client.produce_batch("size", encode_batch(values, base_timestamp_ms=now_ms))
                stamp_ms = now_ms if number >= 15 else now_ms - 100_000
                client.produce_batch("age", encode_batch(values, base_timestamp_ms=stamp_ms))

            def earliest(topic: str) -> int:
                query = OffsetQuery(topic, 0, EARLIEST)
                return int(client.call(ListOffsetsRequest((query,))).partitions[0].offset)

            wait_until(lambda: earliest("size") == 15 and earliest("age") >= 15)
            assert client.fetch("size", 3).error == ErrorCode.OFFSET_OUT_OF_RANGE
            assert len(values_of(client.fetch("size", 15).batches)) == 5
            wait_until(lambda: earliest("age") == 20)  # the rest has become old, too
        broker.restart()
        with RawClient(broker.address) as client:
            assert client.produce("age", b"more").base_offset == 20
            query = OffsetQuery("size", 0, EARLIEST)
            assert client.call(ListOffsetsRequest((query,))).partitions[0].offset == 15


def test_a_deleted_topic_is_empty_when_it_comes_back(client: RawClient) -> None:
    client.create_topic("t")
    client.produce("t", b"old")
    client.call(DeleteTopicsRequest(("t",), 20_000, False))
    assert client.fetch("t", 0).error == ErrorCode.UNKNOWN_TOPIC
    client.create_topic("t")
    assert client.fetch("t", 0).high_watermark == 0
    assert client.produce("t", b"new").base_offset == 0
    assert values_of(client.fetch("t", 0).batches) == [b"new"]


def test_deleting_a_topic_answers_those_who_wait_for_it(
    broker: EmbeddedBroker, client: RawClient
) -> None:
    client.create_topic("t")
    with RawClient(broker.address) as consumer:
        wanted = (FetchPartition("t", 0, 0, -1, 1000),)
        consumer.send(FetchRequest(20_000, 1, 1000, wanted))
        consumer.send(HealthRequest())
        assert consumer.receive().live  # so the fetch has arrived, and waits
        client.call(DeleteTopicsRequest(("t",), 20_000, False))
        assert consumer.receive().partitions[0].error == ErrorCode.UNKNOWN_TOPIC


def test_topics_are_created_on_demand_where_that_is_allowed(tmp_path: Path) -> None:
    config = config_for(tmp_path, auto_create_topics=True, default_partitions=4)
    with EmbeddedBroker(config) as broker, RawClient(broker.address) as client:
        metadata = client.call(MetadataRequest(("fresh", "no/good")))
        assert len(metadata.topics[0].partitions) == 4
        assert metadata.topics[1].error == ErrorCode.UNKNOWN_TOPIC
        assert client.produce("fresh", b"v").base_offset == 0


def test_health_is_answered_over_the_protocol(client: RawClient) -> None:
    health = client.call(HealthRequest())
    assert health.live
    assert health.ready
    assert {part.name for part in health.components} >= {"network", "storage"}


def test_repeated_requests_are_answered_as_the_first_one(client: RawClient) -> None:
    """The second request of a kind takes a shortcut; its answers must not differ."""
    client.create_topic("t", 2)
    for size in (0, 1, 100, 170, 200, 255, 256, 60_000, 70_000):
        for acks in (1, -1):
            for partition in (0, 1, 1, 0, 0):
                value = b"v" * size
                before = client.fetch("t", 0, partition=partition, size=1).high_watermark
                answer = client.produce("t", value, partition=partition, acks=acks)
                assert answer == (0, None, before, -1, 0)
                assert values_of(client.fetch("t", before, partition=partition).batches)[0] == value
    good = encode_batch([b"v"], base_timestamp_ms=1)
    assert client.produce_batch("t", good).error == 0
    assert client.produce_batch("t", good[:-1] + b"?").error == ErrorCode.CORRUPT_BATCH
    assert client.produce_batch("t", b"").error == ErrorCode.CORRUPT_BATCH
    assert client.produce_batch("t", good, acks=0) > 0
    client.call(DeleteTopicsRequest(("t",), 20_000, False))
    assert client.produce_batch("t", good).error == ErrorCode.UNKNOWN_TOPIC
    client.create_topic("t", 2)
    assert client.produce_batch("t", good).base_offset == 0


def test_a_large_request_is_served_in_turns_and_whole(
    broker: EmbeddedBroker, client: RawClient
) -> None:
    """Its batches are appended over several turns of the loop; nothing of that is to be seen."""
    client.create_topic("t", 2)
    batches = [
        encode_batch([bytes([number]) * 200_000], base_timestamp_ms=1) for number in range(8)
    ]
    parts = (
        *(ProducePartition("t", number % 2, batch) for number, batch in enumerate(batches)),
        ProducePartition("absent", 0, batches[0]),
    )
    answer = client.call(ProduceRequest(1, 1000, parts)).partitions
    assert [one.base_offset for one in answer] == [0, 0, 1, 1, 2, 2, 3, 3, -1]
    assert [one.error for one in answer] == [0] * 8 + [ErrorCode.UNKNOWN_TOPIC]
    with RawClient(broker.address) as silent:
        silent.send(ProduceRequest(0, 1000, parts))
    wait_until(lambda: client.fetch("t", 0, partition=1, size=1).high_watermark == 8)
    fetched = client.fetch("t", 0, partition=0, size=16 << 20)
    assert values_of(fetched.batches) == [bytes([number]) * 200_000 for number in (0, 2, 4, 6)] * 2


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_producer_faster_than_the_disk_waits_and_sees_no_error(
    tmp_path: Path, partitions: int
) -> None:
    with (
        EmbeddedBroker(config_for(tmp_path, memtable_bytes=64 * 1024)) as broker,
        RawClient(broker.address) as client,
    ):
        client.create_topic("t", partitions)
        batch = encode_batch([b"v" * 60_000], base_timestamp_ms=1)
        parts = tuple(ProducePartition("t", number, batch) for number in range(partitions))
        request = ProduceRequest(1, 30_000, parts)
        count = 300 // partitions
        sender = threading.Thread(
            target=client.socket.sendall, args=(b"".join([client.encode(request)] * count),)
        )
        sender.start()
        for number in range(count):
            for result in client.receive().partitions:
                assert (result.error, result.base_offset) == (0, number)
        sender.join()
        assert broker.broker is not None
        assert broker.broker.apis.produce.stalled > 0, "the disk kept up: nothing was tested"


def test_deleting_a_topic_gives_its_space_back(tmp_path: Path) -> None:
    config = config_for(tmp_path, memtable_bytes=256 * 1024, tail_cache_bytes=0)
    with EmbeddedBroker(config) as broker, RawClient(broker.address) as client:
        client.create_topic("gone")
        client.create_topic("kept")
        for _ in range(60):
            client.produce("gone", b"x" * 50_000)
        client.produce("kept", b"v")
        assert broker.broker is not None
        tree = broker.broker.data_tree
        wait_until(lambda: tree.stats().table_bytes > 2_000_000)
        client.call(DeleteTopicsRequest(("gone",), 20_000, False))
        for _ in range(8):  # what still lies in memory goes with the next flushes
            client.produce("kept", b"x" * 50_000)
        wait_until(lambda: tree.stats().table_bytes < 1_000_000)
        assert values_of(client.fetch("kept", 0, size=1).batches) == [b"v"]
        registry = broker.broker.node.registry
        wait_until(lambda: registry.cluster.reclaiming == ())
