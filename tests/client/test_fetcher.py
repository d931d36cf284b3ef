"""What a consumer reads next, and the short way of a lone partition. No sockets."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streambus_client._addresses import Address
from streambus_client._fetcher import FetchCall, Fetcher
from streambus_client._operations import Session
from streambus_client._options import ClientOptions, ConsumerOptions, Start
from streambus_client._quick_fetch import FetchTemplate
from streambus_client._types import TopicPartition
from streambus_client.errors import (
    ConnectionLostError,
    OffsetOutOfRangeError,
    ProtocolViolationError,
)
from streambus_protocol import (
    APIS,
    ApiKey,
    BrokerInfo,
    ErrorCode,
    FetchedPartition,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FrameDecoder,
    MetadataResponse,
    PartitionInfo,
    TopicInfo,
    decode_message,
    encode_batch,
)


def make(
    count: int,
    *,
    start: Start = 0,
    prefetch_bytes_max: int = 1000,
    client_rack: str = "",
) -> Fetcher:
    common = ClientOptions.make(
        "a:1",
        client_id="test",
        connect_timeout_ms=1000,
        request_timeout_ms=1000,
        retry_backoff_ms=100,
        retry_backoff_ms_max=1000,
        metadata_age_ms_max=60_000,
        random=Random(1),
    )
    options = ConsumerOptions.make(
        start=start,
        out_of_range="error",
        fetch_wait_ms=10,
        fetch_bytes_min=1,
        fetch_bytes_max=1000,
        partition_bytes_max=500,
        prefetch_bytes_max=prefetch_bytes_max,
        client_rack=client_rack,
    )
    session = Session(common, lambda: 0.0)
    learn(session, [1] * count)
    fetcher = Fetcher(session, options)
    fetcher.assign([TopicPartition("t", number) for number in range(count)], start)
    for reader in fetcher.readers.values():
        if isinstance(start, int):
            reader.begin(start)
    return fetcher


def learn(session: Session, leaders: list[int], epoch: int = 1) -> None:
    partitions = tuple(
        PartitionInfo(0, number, leader, epoch, (1, 2), (1, 2))
        for number, leader in enumerate(leaders)
    )
    brokers = (BrokerInfo(1, "a", 1, None), BrokerInfo(2, "b", 1, None))
    topics = (TopicInfo(0, "t", b"", partitions),)
    answer = MetadataResponse("c", 1, brokers, topics)
    session.cluster.apply(answer, ("t",), Address("a", 1), 0.0)


def batch(base_offset: int, count: int) -> bytes:
    values = [b"%d" % offset for offset in range(base_offset, base_offset + count)]
    return encode_batch(values, base_timestamp_ms=5, base_offset=base_offset)


def answer(*parts: tuple[int, bytes]) -> FetchResponse:
    return FetchResponse(
        0, tuple(FetchedPartition(code, None, 100, 0, batches) for code, batches in parts)
    )


def only(fetcher: Fetcher, now: float = 0.0) -> FetchCall:
    [call] = fetcher.plan(now)
    return call


def test_position_follows_what_was_taken_and_requests_run_ahead() -> None:
    fetcher = make(1)
    call = only(fetcher)
    assert fetcher.plan(0.0) == [], "one request at a time for a broker"
    fetcher.answered(call, answer((0, batch(0, 5) + batch(5, 5))), 0.0)
    assert only(fetcher).request.partitions[0].offset == 10
    reader = fetcher.readers[TopicPartition("t", 0)]
    assert [record.offset for record in fetcher.take_records(3)] == [0, 1, 2]
    assert reader.position == 3
    columns = fetcher.take_columns()
    assert columns is not None
    assert list(columns.offsets) == [3, 4]
    record = fetcher.take_one()
    assert record is not None
    assert record.offset == 5
    assert [one.offset for one in fetcher.take_records(99)] == [6, 7, 8, 9]
    assert reader.position == 10
    assert fetcher.take_columns() is None


def test_batch_that_begins_before_the_position_is_cut() -> None:
    fetcher = make(1, start=7)
    fetcher.answered(only(fetcher), answer((0, batch(5, 5))), 0.0)
    assert [record.offset for record in fetcher.take_records(9)] == [7, 8, 9]


def test_answer_to_a_request_before_a_seek_is_dropped() -> None:
    fetcher = make(1)
    call = only(fetcher)
    fetcher.readers[TopicPartition("t", 0)].begin(50)
    fetcher.answered(call, answer((0, batch(0, 5))), 0.0)
    assert not fetcher.has_records()
    assert only(fetcher).request.partitions[0].offset == 50


def test_full_buffer_stops_the_requests() -> None:
    fetcher = make(1, prefetch_bytes_max=200)
    fetcher.answered(only(fetcher), answer((0, batch(0, 50))), 0.0)
    assert fetcher.plan(0.0) == []
    fetcher.take_columns()
    assert fetcher.plan(0.0)


def test_partitions_take_turns() -> None:
    fetcher = make(3)
    data = [(0, b"".join(batch(offset, 1) for offset in range(3))) for _ in range(3)]
    fetcher.answered(only(fetcher), answer(*data), 0.0)
    seen: dict[int, list[int]] = {}
    while (columns := fetcher.take_columns()) is not None:
        seen.setdefault(columns.partition, []).extend(columns.offsets)
    assert seen == {0: [0, 1, 2], 1: [0, 1, 2], 2: [0, 1, 2]}


def test_change_of_leader_is_followed() -> None:
    fetcher = make(2)
    session = fetcher._session
    fetcher.answered(only(fetcher), answer((ErrorCode.NOT_LEADER, b""), (0, batch(0, 1))), 0.0)
    assert fetcher.topics_without_leader(5.0) == ["t"]
    learn(session, [2, 1], epoch=2)
    calls = fetcher.plan(5.0)
    assert {call.node_id: call.request.partitions[0].partition for call in calls} == {2: 0, 1: 1}


def test_lost_connection_pauses_and_keeps_the_position() -> None:
    fetcher = make(1)
    fetcher.failed(only(fetcher), ConnectionLostError("a", "gone"), 0.0)
    learn(fetcher._session, [1])
    assert fetcher.plan(0.0) == []
    due = fetcher.next_due(0.0)
    assert due is not None
    assert only(fetcher, due).request.partitions[0].offset == 0
    fetcher.raise_failure()


def test_offset_out_of_range_is_told_once() -> None:
    fetcher = make(1, start=50)
    fetcher.answered(only(fetcher), answer((ErrorCode.OFFSET_OUT_OF_RANGE, b"")), 0.0)
    with pytest.raises(OffsetOutOfRangeError, match="offset 50"):
        fetcher.raise_failure()
    fetcher.raise_failure()


def test_damaged_batch_stops_before_it() -> None:
    fetcher = make(1)
    good, bad = batch(0, 2), bytearray(batch(2, 2))
    bad[-1] ^= 1
    fetcher.answered(only(fetcher), answer((0, good + bytes(bad))), 0.0)
    assert [record.offset for record in fetcher.take_records(9)] == [0, 1]
    with pytest.raises(ProtocolViolationError, match="offset 2"):
        fetcher.raise_failure()
    assert fetcher.readers[TopicPartition("t", 0)].position == 2
    assert only(fetcher).request.partitions[0].offset == 2, "it is asked for again"


@settings(max_examples=80, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_every_record_comes_once_and_in_order(data: st.DataObject, seed: int) -> None:
    """Random answers, cuts, pauses, losses and ways of taking: each offset once, ascending."""
    random = Random(seed)
    fetcher = make(2)
    seen: dict[int, list[int]] = {0: [], 1: []}
    now = 0.0
    calls: list[FetchCall] = []
    for _ in range(data.draw(st.integers(1, 60))):
        now += 2.0
        learn(fetcher._session, [random.choice([1, 2]), 1])
        step = random.randrange(6)
        if step == 0:
            for reader in fetcher.readers.values():
                reader.paused = random.random() < 0.4
        elif step == 1 and calls:
            fetcher.failed(calls.pop(), ConnectionLostError("a", "x"), now)
        elif step in (2, 3):
            calls += fetcher.plan(now)
        elif step == 4 and calls:
            call = calls.pop(0)
            parts = []
            for asked in call.request.partitions:
                first = max(0, asked.offset - random.randrange(3))
                count = asked.offset - first + random.randrange(1, 6)
                parts.append((0, random.choice([b"", batch(first, count)])))
            fetcher.answered(call, answer(*parts), now)
        else:
            way = random.randrange(3)
            records = []
            if way == 0:
                records = fetcher.take_records(random.randrange(1, 5))
            elif way == 1:
                records = [record for record in [fetcher.take_one()] if record is not None]
            elif (columns := fetcher.take_columns()) is not None:
                records = list(columns.records())
            for record in records:
                assert not fetcher.readers[TopicPartition("t", record.partition)].paused
                seen[record.partition].append(record.offset)
        for number, offsets in seen.items():
            assert offsets == list(range(len(offsets))), f"seed {seed}"
            assert fetcher.readers[TopicPartition("t", number)].position == len(offsets)
        fetcher.raise_failure()


@given(
    topic=st.text(min_size=1, max_size=30),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    correlation_id=st.integers(0, 2**32 - 1),
    rack=st.none() | st.text(max_size=40),
)
def test_prepared_fetch_says_what_the_general_one_says(
    topic: str, partition: int, offset: int, correlation_id: int, rack: str | None
) -> None:
    def request(at: int) -> FetchRequest:
        wanted = FetchPartition(topic, partition, at, 3, 1000)
        return FetchRequest(500, 1, 2000, (wanted,), rack)

    fetch = APIS[ApiKey.FETCH]
    for version in range(fetch.version_min, fetch.version_max + 1):
        template = FetchTemplate(request(0), version)
        [frame] = FrameDecoder().receive(template.frame(correlation_id, offset))
        assert (frame.api, frame.flags, frame.correlation_id) == (ApiKey.FETCH, 0, correlation_id)
        asked = decode_message(FetchRequest, frame.body, version)
        assert asked == request(offset)._replace(rack=rack if version else None)
