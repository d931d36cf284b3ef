"""What the producer's background decides: when, where to, and what an answer means. No sockets."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streambus_client._addresses import Address
from streambus_client._operations import Session
from streambus_client._options import ClientOptions, ProducerOptions
from streambus_client._producing import ProducerCore
from streambus_client._types import TopicPartition
from streambus_client.errors import (
    ClientError,
    ConnectionLostError,
    DeliveryTimedOutError,
    ProtocolViolationError,
    RecordTooLargeError,
)
from streambus_protocol import (
    BrokerInfo,
    ErrorCode,
    MetadataResponse,
    PartitionInfo,
    ProducedPartition,
    ProduceResponse,
    TopicInfo,
)

if TYPE_CHECKING:
    from streambus_client._accumulator import PendingBatch
    from streambus_client._sender import ProduceCall

HERE = Address("a", 1)


class Clock:
    """A time that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, *, retries_max: int | None = None, seed: int = 1) -> ProducerCore:
    common = ClientOptions.make(
        "a:1",
        client_id="test",
        connect_timeout_ms=1000,
        request_timeout_ms=1000,
        retry_backoff_ms=100,
        retry_backoff_ms_max=1000,
        metadata_age_ms_max=60_000,
        random=Random(seed),
    )
    options = ProducerOptions.make(
        acks=1,
        compression="none",
        partitioner="xxhash",
        linger_ms=0,
        batch_bytes_max=100,
        buffer_bytes_max=10_000,
        delivery_timeout_ms=10_000,
        retries_max=retries_max,
        idempotent=False,
    )
    return ProducerCore(Session(common, clock), options)


def learn(core: ProducerCore, leaders: list[int], *, epoch: int = 1, now: float = 0.0) -> None:
    """Metadata of topic t: partition n is led by ``leaders[n]``."""
    partitions = tuple(
        PartitionInfo(0, number, leader, epoch, (1, 2), (1, 2))
        for number, leader in enumerate(leaders)
    )
    answer = MetadataResponse(
        "c",
        1,
        (BrokerInfo(1, "a", 1, None), BrokerInfo(2, "b", 1, None)),
        (TopicInfo(0, "t", b"", partitions),),
    )
    core.session.cluster.apply(answer, ("t",), HERE, now)


def submit(core: ProducerCore, partition: int, value: bytes = b"v") -> PendingBatch:
    return core.append(TopicPartition("t", partition), None, value, None, 5, 20)[0]


def answered(*codes: int) -> ProduceResponse:
    return ProduceResponse(
        0, tuple(ProducedPartition(code, None, 7 if code == 0 else -1, -1, 0) for code in codes)
    )


def test_due_partitions_of_one_leader_share_a_request() -> None:
    core = make(Clock())
    learn(core, [1, 2, 1])
    for partition in range(3):
        submit(core, partition)
    assert core.sender.nodes_due(0.0) == {1, 2}
    call = core.sender.take(1, 0.0)
    assert call is not None
    assert [batch.partition for batch in call.batches] == [0, 2]
    assert core.sender.take(1, 0.0) is None, "one request at a time for a broker"
    assert core.sender.nodes_due(0.0) == {2}
    core.sender.succeeded(call, answered(0, 0), 0.0)
    assert all(batch.outcome.base_offset == 7 for batch in call.batches)


def test_change_of_leader_moves_the_batch_and_keeps_its_place() -> None:
    clock = Clock()
    core = make(clock)
    learn(core, [1])
    first = submit(core, 0, b"first")
    call = core.sender.take(1, 0.0)
    assert call is not None
    submit(core, 0, b"second")
    core.sender.succeeded(call, answered(ErrorCode.NOT_LEADER), 0.0)
    assert not first.outcome.done
    clock.now = 1.0
    assert core.sender.topics_without_leader(1.0) == ["t"]
    assert core.sender.nodes_due(1.0) == set()
    learn(core, [2], epoch=2, now=1.0)
    again = core.sender.take(2, 1.0)
    assert again is not None
    assert again.batches == [first]


def test_older_metadata_does_not_undo_a_change_of_leader() -> None:
    core = make(Clock())
    learn(core, [2], epoch=5)
    learn(core, [1], epoch=4)
    assert core.session.cluster.leader(TopicPartition("t", 0)) == 2


def test_final_refusal_ends_one_batch_and_leaves_the_others() -> None:
    core = make(Clock())
    learn(core, [1, 1])
    bad, good = submit(core, 0), submit(core, 1)
    call = core.sender.take(1, 0.0)
    assert call is not None
    for callback in core.sender.succeeded(call, answered(ErrorCode.MESSAGE_TOO_LARGE, 0), 0.0):
        callback()
    assert isinstance(bad.outcome.error, RecordTooLargeError)
    assert good.outcome.base_offset == 7
    with pytest.raises(RecordTooLargeError):
        core.raise_unseen()
    core.raise_unseen()


def test_lost_connections_end_at_the_deadline_with_their_cause() -> None:
    clock = Clock()
    core = make(clock)
    learn(core, [1])
    batch = submit(core, 0)
    attempts = 0
    while not batch.outcome.done:
        learn(core, [1], now=clock.now)
        call = core.sender.take(1, clock.now)
        if call is not None:
            attempts += 1
            core.sender.failed(call, ConnectionLostError("a:1", "gone"), clock.now)
        core.sender.expire(clock.now)
        pause_s = core.sender.pause_s(clock.now)
        if pause_s is not None:
            assert pause_s > 0
            clock.now += pause_s
    assert clock.now == pytest.approx(10.0)
    error = batch.outcome.error
    assert isinstance(error, DeliveryTimedOutError)
    assert error.attempts == attempts > 5
    assert "gone" in str(error)
    assert isinstance(error.__cause__, ConnectionLostError)


def test_who_has_nothing_to_send_does_not_ask_every_millisecond() -> None:
    core = make(Clock())
    learn(core, [1, 2])
    assert core.sender.pause_s(0.0) is None, "nothing waits"
    batch = submit(core, 0)
    # Broker 1's, and due: broker 2's task has nothing to do with it.
    assert core.sender.pause_s(0.0) == pytest.approx(0.02)
    call = core.sender.take(1, 0.0)
    assert call is not None
    assert core.sender.pause_s(0.0) is None, "the answer wakes everybody"
    core.sender.failed(call, ConnectionLostError("a:1", "gone"), 0.0)
    assert batch.retry_at > 0
    assert core.sender.pause_s(0.0) == pytest.approx(batch.retry_at)
    # What comes sooner is not missed.
    submit(core, 1)
    assert core.sender.pause_s(batch.retry_at - 0.005) == pytest.approx(0.005)


def test_retries_are_counted() -> None:
    clock = Clock()
    core = make(clock, retries_max=2)
    learn(core, [1])
    batch = submit(core, 0)
    for attempt in range(3):
        learn(core, [1])
        call = core.sender.take(1, clock.now)
        assert call is not None, attempt
        core.sender.failed(call, ConnectionLostError("a:1", "gone"), clock.now)
        clock.now += 2.0
    assert isinstance(batch.outcome.error, ConnectionLostError)


def test_answer_about_other_partitions_is_a_violation() -> None:
    core = make(Clock())
    learn(core, [1])
    batch = submit(core, 0)
    call = core.sender.take(1, 0.0)
    assert call is not None
    core.sender.succeeded(call, answered(0, 0), 0.0)
    assert isinstance(batch.outcome.error, ProtocolViolationError)


def test_deleted_topic_ends_its_batches() -> None:
    clock = Clock()
    core = make(clock)
    learn(core, [1])
    batch = submit(core, 0)
    core.session.cluster.apply(MetadataResponse("c", 1, (), ()), ("t",), HERE, 0.0)
    assert core.sender.topics_without_leader(0.0) == ["t"]
    reason = core.sender.missing_error("t", core.session.cluster.missing["t"])
    assert reason is not None
    core.sender.metadata_failed(["t"], reason, 0.0)
    assert isinstance(batch.outcome.error, ClientError)
    assert core.accumulator.empty


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_every_batch_ends_once_whatever_brokers_answer(seed: int, data: st.DataObject) -> None:
    """Random submits, answers, losses, leader changes and time: all futures end, in order."""
    clock = Clock()
    core = make(clock, seed=seed)
    random = Random(seed)
    learn(core, [1, 2, 1])
    batches: list[PendingBatch] = []
    calls: list[ProduceCall] = []
    log: dict[int, list[int]] = {0: [], 1: [], 2: []}
    number = {id(batch): index for index, batch in enumerate(batches)}
    epoch = 1
    for _ in range(data.draw(st.integers(1, 60))):
        step = random.randrange(6)
        if step == 0:
            batch = submit(core, random.randrange(3), b"x" * 90)
            if id(batch) not in number:
                number[id(batch)] = len(batches)
                batches.append(batch)
        elif step == 1:
            epoch += 1
            learn(core, [random.choice([1, 2, -1]) for _ in range(3)], epoch=epoch, now=clock.now)
        elif step == 2:
            clock.now += random.random() * 3
            core.sender.expire(clock.now)
        elif calls and step == 3:
            core.sender.failed(
                calls.pop(random.randrange(len(calls))), ConnectionLostError("a", "x"), clock.now
            )
        elif calls and step == 4:
            call = calls.pop(random.randrange(len(calls)))
            codes = [random.choice([0, 0, 0, 18, 7]) for _ in call.batches]
            for batch, code in zip(call.batches, codes, strict=True):
                if code == 0:
                    log[batch.partition].append(number[id(batch)])
            core.sender.succeeded(call, answered(*codes), clock.now)
        else:
            for node in (1, 2):
                call_made = core.sender.take(node, clock.now)
                if call_made is not None:
                    calls.append(call_made)
    for call in calls:
        core.sender.failed(call, ConnectionLostError("a", "x"), clock.now)
    clock.now += 100.0
    core.sender.expire(clock.now)
    assert all(batch.outcome.done for batch in batches), f"seed {seed}"
    assert core.accumulator.buffered_bytes == 0
    for order in log.values():
        assert order == sorted(order), f"seed {seed}: a retry was overtaken"


def test_broker_that_is_still_forming_its_cluster_does_not_name_it() -> None:
    """Its empty id must not be held against the brokers that know the real one."""
    core = make(Clock())
    cluster = core.session.cluster
    cluster.apply(MetadataResponse("", -1, (), ()), ("t",), HERE, 0.0)
    assert cluster.cluster_id is None
    cluster.apply(MetadataResponse("real", 1, (), ()), ("t",), HERE, 0.0)
    cluster.apply(MetadataResponse("", -1, (), ()), ("t",), HERE, 0.0)
    assert cluster.cluster_id == "real"
