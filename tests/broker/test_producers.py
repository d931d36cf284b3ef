"""A partition tells the next batch of a producer from a repeated, a lost and a fenced one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.cluster.producers import (
    BATCHES_REMEMBERED,
    PRODUCER_IDLE_MS_MAX,
    SEQUENCE_MASK,
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


def test_idle_producers_are_forgotten() -> None:
    states = ProducerStates()
    appended(states, (1, 0))
    assert states.expire(1_000 + PRODUCER_IDLE_MS_MAX) == 0
    assert states.expire(1_001 + PRODUCER_IDLE_MS_MAX) == 1
    assert len(states) == 0


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
