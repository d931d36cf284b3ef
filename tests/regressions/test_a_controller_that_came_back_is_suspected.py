"""Found by the simulator (seed 604082): fenced before the lease was over that its successor gave.

A controller died, started again, registered anew and was heard of, all before its successor looked
at its brokers for the first time; then it was suspected as the silent predecessor that it had been.
"""

from __future__ import annotations

from streambus_broker.cluster.sessions import Sessions
from tests.cluster.scenario import Scenario


def test_whoever_was_heard_of_in_this_office_is_not_silent() -> None:
    sessions = Sessions(2.0, 0.5)
    sessions.heard(2, 0.1)
    sessions.follow({2: 11, 3: 7}, 0.2)
    assert not sessions.is_silent(2)
    assert sessions.is_silent(3)
    sessions.clear()
    assert sessions.is_silent(2)


def test_the_run_that_showed_it_holds() -> None:
    assert Scenario(604082).run().acknowledged
