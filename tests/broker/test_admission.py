from __future__ import annotations

from streambus_broker.network.admission import Admission


def test_limits_in_all_and_per_address() -> None:
    admission = Admission(3, 2, 1000)
    assert admission.arrive("a", 0) == ""
    assert admission.arrive("a", 0) == ""
    assert admission.arrive("a", 1) == "connections_per_address_max"
    assert admission.arrive("b", 1) == ""
    assert admission.arrive("c", 1) == "connections_max"
    admission.leave("a")
    assert admission.arrive("c", 1) == ""


def test_new_connections_come_in_bursts_but_not_faster_in_the_long_run() -> None:
    admission = Admission(10_000, 20, 5)
    accepted = 0
    for step in range(1000):  # ten seconds
        if admission.arrive("a", step / 100) == "":
            accepted += 1
            admission.leave("a")
    assert 65 <= accepted <= 70


def test_idle_addresses_are_forgotten() -> None:
    admission = Admission(10, 2, 1)
    admission.arrive("a", 0)
    admission.arrive("b", 0)
    admission.leave("b")
    admission.forget_idle(100)
    assert admission.arrive("a", 100) == ""
    assert admission.open_count == 2
    admission.leave("a")
    admission.leave("a")
    admission.forget_idle(200)
    assert admission._addresses == {}
