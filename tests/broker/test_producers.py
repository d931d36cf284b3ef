"""A partition tells the next batch of a producer from a repeated, a lost and a fenced one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.log.producers import (
    BATCHES_REMEMBERED,
    SEQUENCE_MASK,
    IdleProducers,
    ProducerLimits,
    ProducerStates,
    SequenceError,
)
from streambus_protocol import ErrorCode
from tests.cluster.batches import header_of


def appended(states: ProducerStates, *batches: tuple[int, int], epoch: int = 0) -> None:
    """Append batches of (count, sequence); offsets follow each other."""
    offset = 100
    for count, sequence in batches:
        header = header_of(count, 7, epoch, sequence)
        assert states.check(header) is None
        states.appended(header, offset)
        offset += count


def refusal(states: ProducerStates, count: int, epoch: int, sequence: int) -> ErrorCode:
    with pytest.raises(SequenceError) as refused:
        states.check(header_of(count, 7, epoch, sequence))
    return refused.value.code


def test_batches_that_follow_each_other_are_taken() -> None:
    appended(ProducerStates(), (3, 0), (1, 3), (5, 4))


def test_a_repeated_batch_is_answered_with_its_offset() -> None:
    states = ProducerStates()
    appended(states, (3, 0), (2, 3), (1, 5))
    known = states.check(header_of(2, 7, 0, 3))
    assert known is not None
    assert (known.base_offset, known.last_offset) == (103, 104)


def test_a_gap_is_refused() -> None:
    states = ProducerStates()
    appended(states, (3, 0))
    assert refusal(states, 1, 0, 4) is ErrorCode.OUT_OF_ORDER_SEQUENCE


def test_a_batch_that_overlaps_is_refused() -> None:
    states = ProducerStates()
    appended(states, (3, 0))
    assert refusal(states, 2, 0, 0) is ErrorCode.OUT_OF_ORDER_SEQUENCE


def test_an_unknown_producer_has_to_begin_at_0() -> None:
    assert refusal(ProducerStates(), 1, 0, 1) is ErrorCode.UNKNOWN_PRODUCER_ID


def test_an_old_epoch_is_fenced() -> None:
    states = ProducerStates()
    appended(states, (1, 0), epoch=2)
    assert refusal(states, 1, 1, 1) is ErrorCode.INVALID_PRODUCER_EPOCH


def test_a_new_epoch_begins_at_0() -> None:
    states = ProducerStates()
    appended(states, (4, 0), epoch=1)
    assert refusal(states, 1, 2, 4) is ErrorCode.OUT_OF_ORDER_SEQUENCE
    assert states.check(header_of(1, 7, 2, 0)) is None


def test_sequence_numbers_wrap_around() -> None:
    states = ProducerStates()
    states.appended(header_of(2, 7, 0, SEQUENCE_MASK), 0)
    assert states.check(header_of(1, 7, 0, 1)) is None


def test_a_batch_without_epoch_is_refused() -> None:
    assert refusal(ProducerStates(), 1, -1, 0) is ErrorCode.INVALID_REQUEST


def test_a_batch_from_before_the_remembered_ones_is_said_to_be_there() -> None:
    states = ProducerStates()
    appended(states, *[(2, 2 * number) for number in range(BATCHES_REMEMBERED + 2)])
    assert refusal(states, 2, 0, 0) is ErrorCode.DUPLICATE_SEQUENCE
    assert refusal(states, 2, 0, 2) is ErrorCode.DUPLICATE_SEQUENCE
    assert refusal(states, 2, 0, 3) is ErrorCode.OUT_OF_ORDER_SEQUENCE  # half of it is remembered
    assert states.check(header_of(2, 7, 0, 4)) is not None


def test_idle_producers_are_forgotten() -> None:
    states = ProducerStates()
    appended(states, (1, 0))
    assert states.expire(2) == 0
    appended(states, (1, 1))
    assert [states.expire(2) for _ in range(3)] == [0, 0, 1]
    assert len(states) == 0


def test_rounds_of_forgetting_add_up_to_the_time_that_was_set() -> None:
    day = IdleProducers(24 * 3600 * 1000, 0.0)
    assert day.due(59.0) == 0
    assert day.due(60.0) == 24 * 60
    assert day.due(119.0) == 0
    assert IdleProducers(1_000, 0.0).due(1.0) == 1


def begin(states: ProducerStates, producers: range) -> None:
    for producer in producers:
        states.appended(header_of(1, producer, 0, 0), producer)


def test_a_partition_forgets_the_longest_silent_beyond_its_limit() -> None:
    limits = ProducerLimits(partition_max=16)
    states = ProducerStates(limits)
    begin(states, range(16))
    states.appended(header_of(1, 0, 0, 1), 16)  # the first of them is busy again
    begin(states, range(17, 1_000))
    assert len(states) <= 16
    assert limits.count == len(states)
    assert states.check(header_of(1, 999, 0, 1)) is None
    with pytest.raises(SequenceError):
        states.check(header_of(1, 1, 0, 1))


def test_a_busy_producer_outlives_strangers() -> None:
    states = ProducerStates(ProducerLimits(partition_max=16))
    for number in range(200):
        states.appended(header_of(1, 10**6, 0, number), 2 * number)
        states.appended(header_of(1, number, 0, 0), 2 * number + 1)
    assert states.check(header_of(1, 10**6, 0, 200)) is None


def test_all_partitions_together_keep_to_the_limit_of_the_broker() -> None:
    limits = ProducerLimits(partition_max=16, broker_max=40)
    partitions = [ProducerStates(limits) for _ in range(10)]
    for states in partitions:
        begin(states, range(100))
    assert limits.count == sum(map(len, partitions)) <= 40 + len(partitions)
    for states in partitions:
        states.clear()
    assert limits.count == 0


@pytest.mark.parametrize(
    ("epoch", "sequence"), [(0, SEQUENCE_MASK), (0, 2**30), (2**15 - 1, SEQUENCE_MASK), (0, 1)]
)
def test_wild_sequence_numbers_are_refused_and_change_nothing(epoch: int, sequence: int) -> None:
    states = ProducerStates()
    assert refusal(states, 1, epoch, sequence) is ErrorCode.UNKNOWN_PRODUCER_ID
    appended(states, (3, 0))
    assert refusal(states, 1, epoch, sequence) in (
        ErrorCode.OUT_OF_ORDER_SEQUENCE,
        ErrorCode.DUPLICATE_SEQUENCE,
    )
    assert states.check(header_of(1, 7, 0, 3)) is None


@pytest.mark.parametrize("stamp", [(7, 0, -1), (7, -1, 0), (-2, 0, 0), (-(2**63), -1, -1)])
def test_negative_numbers_are_refused(stamp: tuple[int, int, int]) -> None:
    with pytest.raises(SequenceError) as refused:
        ProducerStates().check(header_of(1, *stamp))
    assert refused.value.code is ErrorCode.INVALID_REQUEST


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.data())
def test_any_retry_of_the_last_batches_is_found_again(
    counts: list[int], data: st.DataObject
) -> None:
    states = ProducerStates()
    sequence = 0
    batches = []
    for count in counts:
        batches.append((count, sequence))
        sequence += count
    appended(states, *batches)
    restored = ProducerStates()
    assert restored.load(states.encode(100 + sequence)) == 100 + sequence
    index = data.draw(st.integers(max(0, len(batches) - BATCHES_REMEMBERED), len(batches) - 1))
    count, first = batches[index]
    for known in (
        states.check(header_of(count, 7, 0, first)),
        restored.check(header_of(count, 7, 0, first)),
    ):
        assert known is not None
        assert known.base_offset == 100 + first


def test_a_damaged_snapshot_is_refused_and_leaves_nothing() -> None:
    states = ProducerStates()
    appended(states, (1, 0))
    with pytest.raises(ValueError, match="producer snapshot"):
        states.load(b"\x92\x01\x91\x05")
    assert len(states) == 0
