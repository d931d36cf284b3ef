"""A batch of a cluster that comes as the last one did is taken as any other."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from streambus_client import Admin
from streambus_protocol import (
    ErrorCode,
    InitProducerIdRequest,
    ProducePartition,
    ProduceRequest,
    ProducerStamp,
    encode_batch,
)
from tests.broker.raw import RawClient
from tests.cluster.conftest import Cluster, running_cluster, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from streambus_broker.api.produce import ProduceApi

MAX_BYTES = 100_000


def ask(client: RawClient, topic: str, acks: int, batch: bytes) -> Any:
    """Produce one batch; with acks 0 an answer to something else shows that it was taken."""
    request = ProduceRequest(acks, 10_000, (ProducePartition(topic, 0, batch),))
    if acks:
        return client.call(request).partitions[0]
    client.send(request)
    return None


def batches(dice: random.Random, producers: list[int]) -> list[bytes]:
    """Good ones, repeated ones, ones that leave some out, damaged and too large ones."""
    made = []
    sequences = dict.fromkeys(producers, 0)
    last = b""
    for _ in range(60):
        values = [b"v" * dice.choice([1, 300, 70_000 // 8])] * dice.choice([1, 1, 8])
        kind = dice.random()
        if kind < 0.3:
            batch = encode_batch(values, base_timestamp_ms=1)
        elif kind < 0.7:
            producer = dice.choice(producers)
            sequence = sequences[producer] + (dice.random() < 0.1)
            stamp = ProducerStamp(producer, 0, sequence)
            batch = encode_batch(values, base_timestamp_ms=1, producer=stamp)
            if sequence == sequences[producer]:
                sequences[producer] += len(values)
        elif kind < 0.8:
            batch = last or encode_batch(values, base_timestamp_ms=1)
        elif kind < 0.9:
            batch = bytearray(encode_batch(values, base_timestamp_ms=1))  # type: ignore[assignment]  # to damage it
            batch[-1] ^= 1  # type: ignore[index]  # the same
            batch = bytes(batch)
        else:
            batch = encode_batch([b"x" * MAX_BYTES], base_timestamp_ms=1)
        made.append(batch)
        last = batch
    return made


def test_the_lane_answers_as_the_general_path(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with running_cluster(tmp_path, 1) as cluster, RawClient(cluster.bootstrap) as again:
        with Admin(cluster.bootstrap) as admin:
            for topic in ("again", "anew"):
                config = {"max_message_bytes": str(MAX_BYTES)}
                admin.create_topic(topic, partitions=1, replication_factor=1, config=config)
        producers = [again.call(InitProducerIdRequest(-1, -1)).producer_id for _ in range(2)]
        produce: ProduceApi = cluster.broker(1).apis.produce
        used = 0
        acks = 1
        for batch in batches(dice, producers):
            if dice.random() < 0.2:
                acks = dice.choice([1, -1, 0])
            used += again_has_lane(cluster, acks)
            with RawClient(cluster.bootstrap) as new:
                answers = ask(again, "again", acks, batch), ask(new, "anew", acks, batch)
                if not acks:  # the answer to the next request of a connection comes behind it
                    answers = tuple(each.fetch("anew", 0).error for each in (again, new))
                assert answers[0] == answers[1]
        assert used >= 10, "the lane was there to be used"
        assert produce.rejected
        logs = cluster.broker(1).node.logs
        assert logs["again", 0].next_offset == logs["anew", 0].next_offset > 0
        assert logs["again", 0].end_position == logs["anew", 0].end_position


def again_has_lane(cluster: Cluster, acks: int) -> bool:
    """Whether some connection is prepared for what is asked now."""
    connections = list(cluster.broker(1).node.server.connections)
    found = [each.produce_lane for each in connections if each.produce_lane is not None]
    return any(each.acks == acks and each.log.topic == "again" for each in found)


def leads(cluster: Cluster, node_id: int) -> bool:
    """Whether a broker takes the topic's batches."""
    log = cluster.broker(node_id).node.logs.get(("t", 0))
    return log is not None and log.leads


def test_a_lane_ends_with_the_leadership(cluster: Cluster) -> None:
    batch = encode_batch([b"x"], base_timestamp_ms=1)
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=1, replication_factor=3)
        leader = cluster.record("t")[0]
        wait_until(lambda: leads(cluster, leader), "the leader knows that it leads")
        with RawClient(cluster.addresses[leader - 1]) as client:
            for acks in (1, -1):
                offsets = [ask(client, "t", acks, batch).base_offset for _ in range(3)]
                assert offsets == list(range(offsets[0], offsets[0] + 3))
            admin.alter_member(leader, "maintenance_on")
            wait_until(lambda: not leads(cluster, leader), "it knows that it leads no more")
            answer = ask(client, "t", -1, batch)
            assert answer.error == ErrorCode.NOT_LEADER
            wait_until(lambda: cluster.record("t")[0] not in (leader, -1), "another leader")
            new = cluster.record("t")[0]
            wait_until(lambda: leads(cluster, new), "the new leader knows, too")
        with RawClient(cluster.addresses[new - 1]) as client:
            assert ask(client, "t", -1, batch).base_offset == 6
