"""Which replica is read from: the choice, and what of a follower may be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.cluster.closest import InSyncReplica, closest_replica
from streambus_broker.cluster.leader import UNKNOWN
from streambus_protocol import ErrorCode
from tests.cluster.test_follower import data_of, session_of

if TYPE_CHECKING:
    from streambus_broker.cluster.follower import FollowerSession

LEADER = InSyncReplica(1, "a", serving=True, log_end=100)


def follower(
    broker_id: int, rack: str | None = "b", log_end: int = 100, *, serving: bool = True
) -> InSyncReplica:
    return InSyncReplica(broker_id, rack, serving, log_end)


def test_the_follower_in_the_rack_is_chosen() -> None:
    assert closest_replica("b", 50, LEADER, [follower(2, "c"), follower(3)]) == 3


def test_the_leader_reads_for_its_own_rack_and_for_racks_without_a_replica() -> None:
    followers = [follower(2, "a"), follower(3, "b"), follower(4, None)]
    assert closest_replica("a", 0, LEADER, followers) == 1
    assert closest_replica("elsewhere", 0, LEADER, followers) == 1


def test_who_is_away_or_behind_is_not_chosen() -> None:
    assert closest_replica("b", 50, LEADER, [follower(2, serving=False)]) == 1
    assert closest_replica("b", 0, LEADER, [follower(2, log_end=UNKNOWN)]) == 1
    assert closest_replica("b", 50, LEADER, [follower(2, log_end=49)]) == 1
    assert closest_replica("b", 50, LEADER, [follower(2, log_end=50)]) == 2


def test_of_several_the_one_that_holds_most_is_chosen() -> None:
    followers = [follower(4, log_end=80), follower(3, log_end=90), follower(2, log_end=90)]
    assert closest_replica("b", 50, LEADER, followers) == 2


_racks = st.sampled_from(["a", "b", None])


@given(
    st.sampled_from(["a", "b"]),
    st.integers(0, 5),
    _racks,
    st.lists(st.tuples(_racks, st.booleans(), st.integers(-1, 5)), max_size=4),
)
def test_whoever_is_chosen_serves_has_enough_and_is_closer(
    rack: str, offset: int, leader_rack: str | None, others: list[tuple[str | None, bool, int]]
) -> None:
    leader = InSyncReplica(0, leader_rack, serving=True, log_end=5)
    followers = [InSyncReplica(i, *other) for i, other in enumerate(others, 1)]
    fit = [
        each for each in followers if each.rack == rack and each.serving and each.log_end >= offset
    ]
    chosen = closest_replica(rack, offset, leader, followers)
    if leader_rack == rack or not fit:
        assert chosen == 0
    else:
        best = max(each.log_end for each in fit)
        assert chosen in [each.broker_id for each in fit if each.log_end == best]


# --- a follower in step --------------------------------------------------------------------------


def in_step(session: FollowerSession, now_s: float = 0.0) -> bool:
    return session.in_step(1, now_s, silence_s_max=2.0)


def test_a_follower_is_in_step_when_its_leader_has_told_what_is_committed() -> None:
    session = session_of(1)
    session.received((), 0.0)
    assert not in_step(session)
    session.request(0.0)
    session.received((data_of(1, high_watermark=7),), 0.0)
    assert in_step(session)
    assert not session.in_step(2, 0.0, 2.0)


def told(*partitions: int, now_s: float = 0.0) -> FollowerSession:
    """A session whose leader has answered about all its partitions."""
    session = session_of(*partitions)
    session.received(tuple(data_of(each, high_watermark=7) for each in partitions), now_s)
    assert in_step(session, now_s)
    return session


def test_silence_ends_it_and_an_answer_renews_it() -> None:
    session = told(1, now_s=10.0)
    assert in_step(session, 12.0)
    assert not in_step(session, 12.1)
    session.request(12.1)
    session.received((), 12.2, 10.1)  # it was on its way for long: what it says is old
    assert not in_step(session, 12.2)
    session.received((), 12.2)
    assert in_step(session, 12.2)


def test_a_position_that_was_refused_or_differs_is_not_in_step() -> None:
    session = told(1)
    session.received((data_of(1, error=ErrorCode.NOT_LEADER),), 0.0)
    assert not in_step(session)
    session = told(1)
    session.received((data_of(1, diverging_epoch=1, diverging_end=6),), 0.0)
    assert not in_step(session)
    session.positioned(1, 6, 1)
    session.request(0.1)
    assert not in_step(session, 0.1)
    session.received((data_of(1, batches=b"..."),), 0.2)
    assert in_step(session, 0.2)


def test_another_leader_epoch_or_another_connection_begins_anew() -> None:
    session = told(1)
    session.follow(1, 4, 10, 2, 10)
    assert not in_step(session)
    session.received((data_of(1, epoch=3),), 0.0)  # what the leader before has to say
    assert not in_step(session)
    session.request(0.0)
    session.received((data_of(1, epoch=4),), 0.0)
    assert in_step(session)
    session.lost()
    assert not in_step(session)
    session.restart()
    session.request(0.0)
    session.received((), 0.0)
    assert not in_step(session)
    session.received((data_of(1, epoch=4),), 0.0)
    assert in_step(session)


def test_an_error_under_a_log_that_was_moved_ends_it_too() -> None:
    session = told(1)
    session.positioned(1, 5, 2)
    session.received((data_of(1, error=ErrorCode.NOT_LEADER),), 0.0)
    assert not in_step(session)
