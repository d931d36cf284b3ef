"""The metadata state machine: what commands change, and what must never happen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streambus_broker.cluster import commands as c
from streambus_broker.cluster.commands import ClusterCommand, decode_command, encode_command
from streambus_broker.cluster.state import ClusterState
from streambus_broker.metadata.registry import (
    AlterTopic,
    CommandError,
    CreateTopic,
    DeleteTopic,
    TakeProducerIds,
)
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from streambus_broker.cluster.changes import ClusterChanges
    from streambus_broker.metadata.records import PartitionRecord


def apply(state: ClusterState, command: ClusterCommand) -> ClusterChanges:
    """Carry a command out, by way of its form in the log."""
    state.index += 1
    changes = state.judge(state.index, decode_command(encode_command(command)))
    state.adopt(changes)
    return changes


def register(broker: int, storage: bytes = b"", rack: str | None = None) -> c.RegisterBroker:
    return c.RegisterBroker(broker, b"i", storage or b"s%d" % broker, "host", 9000, rack)


def topic_of(name: str = "t", partitions: int = 1, factor: int = 3) -> CreateTopic:
    return CreateTopic(name, name.encode() * 16, partitions, factor, {}, (), 1000)


def cluster(brokers: int = 3, *, topic: bool = True) -> ClusterState:
    state = ClusterState()
    apply(state, c.FormCluster("id"))
    for broker in range(1, brokers + 1):
        apply(state, register(broker))
    if topic:
        apply(state, topic_of())
    return state


def part(state: ClusterState) -> PartitionRecord:
    return state.topics["t"].partitions[0]


def fence(state: ClusterState, *brokers: int) -> None:
    for broker in brokers:
        apply(state, c.FenceBroker(broker, state.brokers[broker].epoch))


def in_sync(state: ClusterState, *members: int) -> c.AlterInSync:
    record = part(state)
    epochs = tuple((each, state.brokers[each].epoch) for each in members)
    return c.AlterInSync("t", 0, record.leader, record.leader_epoch, record.partition_epoch, epochs)


def refused(state: ClusterState, command: ClusterCommand) -> ErrorCode:
    before = state.encode()
    with pytest.raises(CommandError) as error:
        state.judge(state.index + 1, decode_command(encode_command(command)))
    assert state.encode() == before
    return error.value.code


# --- forming -------------------------------------------------------------------------------------


def test_the_first_id_stays() -> None:
    state = cluster()
    assert apply(state, c.FormCluster("other")).answer == "id"
    assert state.cluster.cluster_id == "id"


def test_a_second_broker_with_the_same_id_is_refused_while_the_first_lives() -> None:
    state = cluster()
    assert refused(state, register(2, b"another disk")) is ErrorCode.DUPLICATE_BROKER
    fence(state, 2)
    assert "another data directory" in apply(state, register(2, b"another disk")).warnings[0]


def test_a_restart_raises_the_leader_epoch_of_what_it_led() -> None:
    state = cluster()
    leader, epoch = part(state).leader, part(state).leader_epoch
    apply(state, register(leader))
    assert part(state).leader_epoch == epoch + 1
    assert part(state).in_sync == part(state).replicas


# --- death ---------------------------------------------------------------------------------------


def test_a_dead_leader_is_replaced_from_the_in_sync_set() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    fence(state, first)
    assert part(state).leader == second
    assert part(state).leader_epoch == 1
    assert part(state).in_sync == (second, third)


def test_the_in_sync_set_never_dies_below_the_minimum() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    fence(state, first, second)
    assert part(state).leader == third
    assert part(state).in_sync == (second, third), "second counts until it is back"
    fence(state, third)
    assert part(state).leader == -1
    assert part(state).in_sync == (second, third)
    apply(state, register(first))
    assert part(state).leader == -1, "it is not known to have everything"
    apply(state, register(second))
    assert part(state).leader == second


def test_who_lost_the_disk_leaves_every_in_sync_set() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    fence(state, first, second, third)
    apply(state, register(third, b"new"))
    assert part(state).in_sync == (second,)
    assert part(state).leader == -1


def test_a_stale_session_cannot_be_ended() -> None:
    state = cluster()
    assert refused(state, c.FenceBroker(1, 0)) is ErrorCode.STALE_BROKER_EPOCH
    fence(state, 1)
    assert refused(state, c.FenceBroker(1, state.brokers[1].epoch)) is ErrorCode.STALE_BROKER_EPOCH


def test_who_asks_names_its_present_session_or_has_to_ask_again() -> None:
    state = cluster()

    def code(epoch: int, incarnation: bytes = b"i", broker: int = 2) -> ErrorCode:
        with pytest.raises(CommandError) as error:
            state.broker_asking(broker, epoch, incarnation)
        return error.value.code

    known = state.brokers[2].epoch
    assert state.broker_asking(2, known, b"i") is state.brokers[2]
    assert code(known - 1) is ErrorCode.STALE_BROKER_EPOCH
    assert code(known, b"another process") is ErrorCode.STALE_BROKER_EPOCH
    assert code(known, broker=9) is ErrorCode.STALE_BROKER_EPOCH
    assert code(state.index) is ErrorCode.STALE_BROKER_EPOCH
    ahead = state.index + 1  # it has applied its registration; this broker has not yet
    assert code(ahead) is code(ahead, broker=9) is ErrorCode.OFFSET_NOT_AVAILABLE
    assert ErrorCode.OFFSET_NOT_AVAILABLE.retriable
    apply(state, register(2))
    assert state.broker_asking(2, ahead, b"i").epoch == ahead
    fence(state, 2)
    assert code(ahead) is ErrorCode.STALE_BROKER_EPOCH


def test_leaving_moves_leadership_first() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    apply(state, c.LeaveBroker(first, state.brokers[first].epoch))
    assert part(state).leader == second
    assert part(state).in_sync == (second, third)
    assert refused(state, in_sync(state, 1, 2, 3)) is ErrorCode.STALE_BROKER_EPOCH


def test_maintenance_keeps_leadership_away_until_it_ends() -> None:
    state = cluster()
    first, second, _ = part(state).replicas
    apply(state, c.SetMaintenance(first, True))
    assert part(state).leader == second
    apply(state, c.ElectLeaders(None, unclean=False))
    assert part(state).leader == second
    apply(state, c.SetMaintenance(first, False))
    assert apply(state, c.ElectLeaders(None, unclean=False)).answer == 1
    assert part(state).leader == first


def test_unclean_election_takes_anybody_and_says_so() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    fence(state, first)
    fence(state, second, third)
    apply(state, register(first))
    assert apply(state, c.ElectLeaders(None, unclean=False)).answer == 0
    changes = apply(state, c.ElectLeaders((("t", 0),), unclean=True))
    assert "acknowledged records may be lost" in changes.warnings[0]
    assert (part(state).leader, part(state).in_sync) == (first, (first,))


# --- in-sync sets --------------------------------------------------------------------------------


def test_a_leader_changes_the_in_sync_set() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    apply(state, in_sync(state, first, third))
    assert part(state).in_sync == (first, third)
    apply(state, in_sync(state, first, second, third))
    assert part(state).in_sync == (first, second, third)


def test_a_leader_cannot_shrink_below_the_minimum() -> None:
    state = cluster()
    leader = part(state).leader
    apply(state, in_sync(state, leader))
    assert len(part(state).in_sync) == 2
    assert leader in part(state).in_sync


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"leader_epoch": 9}, ErrorCode.FENCED_LEADER_EPOCH),
        ({"leader": 9}, ErrorCode.FENCED_LEADER_EPOCH),
        ({"partition_epoch": 9}, ErrorCode.STALE_PARTITION_EPOCH),
        ({"members": ((9, 1),)}, ErrorCode.INVALID_REQUEST),
        ({"partition": 5}, ErrorCode.UNKNOWN_PARTITION),
        ({"topic": "x"}, ErrorCode.UNKNOWN_TOPIC),
    ],
)
def test_a_wrong_request_changes_nothing(change: dict[str, object], code: ErrorCode) -> None:
    state = cluster()
    assert refused(state, replace(in_sync(state, 1, 2), **change)) is code  # type: ignore[arg-type]  # by name


def test_a_request_that_was_overtaken_is_refused() -> None:
    state = cluster()
    leader = part(state).leader
    overtaken = in_sync(state, 1, 2)
    apply(state, in_sync(state, leader, min({1, 2, 3} - {leader})))
    assert overtaken.partition_epoch < part(state).partition_epoch
    assert refused(state, overtaken) is ErrorCode.STALE_PARTITION_EPOCH


def test_a_member_that_began_a_new_session_is_not_taken_in_for_the_old_one() -> None:
    state = cluster()
    first, second, third = part(state).replicas
    fence(state, third)
    asked = in_sync(state, first, second, third)
    apply(state, register(third, b"new disk"))
    assert refused(state, replace(asked, partition_epoch=part(state).partition_epoch)) is (
        ErrorCode.STALE_BROKER_EPOCH
    )


def asked_for(state: ClusterState, number: int, *members: int) -> tuple[Any, ...]:
    record = state.topics["many"].partitions[number]
    epochs = tuple((each, state.brokers[each].epoch) for each in members)
    return (
        "many", number, record.partition_id, record.leader_epoch, record.partition_epoch, epochs
    )  # fmt: skip


def test_many_sets_are_judged_each_by_itself() -> None:
    state = cluster(topic=False)
    apply(state, topic_of("many", 9))
    fence(state, 3)
    apply(state, register(3))
    led = [
        number for number, record in enumerate(state.topics["many"].partitions)
        if record.leader == 1
    ]  # fmt: skip
    good, stale, twice, foreign = led[0], led[1], led[2], next(iter({*range(9)} - {*led}))
    before = state.topics["many"].partitions
    old = asked_for(state, stale, 1, 2, 3)
    wanted = (
        asked_for(state, good, 1, 2, 3),
        (*old[:4], old[4] - 1, old[5]),
        asked_for(state, twice, 1, 2, 3),
        asked_for(state, twice, 1, 2),
        asked_for(state, foreign, 1, 2, 3),
        ("gone", 0, 1, 0, 0, ((1, state.brokers[1].epoch),)),
        (*old[:2], old[2] - 9, *old[3:]),
    )
    changes = apply(state, c.AlterInSyncs(1, wanted))
    assert changes.answer == [
        0, ErrorCode.STALE_PARTITION_EPOCH, 0, ErrorCode.STALE_PARTITION_EPOCH,
        ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.UNKNOWN_TOPIC, ErrorCode.UNKNOWN_PARTITION,
    ]  # fmt: skip
    now = state.topics["many"].partitions
    assert set(now[good].in_sync) == set(now[twice].in_sync) == {1, 2, 3}
    assert all(
        after is record
        for number, (after, record) in enumerate(zip(now, before, strict=True))
        if number not in (good, twice)
    )


# --- reassignment --------------------------------------------------------------------------------


def moved() -> ClusterState:
    state = cluster(5)
    replicas = part(state).replicas
    others = tuple(each for each in (1, 2, 3, 4, 5) if each not in replicas)
    apply(state, c.Reassign((("t", 0, (*others, replicas[0])),)))
    return state


def test_a_move_adds_waits_for_them_and_drops_the_others() -> None:
    state = cluster(5)
    a, b, gone = part(state).replicas
    d, e = (each for each in (1, 2, 3, 4, 5) if each not in (a, b, gone))
    apply(state, c.Reassign((("t", 0, (d, e, a)),)))
    assert part(state).adding == (d, e)
    assert set(part(state).removing) == {b, gone}
    assert part(state).leader == a
    apply(state, in_sync(state, a, b, d))
    assert part(state).adding == (d, e), "one is still missing"
    apply(state, in_sync(state, a, b, d, e))
    assert part(state).replicas == (d, e, a)
    assert part(state).adding == part(state).removing == ()
    assert part(state).in_sync == (d, e, a)


def test_a_leader_that_leaves_hands_over() -> None:
    state = cluster(4)
    leader, *others = part(state).replicas
    target = tuple(each for each in (1, 2, 3, 4) if each != leader)
    apply(state, c.Reassign((("t", 0, target),)))
    assert part(state).leader == leader
    apply(state, in_sync(state, 1, 2, 3, 4))
    assert part(state).leader in others or part(state).leader in target
    assert leader not in part(state).replicas


def test_a_move_can_be_cancelled() -> None:
    state = moved()
    before = cluster(5)
    apply(state, c.Reassign((("t", 0, None),)))
    assert set(part(state).replicas) == set(part(before).replicas)
    assert part(state).adding == part(state).removing == ()
    assert refused(state, c.Reassign((("t", 0, None),))) is ErrorCode.NO_REASSIGNMENT


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ((1, 9), ErrorCode.UNKNOWN_BROKER),
        ((1, 1), ErrorCode.INVALID_REPLICATION_FACTOR),
        ((), ErrorCode.INVALID_REPLICATION_FACTOR),
    ],
)
def test_a_move_to_nowhere_is_refused(target: tuple[int, ...], code: ErrorCode) -> None:
    assert refused(cluster(), c.Reassign((("t", 0, target),))) is code


def test_moves_are_all_or_none() -> None:
    state = cluster(4)
    assert refused(state, c.Reassign((("t", 0, (1, 2, 4)), ("t", 7, (1,))))) is (
        ErrorCode.UNKNOWN_PARTITION
    )


def test_the_replication_factor_changes_in_both_directions() -> None:
    state = cluster()
    apply(state, c.SetReplicationFactor("t", 1))
    assert part(state).replicas == (part(state).leader,)
    apply(state, c.SetReplicationFactor("t", 3))
    assert sorted(part(state).replicas) == [1, 2, 3]
    assert len(part(state).adding) == 2
    assert refused(state, c.SetReplicationFactor("t", 4)) is ErrorCode.INVALID_REPLICATION_FACTOR


# --- the rest ------------------------------------------------------------------------------------


def test_replicas_go_to_living_brokers_first() -> None:
    state = cluster(4, topic=False)
    fence(state, 2)
    apply(state, topic_of(partitions=8, factor=3))
    assert all(2 not in record.replicas for record in state.topics["t"].partitions)
    apply(state, topic_of("u", factor=4))
    (away,) = state.topics["u"].partitions
    assert away.replicas[-1] == 2
    assert set(away.in_sync) == {1, 3, 4}
    assert refused(state, topic_of("v", factor=5)) is ErrorCode.INVALID_REPLICATION_FACTOR


def test_a_broker_that_holds_something_is_not_removed() -> None:
    state = cluster()
    assert refused(state, c.RemoveBroker(1)) is ErrorCode.INVALID_REQUEST
    apply(state, DeleteTopic("t"))
    apply(state, c.RemoveBroker(1))
    assert refused(state, c.RemoveBroker(1)) is ErrorCode.UNKNOWN_BROKER


def test_producer_ids_are_handed_out_once() -> None:
    state = cluster()
    first = apply(state, TakeProducerIds(1000)).answer
    assert apply(state, TakeProducerIds(1000)).answer == first + 1000


@pytest.mark.parametrize("data", [b"", b"\x93\x02\x01\x01", b"\x92\x01\x63", b"\x92\x01\x02"])
def test_what_is_no_command_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="metadata command"):
        decode_command(data)


@pytest.mark.parametrize("data", [b"", b"\x91\x01", b"\x96\x09\x00\x00\x00\x00\x00"])
def test_what_is_no_snapshot_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="snapshot"):
        ClusterState().load(data)


brokers = st.integers(1, 5)
steps = st.one_of(
    st.tuples(st.just("register"), brokers, st.booleans()),
    st.tuples(st.sampled_from(["fence", "leave", "maintain", "back"]), brokers, st.just(False)),
    st.tuples(st.just("in_sync"), st.integers(1, 31), st.booleans()),
    st.tuples(st.just("reassign"), st.integers(1, 31), st.booleans()),
    st.tuples(st.sampled_from(["elect", "more"]), brokers, st.just(False)),
    st.tuples(st.just("full"), brokers, st.booleans()),
)


def command_of(state: ClusterState, what: str, number: int, flag: bool) -> ClusterCommand:
    chosen = tuple(each for each in range(1, 6) if number >> (each - 1) & 1)
    broker = state.brokers[min(number, 5)]
    match what:
        case "register":
            return register(number, b"other%d" % state.index if flag and broker.fenced else
                            broker.storage_id)  # fmt: skip
        case "fence":
            return c.FenceBroker(number, broker.epoch)
        case "leave":
            return c.LeaveBroker(number, broker.epoch)
        case "maintain" | "back":
            return c.SetMaintenance(number, what == "maintain")
        case "full":
            return c.SetReadOnly(number, broker.epoch, flag)
        case "in_sync":
            record = part(state)
            members = {each for each in chosen if each in record.replicas} | {record.leader}
            return in_sync(state, *(members & set(state.brokers)))
        case "reassign":
            return c.Reassign((("t", 0, None if flag else chosen),))
        case "elect":
            return c.ElectLeaders(None, unclean=False)
    return AlterTopic("t", len(state.topics["t"].partitions) + 1, {}, (), (), 1000)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=40))
def test_whatever_happens_the_record_stays_whole(script: list[tuple[str, int, bool]]) -> None:
    state, mirror = cluster(5), cluster(5)
    for what, number, flag in script:
        before = part(state)
        lost_disk = False
        command = command_of(state, what, number, flag)
        try:
            changes = apply(state, command)
            lost_disk = bool(changes.warnings)
        except CommandError:
            with pytest.raises(CommandError):
                apply(mirror, command)
            continue
        apply(mirror, command)
        after = part(state)
        assert set(after.in_sync) <= set(after.replicas)
        assert after.leader == -1 or after.leader in after.in_sync
        assert after.leader == -1 or not state.brokers[after.leader].fenced
        assert after.leader in {-1, *state.able} or not state.able & {*after.in_sync}
        assert after.leader_epoch >= before.leader_epoch
        if after.leader != before.leader:
            assert after.leader_epoch > before.leader_epoch
            taken_in = {each for each, _ in getattr(command, "members", ())}
            assert after.leader in {-1, *before.in_sync} | taken_in, "it has everything"
        if after != before:
            assert after.partition_epoch > before.partition_epoch
        assert after.in_sync or lost_disk or not before.in_sync
        assert set(after.adding) <= set(after.replicas)
        assert set(after.removing) <= set(after.replicas)
    assert mirror.encode() == state.encode()
    restored = ClusterState()
    restored.load(state.encode())
    assert restored.encode() == state.encode()
    assert restored.topics == state.topics
    assert restored.brokers == state.brokers
