"""Brokers whose storage takes no writes: who leads instead, and when they are tried again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from streambus_broker.cluster import commands as c
from streambus_broker.cluster.storage_watch import Trials
from streambus_protocol import ErrorCode
from tests.cluster.test_state import (
    apply,
    cluster,
    fence,
    in_sync,
    part,
    refused,
    register,
    topic_of,
)

if TYPE_CHECKING:
    from streambus_broker.cluster.state import ClusterState


def set_read_only(state: ClusterState, broker: int, *, on: bool = True) -> None:
    apply(state, c.SetReadOnly(broker, state.brokers[broker].epoch, on))


def test_a_leader_that_cannot_write_hands_over_and_leaves_the_in_sync_set() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    before = part(state).leader_epoch
    set_read_only(state, first)
    assert (part(state).leader, part(state).leader_epoch) == (second, before + 1)
    assert part(state).in_sync == (second, third)
    assert not state.brokers[first].leads
    assert apply(state, c.ElectLeaders(None, unclean=False)).answer == 0, "it is not preferred now"
    assert refused(state, in_sync(state, first, second, third)) is ErrorCode.STALE_BROKER_EPOCH
    set_read_only(state, first, on=False)
    assert part(state).leader == second, "it has to catch up first"
    apply(state, in_sync(state, first, second, third))
    assert apply(state, c.ElectLeaders(None, unclean=False)).answer == 1
    assert part(state).leader == first


def test_a_leader_without_an_heir_stays_and_hands_over_to_the_first_that_catches_up() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    fence(state, second, third)
    in_sync_then = part(state).in_sync
    set_read_only(state, first)
    assert part(state).leader == first, "it is read from"
    assert part(state).in_sync == in_sync_then
    apply(state, register(third))
    if third not in part(state).in_sync:
        apply(state, in_sync(state, first, *in_sync_then, third))
    assert part(state).leader == third


def test_when_nobody_can_write_somebody_is_read_from() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    for broker in (first, second, third):
        set_read_only(state, broker)
    assert part(state).leader == third
    assert len(part(state).in_sync) == 2, "the minimum stays"
    fence(state, third)
    assert part(state).leader == second, "the other one that is in sync"
    apply(state, register(third))
    assert state.brokers[third].read_only, "a restart makes no room"
    assert part(state).leader == second, "nobody is better"
    set_read_only(state, first, on=False)
    assert part(state).leader == second, "that one is not in sync"
    apply(state, in_sync(state, first, second, third))
    assert part(state).leader == first
    assert set(part(state).in_sync) in ({first, second}, {first, third}), "the minimum stays"


def test_an_empty_disk_is_not_read_only() -> None:
    state = cluster()
    set_read_only(state, 1)
    fence(state, 1)
    apply(state, register(1, b"new disk"))
    assert not state.brokers[1].read_only


def test_a_stale_session_is_not_judged() -> None:
    state = cluster()
    epoch = state.brokers[1].epoch
    apply(state, register(1))
    assert refused(state, c.SetReadOnly(1, epoch, True)) is ErrorCode.STALE_BROKER_EPOCH


def test_new_partitions_are_led_by_those_that_can_write() -> None:
    state = cluster(4)
    set_read_only(state, 1)
    apply(state, topic_of("more", 8))
    for record in state.topics["more"].partitions:
        assert record.leader != 1
        assert 1 not in record.in_sync


def test_maintenance_of_the_last_in_sync_replica_keeps_it_leading_when_others_die() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    fence(state, second, third)
    apply(state, c.SetMaintenance(first, True))
    assert part(state).leader == first
    held = part(state).in_sync
    apply(state, register(second))
    if second not in held:
        apply(state, in_sync(state, first, second))
    assert part(state).leader == second
    fence(state, second)
    if first in part(state).in_sync:
        assert part(state).leader == first, "else it could not even be read"


def test_the_state_survives_its_snapshot() -> None:
    state = cluster()
    set_read_only(state, 2)
    again = type(state)()
    again.load(state.encode())
    assert again.brokers == state.brokers


# --- trials --------------------------------------------------------------------------------------


def test_a_storage_is_tried_at_once_and_then_once_a_second() -> None:
    trials = Trials()
    trials.broke(5.0)
    assert trials.begin(5.0)
    assert not trials.begin(9.0), "the first has no end yet"
    trials.ended(9.0, passed=False)
    assert not trials.begin(9.9)
    assert trials.begin(10.0)
    trials.ended(10.0, passed=True)
    assert trials.sound
    assert not trials.begin(math.inf)


def test_what_breaks_again_soon_is_tried_more_and_more_seldom() -> None:
    trials, now_s, waits = Trials(), 0.0, []
    for _ in range(8):
        trials.broke(now_s)
        broke_s = now_s
        while not trials.begin(now_s):
            now_s += 0.5
        waits.append(now_s - broke_s)
        trials.ended(now_s, passed=True)
        now_s += 1.0
    assert waits == [0.0, 2.0, 4.0, 8.0, 16.0, 32.0, 32.0, 32.0]
    now_s += 100.0
    trials.broke(now_s)
    trials.broke(now_s + 0.5)
    assert not trials.begin(now_s + 0.9)
    assert trials.begin(now_s + 1.0)
