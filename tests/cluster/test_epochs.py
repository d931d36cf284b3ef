"""Leader epochs find the point from which two logs differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.cluster.epochs import NO_EPOCH, NOWHERE, EpochEnd, LeaderEpochs


def epochs_of(log: list[int]) -> LeaderEpochs:
    """The cache of a log that is given as the epoch of each record."""
    known = LeaderEpochs()
    for offset, epoch in enumerate(log):
        known.begin(epoch, offset)
    return known


logs = st.lists(st.integers(0, 8), max_size=20).map(sorted)


def test_an_empty_log_has_no_epoch() -> None:
    known = LeaderEpochs()
    assert known.latest == NO_EPOCH
    assert known.end_of(5, 0) == NOWHERE
    assert known.divergence(0, NO_EPOCH, 0) is None


def test_an_epoch_that_wrote_nothing_leaves_no_trace() -> None:
    known = epochs_of([1, 1])
    known.begin(2, 2)
    known.begin(3, 2)
    assert (known.epochs, known.starts) == ([1, 3], [0, 2])


@given(logs, st.integers(0, 9))
def test_the_end_of_an_epoch_is_that_of_the_records(log: list[int], epoch: int) -> None:
    end = epochs_of(log).end_of(epoch, len(log))
    before = [each for each in log if each <= epoch]
    assert end == (EpochEnd(before[-1], len(before)) if before else NOWHERE)


@given(logs, st.integers(0, 20))
def test_the_epoch_before_an_offset_is_that_of_the_record(log: list[int], offset: int) -> None:
    offset = min(offset, len(log))
    expected = log[offset - 1] if offset else NO_EPOCH
    assert epochs_of(log).epoch_before(offset) == expected


@given(st.lists(st.integers(0, 6), max_size=12).map(sorted), logs, st.integers(0, 12))
def test_a_follower_ends_up_with_a_beginning_of_the_leaders_log(
    common: list[int], theirs: list[int], more: int
) -> None:
    # Two logs with a common beginning, as elections make them: no epoch has two leaders.
    floor = common[-1] if common else 0
    leader = common + [each + floor + 1 for each in theirs if each % 2]
    follower = common + [each + floor + 1 for each in theirs if not each % 2][:more]
    leader_epochs, mine = epochs_of(leader), epochs_of(follower)
    end = len(follower)
    for _ in range(50):
        diverging = leader_epochs.divergence(end, mine.epoch_before(end), len(leader))
        if diverging is None:
            break
        assert diverging is not NOWHERE or not common
        end = 0 if diverging.end_offset < 0 else mine.common_end(diverging, end)
        mine.cut(end)
    else:
        pytest.fail("it does not come to an end")
    assert follower[:end] == leader[:end]
    assert end >= len(common), "what both have was truncated"


@given(logs, st.integers(0, 20))
def test_deleting_the_head_keeps_what_is_left(log: list[int], offset: int) -> None:
    offset = min(offset, len(log))
    known = epochs_of(log)
    known.delete_before(offset)
    for after in range(offset + 1, len(log) + 1):
        assert known.epoch_before(after) == log[after - 1]
    assert LeaderEpochs.decode(known.encode()).starts == known.starts


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x92\x91\x01\x90", b"\x92\x92\x02\x01\x92\x00\x01"]
)
def test_damaged_epochs_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a list of leader epochs"):
        LeaderEpochs.decode(data)
