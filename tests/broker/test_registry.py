from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.metadata.records import ClusterRecord, TopicRecord
from streambus_broker.metadata.registry import (
    AlterTopic,
    Changes,
    Command,
    CommandError,
    CreateTopic,
    DeleteTopic,
    NodeStarted,
    Reclaimed,
    Registry,
)
from streambus_protocol import ErrorCode


def create(name: str = "t", partitions: int = 2, factor: int = -1, limit: int = 100) -> CreateTopic:
    return CreateTopic(name, b"i" * 16, partitions, factor, {"retention_ms": 5}, (1,), limit)


def alter(name: str = "t", partitions: int = -1, **overrides: int) -> AlterTopic:
    return AlterTopic(name, partitions, overrides, (), (1,), 100)


def registry(*commands: Command) -> Registry:
    made = Registry(ClusterRecord("c"))
    for command in commands:
        made.adopt(made.plan(command))
    return made


def refused(made: Registry, command: Command) -> ErrorCode:
    before = (made.cluster, dict(made.topics))
    with pytest.raises(CommandError) as caught:
        made.plan(command)
    assert (made.cluster, made.topics) == before
    assert caught.value.detail
    return caught.value.code


def test_a_topic_is_created_altered_and_deleted() -> None:
    made = registry(create())
    topic = made.topics["t"]
    assert [partition.partition_id for partition in topic.partitions] == [1, 2]
    assert all(partition.leader == 1 for partition in topic.partitions)
    made = registry(create(), alter(partitions=3, retention_ms=9))
    assert [partition.partition_id for partition in made.topics["t"].partitions] == [1, 2, 3]
    assert made.topics["t"].overrides == {"retention_ms": 9}
    made = registry(create(), AlterTopic("t", -1, {}, ("retention_ms",), (1,), 100))
    assert made.topics["t"].overrides == {}
    made = registry(create(), DeleteTopic("t"))
    assert made.topics == {}
    assert made.cluster.reclaiming == (1, 2)


def test_a_topic_that_is_created_again_under_its_own_id_is_there_already() -> None:
    made = registry(create())
    assert made.plan(create()) == Changes()
    assert refused(made, create("u", factor=5)) is ErrorCode.INVALID_REPLICATION_FACTOR


def test_partition_ids_are_never_used_again() -> None:
    made = registry(create(), DeleteTopic("t"), Reclaimed((1, 2)), create())
    assert [partition.partition_id for partition in made.topics["t"].partitions] == [3, 4]
    assert made.cluster.reclaiming == ()


def test_a_start_raises_the_generation() -> None:
    assert registry(NodeStarted(), NodeStarted()).cluster.generation == 2


def test_what_cannot_be_done_is_refused_and_changes_nothing() -> None:
    made = registry(create())
    assert (
        refused(made, dataclasses.replace(create(), topic_id=b"j" * 16)) is ErrorCode.TOPIC_EXISTS
    )
    assert refused(made, create("u", factor=2)) is ErrorCode.INVALID_REPLICATION_FACTOR
    assert refused(made, create("u", partitions=0)) is ErrorCode.INVALID_PARTITIONS
    assert refused(made, create("u", partitions=10_001)) is ErrorCode.INVALID_PARTITIONS
    assert refused(made, create("u", partitions=99)) is ErrorCode.INVALID_PARTITIONS
    assert refused(made, alter(partitions=1)) is ErrorCode.INVALID_PARTITIONS
    assert refused(made, alter("absent")) is ErrorCode.UNKNOWN_TOPIC
    assert refused(made, DeleteTopic("absent")) is ErrorCode.UNKNOWN_TOPIC
    assert refused(made, DeleteTopic("t", b"j" * 16)) is ErrorCode.UNKNOWN_TOPIC
    assert made.plan(DeleteTopic("t", made.topics["t"].topic_id)).deleted == ("t",)


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "é", "x" * 250, "a\n", "a\0"])
def test_a_bad_topic_name_is_refused(name: str) -> None:
    assert refused(registry(), create(name)) is ErrorCode.INVALID_TOPIC_NAME


@given(
    st.dictionaries(st.text(), st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.text()),
    st.integers(1, 50),
)
def test_records_survive_encoding(overrides: dict[str, int | bool | str], partitions: int) -> None:
    made = registry(create(partitions=partitions))
    topic = made.topics["t"]
    topic = TopicRecord(topic.name, topic.topic_id, topic.partitions, overrides)
    assert TopicRecord.decode(topic.encode()) == topic
    assert ClusterRecord.decode(made.cluster.encode()) == made.cluster


@given(st.binary(max_size=200))
def test_garbage_is_no_record(data: bytes) -> None:
    for record in (TopicRecord, ClusterRecord):
        try:
            record.decode(data)
        except ValueError:
            continue
