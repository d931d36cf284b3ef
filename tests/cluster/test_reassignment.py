"""Moving a partition: what is committed stays on as many disks as it must be, at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.cluster import reassignment
from streambus_broker.cluster.election import Electable, min_in_sync_of
from streambus_broker.metadata.records import PartitionRecord
from streambus_broker.metadata.registry import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

ABLE = Electable({1, 2, 3, 4, 5})


def moving(in_sync: tuple[int, ...]) -> PartitionRecord:
    """A partition on its way from 1, 2, 3 to 2, 3, 4."""
    return PartitionRecord(
        7, (2, 3, 4, 1), in_sync[0], 3, in_sync, partition_epoch=9, adding=(4,), removing=(1,)
    )


def test_finish_waits_until_enough_of_those_who_stay_are_in_sync() -> None:
    """Broker 4 alone would have been left with what 1 and 4 had committed."""
    lagging = moving((4, 1))
    assert reassignment.finish(lagging, ABLE, {}) is lagging
    done = reassignment.finish(moving((2, 4, 1)), ABLE, {})
    assert (done.replicas, done.in_sync) == ((2, 3, 4), (2, 4))
    everybody: dict[str, int | bool | str] = {"min_insync_replicas": 3}
    assert reassignment.finish(moving((2, 4, 1)), ABLE, everybody).removing == (1,)


def test_cancel_is_refused_while_too_few_of_the_former_are_in_sync() -> None:
    with pytest.raises(CommandError, match="only \\[1\\] are in sync"):
        reassignment.cancel(moving((4, 1)), ABLE, {})
    assert reassignment.cancel(moving((2, 4, 1)), ABLE, {}).in_sync == (2, 1)


def test_a_redirection_is_refused_that_drops_who_is_needed() -> None:
    with pytest.raises(CommandError, match="only \\[1\\] are in sync"):
        reassignment.begin(moving((4, 1)), (1, 2, 5), ABLE, {})


@given(
    st.permutations([1, 2, 3, 4, 5]).map(lambda each: tuple(each[:3])),
    st.permutations([1, 2, 3, 4, 5]).map(lambda each: tuple(each[:3])),
    st.sets(st.integers(1, 5), min_size=2),
)
def test_no_step_leaves_fewer_in_sync_than_the_minimum(
    target: tuple[int, ...], other: tuple[int, ...], synced: set[int]
) -> None:
    record = PartitionRecord(7, (1, 2, 3), 1, 3, (1, 2))
    moved = reassignment.begin(record, target, ABLE, {})
    in_sync = tuple(each for each in moved.replicas if each in synced)
    if len(in_sync) < min_in_sync_of(moved, {}):
        return
    steps: tuple[Callable[[], PartitionRecord], ...] = (
        lambda: reassignment.finish(moved, ABLE, {}),
        lambda: reassignment.begin(moved, other, ABLE, {}),
        lambda: reassignment.cancel(moved, ABLE, {}),
    )
    for step in steps:
        try:
            after = step()
        except CommandError:
            continue
        assert len(after.in_sync) >= min_in_sync_of(after, {})
        assert after.leader in after.in_sync
