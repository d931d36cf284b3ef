"""The session of one follower with one leader: what it asks, and what it does with the answers."""

from __future__ import annotations

import copy

from streambus_broker.cluster.epochs import EpochEnd
from streambus_broker.cluster.follower import (
    RETRY_S,
    Append,
    FollowerSession,
    StartOver,
    Truncate,
)
from streambus_protocol import ErrorCode, ReplicaData


def data_of(partition_id: int, epoch: int = 3, **fields: int | bytes) -> ReplicaData:
    filled = {
        "error": 0, "high_watermark": 0, "log_start_offset": 0, "diverging_epoch": -1,
        "diverging_end": -1, "batches": b"", **fields,
    }  # fmt: skip
    return ReplicaData(partition_id=partition_id, leader_epoch=epoch, **filled)  # type: ignore[arg-type]  # by name


def session_of(*partitions: int) -> FollowerSession:
    session = FollowerSession()
    for partition_id in partitions:
        session.follow(partition_id, 3, 10, 2, 10)
    session.request(0.0)
    return session


def test_the_first_request_names_everything_and_later_ones_what_changed() -> None:
    session = FollowerSession()
    session.follow(1, 3, 10, 2, 8)
    session.follow(2, 3, 0, -1, 0)
    named, forgotten = session.request(0.0)
    assert [tuple(each) for each in named] == [(1, 3, 10, 2, 8), (2, 3, 0, -1, 0)]
    assert forgotten == ()
    assert session.request(0.0) == ((), ())
    session.positioned(2, 4, 3)
    session.forget(1)
    named, forgotten = session.request(0.0)
    assert [each.partition_id for each in named] == [2]
    assert forgotten == (1,)


def test_a_new_connection_names_everything_again() -> None:
    session = session_of(1, 2)
    session.restart()
    assert len(session.request(0.0)[0]) == 2


def test_data_is_appended() -> None:
    answer = data_of(1, high_watermark=7, log_start_offset=2, batches=b"...")
    assert session_of(1).received((answer,), 0.0) == [Append(1, b"...", 7, 2)]


def test_an_answer_of_another_epoch_is_dropped() -> None:
    session = session_of(1)
    session.follow(1, 4, 10, 2, 10)
    session.request(0.0)
    assert session.received((data_of(1, epoch=3, batches=b"..."),), 0.0) == []


def test_an_answer_to_a_request_from_before_the_log_was_moved_is_dropped() -> None:
    """A replica that went, and came back empty, was offered what had been asked for before.

    Simulated seed 8100655.
    """
    session = session_of(1, 2)
    session.forget(1)
    session.follow(1, 3, 0, -1, 0)
    assert [each.partition_id for each in session.request(0.0)[0]] == [1]
    for late in (
        data_of(1, batches=b"..."),
        data_of(1, error=int(ErrorCode.OFFSET_OUT_OF_RANGE), log_start_offset=7),
        data_of(1, diverging_epoch=2, diverging_end=4),
    ):
        copied = copy.deepcopy(session)
        other = data_of(2, batches=b"2")
        assert copied.received((late, other), 0.0) == [Append(2, b"2", 0, 0)]
        assert not copied.in_step(1, 0.0, 1.0)
        assert copied.received((data_of(1, batches=b"new"),), 0.0) == [Append(1, b"new", 0, 0)]


def test_requests_are_counted_by_connection() -> None:
    session = session_of(1)
    session.request(0.0)
    session.restart()
    session.request(0.0)
    assert session.received((data_of(1, batches=b"..."),), 0.0) == [Append(1, b"...", 0, 0)]


def test_an_answer_that_the_log_was_moved_under_is_dropped() -> None:
    session = session_of(1)
    session.positioned(1, 5, 2)
    assert session.received((data_of(1, batches=b"..."),), 0.0) == []


def test_divergence_truncates_and_takes_durability_back() -> None:
    session = session_of(1)
    answer = data_of(1, diverging_epoch=1, diverging_end=6)
    assert session.received((answer,), 0.0) == [Truncate(1, EpochEnd(1, 6))]
    session.positioned(1, 6, 1)
    assert session.partitions[1].durable == 6
    assert not session.synced(1, 3, 6)
    session.positioned(1, 9, 3)
    assert session.partitions[1].durable == 6, "what replaced it is not synced"
    assert session.synced(1, 3, 9)


def test_a_sync_of_an_earlier_epoch_does_not_count() -> None:
    session = session_of(1)
    session.follow(1, 4, 20, 2, 10)
    assert not session.synced(1, 3, 20)
    assert session.partitions[1].durable == 10


def test_out_of_range_starts_over() -> None:
    answer = data_of(1, error=ErrorCode.OFFSET_OUT_OF_RANGE, log_start_offset=50)
    assert session_of(1).received((answer,), 0.0) == [StartOver(1, 50)]


def test_an_error_is_asked_again_after_a_pause() -> None:
    session = session_of(1)
    assert session.received((data_of(1, error=ErrorCode.NOT_LEADER),), 5.0) == []
    assert session.request(5.0) == ((), ())
    assert session.retry_at_s == 5.0 + RETRY_S
    assert [each.partition_id for each in session.request(5.0 + RETRY_S)[0]] == [1]


def test_what_could_not_be_carried_out_is_asked_again_after_a_pause() -> None:
    session = session_of(1)
    answer = data_of(1, error=ErrorCode.OFFSET_OUT_OF_RANGE, log_start_offset=20)
    assert session.received((answer,), 5.0) == [StartOver(1, 20)]
    session.positioned(1, 10, 2)
    session.rests(1, 5.0)
    assert session.request(5.0) == ((), ())
    assert session.received((answer,), 5.1) == []
    assert session.retry_at_s == 5.0 + RETRY_S
    assert len(session.request(5.0 + RETRY_S)[0]) == 1
