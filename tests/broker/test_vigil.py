"""A vigil ends in time, goes on while requests come, and rests after one in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_broker.network.vigil import REST_REQUESTS, Vigil

if TYPE_CHECKING:
    from collections.abc import Callable


class Turns:
    """A loop by hand, and a clock that goes on by 10 a turn."""

    def __init__(self) -> None:
        self.now_ns = 1000
        self.ready: list[Callable[[], object]] = []
        self.turns = 0

    def serve(self, vigil: Vigil) -> None:
        vigil.last_ns = self.now_ns
        if vigil.may_begin:
            vigil.begin()

    def turn(self) -> None:
        self.now_ns += 10
        self.turns += 1
        ready, self.ready = self.ready, []
        for call in ready:
            call()

    def until_asleep(self) -> int:
        before = self.turns
        while self.ready:
            self.turn()
        return self.turns - before

    def vigil(self, awake_ns: int = 50) -> Vigil:
        return Vigil(lambda call: self.ready.append(call), lambda: self.now_ns, awake_ns)


def test_a_vigil_ends_in_time() -> None:
    loop = Turns()
    loop.serve(loop.vigil())
    assert loop.until_asleep() == 5


def test_requests_prolong_it_and_then_it_was_not_in_vain() -> None:
    loop = Turns()
    vigil = loop.vigil()
    loop.serve(vigil)
    for _ in range(10):
        loop.turn()
        loop.serve(vigil)
        assert len(loop.ready) == 1, "one look is under way, however many requests"
    assert loop.until_asleep() == 5
    loop.serve(vigil)
    assert loop.ready


def test_after_one_in_vain_it_rests_for_some_requests() -> None:
    loop = Turns()
    vigil = loop.vigil()
    loop.serve(vigil)
    loop.until_asleep()
    for _ in range(REST_REQUESTS):
        loop.serve(vigil)
        assert not loop.ready
    loop.serve(vigil)
    assert loop.ready


def test_none_is_held_where_it_is_switched_off() -> None:
    loop = Turns()
    loop.serve(loop.vigil(0))
    assert not loop.ready
