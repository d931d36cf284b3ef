"""A broker's lease is over before anybody may lead in its place, whatever the order of things."""

from __future__ import annotations

import math
import random

import pytest

from streambus_broker.cluster.lease import Office, SessionLease
from streambus_broker.cluster.sessions import Sessions

SESSION_S = 1.8


def test_a_lease_runs_from_the_sending_of_the_heartbeat() -> None:
    lease = SessionLease()
    assert not lease.holds(0.0)
    lease.granted(10.0, 2.0)  # answered at whatever time
    assert lease.holds(11.7)
    assert not lease.holds(11.8)


def test_a_late_answer_to_an_old_heartbeat_shortens_nothing() -> None:
    lease = SessionLease()
    lease.granted(10.0, 2.0)
    lease.granted(9.0, 2.0)
    lease.granted(10.5, 0.0)
    assert lease.holds(11.7)


def test_a_new_controllers_lease_is_no_longer_than_its_successors_patience() -> None:
    lease, office = SessionLease(), Office(2.0)
    lease.granted(10.0, 2.0)
    lease.shortened(10.1, office.own_lease_s)
    assert lease.holds(10.9)
    assert not lease.holds(11.0)


def test_a_session_that_is_over_takes_the_lease_with_it() -> None:
    lease = SessionLease()
    lease.granted(10.0, 2.0)
    lease.ended()
    assert not lease.holds(10.0)


def test_a_controller_grants_nothing_beyond_what_it_knows_of_its_own_office() -> None:
    office = Office(2.0)
    assert office.grant_s(10.0) == 0.0
    office.confirmed(10.0)
    assert office.grant_s(10.5) == pytest.approx(1.5)
    assert office.grant_s(13.0) == 0.0
    assert office.holds(10.9)
    assert not office.holds(11.0)  # it has slept, perhaps: it must not fence
    office.left()
    assert office.grant_s(10.0) == 0.0


class Controller:
    """One term of a controller, which may not notice its end for a long time."""

    def __init__(self, starts_s: float) -> None:
        self.starts_s = starts_s
        self.office = Office(SESSION_S)
        self.sessions = Sessions(SESSION_S, 0.4)
        self.sessions.follow({1: 5}, starts_s)
        self.fences_s = math.inf


def test_nobody_is_elected_while_a_lease_holds() -> None:
    """One broker, controllers that follow each other and overlap, messages that take any time."""
    seed = random.SystemRandom().getrandbits(32)
    dice = random.Random(seed)
    print(f"seed {seed}")
    fenced = held = 0
    for _ in range(200):
        lease = SessionLease()
        controllers = [Controller(0.0)]
        arriving: list[tuple[float, int, float]] = []
        now_s, next_s, ends_s = 0.0, 3.0 * dice.random(), 12.0
        while now_s < ends_s:
            now_s += dice.choice((0.01, 0.05, 0.3)) * dice.random()
            if now_s > next_s:
                controllers.append(Controller(now_s))
                next_s = now_s + 6.0 * dice.random()
            present = controllers[-1]
            if dice.random() < 0.5:  # its majority answers: nobody was elected before it was asked
                present.office.confirmed(now_s)
            if dice.random() < 0.3:  # a heartbeat, to one that may be deposed and not know it
                to = dice.choice(controllers[-2:])
                arriving.append((now_s + 0.1 * dice.random(), controllers.index(to), now_s))
            while arriving and min(arriving)[0] <= now_s:
                first = min(arriving)
                arriving.remove(first)
                judge, asked_s = controllers[first[1]], first[2]
                if judge.sessions.heard(1, now_s):
                    lease.granted(asked_s, judge.office.grant_s(now_s))
            holds = lease.holds(now_s)
            held += holds
            if present.sessions.end(1, now_s) and math.isinf(present.fences_s):
                present.fences_s = now_s + 0.5 * dice.random()  # the command takes its time
            if now_s >= present.fences_s:
                fenced += 1
                assert not holds, f"seed {seed}: fenced at {now_s} within a lease"
            if dice.random() < 0.02:  # a silence, long enough for anything
                now_s += 3.0 * dice.random()
    assert fenced > 100
    assert held > 1000
