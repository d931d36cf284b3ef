"""One broker takes everything over from another: what is planned, refused, and called off."""

from __future__ import annotations

import pytest

from streambus_broker.cluster import commands as c
from streambus_broker.cluster import replacing
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import ErrorCode
from tests.cluster.test_state import apply, cluster, fence, part, refused, register, topic_of


def test_the_new_broker_takes_the_place_of_the_old_one() -> None:
    state = cluster(3)
    apply(state, register(4))
    before = part(state).replicas
    for old in before:
        (move,) = replacing.plan(state, old, 4)
        assert move.target == tuple(4 if each == old else each for each in before)
    assert replacing.plan(state, 4, 1) == []  # it holds nothing


def test_what_the_new_broker_holds_already_goes_to_a_third_one() -> None:
    state = cluster(4)
    held = part(state).replicas
    (outside,) = {1, 2, 3, 4} - set(held)
    old, new = held[1], held[2]
    (move,) = replacing.plan(state, old, new)
    assert move.target == tuple(outside if each == old else each for each in held)


def test_without_a_third_one_it_is_refused() -> None:
    state = cluster(3)
    old, new = part(state).replicas[:2]
    with pytest.raises(CommandError, match="add one, or lower the replication factor"):
        replacing.plan(state, old, new)


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    state = cluster(5)
    assert refused(state, c.ReplaceBroker(1, 9)) == ErrorCode.UNKNOWN_BROKER
    assert refused(state, c.ReplaceBroker(9, 1)) == ErrorCode.UNKNOWN_BROKER
    assert refused(state, c.ReplaceBroker(1, 1)) == ErrorCode.INVALID_REQUEST
    assert refused(state, c.CancelReplace(1)) == ErrorCode.NO_REASSIGNMENT
    apply(state, c.SetMaintenance(4, on=True))
    assert refused(state, c.ReplaceBroker(1, 4)) == ErrorCode.INVALID_REQUEST
    apply(state, c.SetMaintenance(4, on=False))
    fence(state, 4)
    assert refused(state, c.ReplaceBroker(1, 4)) == ErrorCode.INVALID_REQUEST
    apply(state, register(4))
    apply(state, c.ReplaceBroker(1, 4))
    assert refused(state, c.ReplaceBroker(1, 5)) == ErrorCode.INVALID_REQUEST
    assert refused(state, c.ReplaceBroker(4, 5)) == ErrorCode.INVALID_REQUEST  # it takes over
    assert (
        refused(state, c.ReplaceBroker(2, 1)) == ErrorCode.INVALID_REQUEST
    )  # it is on its way out


def test_called_off_everything_goes_back_into_its_place() -> None:
    state = cluster(3, topic=False)
    apply(state, topic_of(partitions=3))
    before = [each.replicas for each in state.topics["t"].partitions]
    apply(state, register(4))
    changes = apply(state, c.ReplaceBroker(2, 4))
    assert changes.answer == 3
    assert state.brokers[2].replaced_by == 4
    assert not state.brokers[2].takes_replicas
    assert all(each.adding == (4,) for each in state.topics["t"].partitions)
    assert all(each.removing == (2,) for each in state.topics["t"].partitions)
    apply(state, c.CancelReplace(2))
    assert [each.replicas for each in state.topics["t"].partitions] == before
    assert all(not each.adding and not each.removing for each in state.topics["t"].partitions)
    assert state.brokers[2].takes_replicas


def test_what_is_finished_stays_when_the_rest_is_called_off() -> None:
    state = cluster(3, topic=False)
    apply(state, topic_of(partitions=2))
    apply(state, register(4))
    apply(state, c.ReplaceBroker(2, 4))
    first = state.topics["t"].partitions[0]
    members = tuple((each, state.brokers[each].epoch) for each in sorted(first.replicas))
    apply(
        state,
        c.AlterInSync("t", 0, first.leader, first.leader_epoch, first.partition_epoch, members),
    )
    assert [name for name, number, _ in replacing.held_by(state, 2)] == ["t"]
    apply(state, c.CancelReplace(2))
    one, other = state.topics["t"].partitions
    assert 4 in one.replicas
    assert 2 not in one.replicas
    assert 4 not in other.replicas
    assert 2 in other.replicas
