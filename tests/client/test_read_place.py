"""Which broker a consumer with a rack reads from. No sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streambus_client import Consumer
from streambus_client._types import TopicPartition
from streambus_client.errors import ConnectionLostError, InvalidArgumentError
from streambus_protocol import ErrorCode, FetchedPartition, FetchResponse
from tests.client.test_fetcher import batch, learn, make, only

if TYPE_CHECKING:
    from streambus_client._fetcher import FetchCall, Fetcher
    from streambus_client._options import Start

PERIOD_S = 60.0  # metadata_age_ms_max of `make`


def sent_on(replica: int) -> FetchResponse:
    return FetchResponse(0, (FetchedPartition(0, None, 100, 0, b"", replica),))


def served(batches: bytes = b"") -> FetchResponse:
    return FetchResponse(0, (FetchedPartition(0, None, 100, 0, batches),))


def refused(code: ErrorCode) -> FetchResponse:
    return FetchResponse(0, (FetchedPartition(code, "no", -1, -1, b""),))


def make_one(start: Start = 0) -> Fetcher:
    return make(1, start=start, client_rack="r")


def ask(fetcher: Fetcher, node: int, rack: str | None = "r", now: float = 0.0) -> FetchCall:
    call = only(fetcher, now)
    assert (call.node_id, call.request.rack) == (node, rack)
    return call


def test_without_a_rack_none_is_told() -> None:
    assert only(make(1)).request.rack is None


def test_the_leader_sends_the_consumer_on_and_is_asked_again_after_a_period() -> None:
    fetcher = make_one()
    fetcher.answered(ask(fetcher, 1), sent_on(2), 0.0)
    fetcher.answered(ask(fetcher, 2), served(batch(0, 5)), 1.0)
    fetcher.take_records(5)
    call = ask(fetcher, 2, now=PERIOD_S - 0.1)
    assert call.request.partitions[0].offset == 5
    fetcher.answered(call, served(), PERIOD_S - 0.1)
    fetcher.answered(ask(fetcher, 1, now=PERIOD_S), sent_on(2), PERIOD_S)
    ask(fetcher, 2, now=PERIOD_S)


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.NOT_LEADER,
        ErrorCode.OFFSET_OUT_OF_RANGE,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.UNKNOWN_TOPIC,
        ErrorCode.STORAGE_FAILED,
    ],
)
def test_what_the_replica_refuses_is_asked_of_the_leader_at_once(code: ErrorCode) -> None:
    fetcher = make_one(start=7)
    fetcher.answered(ask(fetcher, 1), sent_on(2), 0.0)
    fetcher.answered(ask(fetcher, 2), refused(code), 0.0)
    call = ask(fetcher, 1, rack=None)
    assert call.request.partitions[0].offset == 7
    fetcher.answered(call, served(), 0.0)
    fetcher.raise_failure()
    ask(fetcher, 1, rack="r", now=1.0)


def test_a_fenced_epoch_means_that_the_metadata_is_old() -> None:
    fetcher = make_one()
    fetcher.answered(ask(fetcher, 1), sent_on(2), 0.0)
    fetcher.answered(ask(fetcher, 2), refused(ErrorCode.FENCED_LEADER_EPOCH), 0.0)
    assert fetcher.plan(0.0) == []
    assert fetcher.topics_without_leader(0.0) == ["t"]


def test_another_leader_epoch_ends_the_preference() -> None:
    fetcher = make_one()
    fetcher.answered(ask(fetcher, 1), sent_on(2), 0.0)
    fetcher.answered(ask(fetcher, 2), served(), 0.0)
    learn(fetcher._session, [1], epoch=2)
    ask(fetcher, 1)


def test_a_replica_that_cannot_be_reached_costs_no_look_at_the_metadata() -> None:
    fetcher = make_one()
    fetcher.answered(ask(fetcher, 1), sent_on(2), 0.0)
    fetcher.failed(ask(fetcher, 2), ConnectionLostError("b:1", "gone"), 0.0)
    assert fetcher.topics_without_leader(0.0) == []
    fetcher.answered(ask(fetcher, 1, rack=None), served(), 0.0)


def test_a_replica_that_fails_again_and_again_is_tried_less_and_less() -> None:
    fetcher = make_one()
    pauses = []
    now = 0.0
    for _ in range(6):
        fetcher.answered(ask(fetcher, 1, now=now), sent_on(2), now)
        fetcher.answered(ask(fetcher, 2, now=now), refused(ErrorCode.NOT_LEADER), now)
        began = now
        while (call := only(fetcher, now)).request.rack is None:
            fetcher.answered(call, served(), now)
            now += 0.01
        fetcher.answered(call, served(), now)
        pauses.append(now - began)
    assert pauses[-1] > 3 * pauses[0]
    fetcher.answered(ask(fetcher, 1, now=now), sent_on(2), now)
    fetcher.answered(ask(fetcher, 2, now=now), served(), now)
    fetcher.answered(ask(fetcher, 2, now=now), refused(ErrorCode.NOT_LEADER), now)
    ask(fetcher, 1, rack="r", now=now + 0.11)


def test_a_broker_that_is_not_known_is_looked_for() -> None:
    fetcher = make_one()
    fetcher.answered(ask(fetcher, 1), sent_on(9), 0.0)
    assert fetcher.topics_without_leader(0.0) == ["t"]
    learn(fetcher._session, [1])
    ask(fetcher, 1, rack=None)


def test_partitions_that_keep_to_the_leader_are_asked_for_by_themselves() -> None:
    fetcher = make(3, client_rack="r")
    everything = only(fetcher)
    parts = (*sent_on(2).partitions, *served().partitions * 2)
    fetcher.answered(everything, FetchResponse(0, parts), 0.0)
    calls = {call.node_id: call for call in fetcher.plan(0.0)}
    assert len(calls[1].readers) == 2
    fetcher.answered(calls[2], refused(ErrorCode.NOT_LEADER), 0.0)
    fetcher.answered(calls[1], FetchResponse(0, served().partitions * 2), 0.0)
    racks: dict[str | None, set[int]] = {}
    for _ in range(6):
        call = only(fetcher)
        asked = {part.partition for part in call.request.partitions}
        racks.setdefault(call.request.rack, set()).update(asked)
        fetcher.answered(call, FetchResponse(0, served().partitions * len(asked)), 0.0)
    assert racks == {None: {0}, "r": {1, 2}}


def test_the_short_way_lasts_as_long_as_the_place() -> None:
    fetcher = make_one()
    place = fetcher.readers[TopicPartition("t", 0)].place
    assert place.settled_until(5.0) == float("inf")
    fetcher.answered(ask(fetcher, 1), sent_on(2), 0.0)
    assert place.settled_until(5.0) == PERIOD_S
    fetcher.answered(ask(fetcher, 2), refused(ErrorCode.NOT_LEADER), 0.0)
    assert 0 < place.settled_until(0.0) <= 0.1


def test_a_rack_has_a_name() -> None:
    with pytest.raises(InvalidArgumentError, match="the name of a rack"):
        Consumer("a:1", client_rack=7)  # type: ignore[arg-type]  # that is the point
