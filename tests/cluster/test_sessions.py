"""The controller's view of who lives."""

from __future__ import annotations

import math

from streambus_broker.cluster.sessions import Sessions
from streambus_broker.cluster.throttle import UNLIMITED, Throttle


def test_a_session_ends_after_silence() -> None:
    sessions = Sessions(2.0, 0.5)
    sessions.follow({1: 5, 2: 6}, 0.0)
    sessions.heard(1, 1.5)
    assert sessions.over(1.9) == []
    assert sessions.over(2.0) == [2]
    assert sessions.over(3.5) == [1, 2]


def test_a_broken_connection_shortens_a_session_and_a_heartbeat_mends_it() -> None:
    sessions = Sessions(2.0, 0.5)
    sessions.follow({1: 5}, 0.0)
    sessions.suspect(1, 1.0)
    assert sessions.over(1.5) == [1]
    sessions.heard(1, 1.4)
    assert sessions.over(3.3) == []


def test_the_next_end_is_known() -> None:
    sessions = Sessions(2.0, 0.5)
    assert sessions.next_end_s() == math.inf
    sessions.follow({1: 5, 2: 6}, 0.0)
    sessions.heard(1, 1.0)
    assert sessions.next_end_s() == 2.0
    sessions.suspect(1, 1.0)
    assert sessions.next_end_s() == 1.5


def test_suspicion_never_lengthens_a_session() -> None:
    sessions = Sessions(2.0, 0.5)
    sessions.follow({1: 5}, 0.0)
    sessions.suspect(1, 1.9)
    assert sessions.over(2.0) == [1]


def test_only_the_living_are_watched() -> None:
    sessions = Sessions(2.0, 0.5)
    sessions.follow({1: 5, 2: 6}, 0.0)
    sessions.follow({2: 6, 3: 7}, 1.0)
    assert sessions.over(10.0) == [2, 3]
    sessions.clear()
    assert sessions.over(10.0) == []


def test_a_session_that_is_to_end_is_prolonged_by_nothing() -> None:
    """The command that fences it may take long, and elects others when it is carried out."""
    sessions = Sessions(2.0, 0.5)
    sessions.follow({1: 5}, 0.0)
    assert not sessions.end(1, 1.9)
    assert sessions.heard(1, 1.9)
    assert sessions.end(1, 3.9)
    assert not sessions.heard(1, 4.0)
    assert sessions.over(4.0) == [1]
    sessions.spare(1, 4.0)  # it was refused
    assert sessions.heard(1, 4.1)
    assert sessions.over(6.0) == []


def test_a_broker_that_registered_anew_is_not_judged_by_its_past() -> None:
    sessions = Sessions(2.0, 0.5)
    sessions.follow({1: 5}, 0.0)
    assert sessions.end(1, 2.0)
    sessions.follow({1: 9}, 2.1)
    assert sessions.heard(1, 2.2)
    sessions.suspect(1, 2.3)
    sessions.follow({1: 12}, 2.4)
    assert sessions.over(4.3) == []
    assert sessions.over(4.4) == [1]


def test_a_throttle_lets_through_its_rate() -> None:
    throttle = Throttle(1_000)
    taken = 0
    for step in range(101):
        room = throttle.room(step * 0.1)
        assert room is not None
        throttle.took(min(room, 400))
        taken += min(room, 400)
    assert 10_000 <= taken <= 11_000
    throttle.limit(UNLIMITED)
    assert throttle.room(11.0) is None
