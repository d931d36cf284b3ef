"""While a leader owes an answer: when a client looks for another one, and what it finds."""

from __future__ import annotations

import socket
import time
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from streambus_client._addresses import Address
from streambus_client._backoff import FAILOVER_S
from streambus_client._blocking._connection import BlockingConnection
from streambus_client._operations import (
    ANSWER_S,
    LOOK_PAUSE_S,
    OVERDUE_S,
    Call,
    Looks,
    Session,
    at_leader,
    connect_patience_s,
    find_successor,
)
from streambus_client._options import ClientOptions
from streambus_client._types import TopicPartition
from streambus_client.errors import ClientError, ConnectionLostError, RequestTimedOutError
from streambus_protocol import (
    BrokerInfo,
    MetadataRequest,
    MetadataResponse,
    PartitionInfo,
    TopicInfo,
)

if TYPE_CHECKING:
    from streambus_client._operations import Operation

SILENT, OTHER = Address("a", 1), Address("b", 2)
ADDRESSES = {1: SILENT, 2: OTHER}
T0 = TopicPartition("t", 0)


def metadata(*leaders: int, brokers: tuple[int, ...] = (1, 2)) -> MetadataResponse:
    """An answer: who leads the partitions of the topic."""
    infos = tuple(BrokerInfo(node, *ADDRESSES[node], None) for node in brokers)
    partitions = tuple(
        PartitionInfo(0, number, leader, 1 if leader == 1 else 2, (1, 2), (1, 2))
        for number, leader in enumerate(leaders)
    )
    return MetadataResponse(
        "cluster", brokers[0], infos, (TopicInfo(0, "t", bytes(16), partitions),)
    )


class World:
    """A session that knows two brokers, and a time that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        options = ClientOptions.make(
            "a:1,b:2", client_id="test", connect_timeout_ms=1000, request_timeout_ms=30_000,
            retry_backoff_ms=100, retry_backoff_ms_max=1000, metadata_age_ms_max=60_000,
            random=Random(1),
        )  # fmt: skip
        self.session = Session(options, lambda: self.now)
        self.session.cluster.apply(metadata(1, 1), ["t"], SILENT, self.now)

    def look(self, answer: MetadataResponse | None, *wheres: TopicPartition) -> bool:
        """Look for a successor; ``answer`` is what another broker says, None is silence."""
        operation = find_successor(self.session, SILENT, wheres or (T0,))
        return finish(operation, answer, self)


def finish(operation: Operation[bool], answer: MetadataResponse | None, world: World) -> bool:
    """Carry a look out."""
    reply: Any = None
    failure: ClientError | None = None
    try:
        while True:
            effect = operation.throw(failure) if failure else operation.send(reply)
            reply = failure = None
            if isinstance(effect, Call):
                assert effect.request == MetadataRequest(("t",))
                if effect.address == OTHER and answer is not None:
                    reply = answer
                else:
                    world.now += effect.timeout_s
                    failure = ConnectionLostError(str(effect.address), "silent")
            else:
                world.now += effect.seconds
    except StopIteration as stop:
        return bool(stop.value)


def test_looks_are_frequent_within_a_failover_and_rare_after_it() -> None:
    looks = Looks(10.0)
    assert looks.at == 10.0
    looks.done(10.1)
    assert looks.at == pytest.approx(10.1 + LOOK_PAUSE_S)
    looks.done(10.0 + FAILOVER_S)
    assert looks.at == pytest.approx(10.0 + FAILOVER_S + ANSWER_S)


@pytest.mark.parametrize(
    ("leaders", "brokers", "found"),
    [
        ((1, 1), (1, 2), False),
        ((2, 1), (1, 2), True),
        ((1, 2), (1, 2), False),  # the other partition is not waited for
        ((-1, 1), (1, 2), False),  # nobody leads it yet: the silent one may
        ((-1, 1), (2,), True),  # it has no session any more
    ],
)
def test_a_silent_leader_has_a_successor(
    leaders: tuple[int, ...], brokers: tuple[int, ...], found: bool
) -> None:
    world = World()
    world.now += 1
    assert world.look(metadata(*leaders, brokers=brokers)) is found


def test_one_partition_that_moved_is_enough() -> None:
    world = World()
    world.now += 1
    assert world.look(metadata(1, 2), T0, TopicPartition("t", 1))


def test_nobody_knows_better_where_nobody_answers() -> None:
    world = World()
    began = world.now = 200.0
    assert not world.look(None)
    assert world.now - began <= ANSWER_S + 1.0


def test_the_silent_broker_is_asked_last() -> None:
    world = World()
    world.now += 1
    operation = find_successor(world.session, SILENT, (T0,))
    effect = next(operation)
    assert isinstance(effect, Call)
    assert effect.address == OTHER


def test_what_was_found_out_just_now_is_not_asked_again() -> None:
    world = World()
    world.now += LOOK_PAUSE_S / 4
    operation = find_successor(world.session, SILENT, (T0,))
    with pytest.raises(StopIteration) as end:
        next(operation)
    assert end.value.value is False


@pytest.mark.parametrize("repeatable", [False, True])
def test_only_what_may_be_put_twice_is_given_up_early(repeatable: bool) -> None:
    world = World()
    operation = at_leader(
        world.session, T0, MetadataRequest(()), lambda _: (0, None), world.now + 60,
        repeatable=repeatable,
    )  # fmt: skip
    effect = next(operation)
    assert isinstance(effect, Call)
    assert effect.address == SILENT
    assert (effect.look is not None) is repeatable
    if effect.look is not None:
        world.now += 1
        assert finish(effect.look(), metadata(2, 1), world)


def test_hurried_connects_last_as_long_as_a_failover_and_then_longer() -> None:
    waits = [connect_patience_s(failures) for failures in range(7)]
    assert sum(waits[:4]) == pytest.approx(FAILOVER_S)
    assert waits[3:] == [waits[0], 2 * waits[0], 4 * waits[0], 8 * waits[0]]
    assert waits[0] > OVERDUE_S


def test_a_time_out_is_waited_for_once() -> None:
    """When the first wait was in vain, another one of the same length began."""
    timeout_s = 2.0
    options = World().session.options
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(RequestTimedOutError):
            BlockingConnection(
                Address(*silent.getsockname()), options, None, timeout_s, lambda _: None
            )
        assert timeout_s * 0.9 < time.monotonic() - began < timeout_s * 1.9
