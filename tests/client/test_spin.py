"""A spin sees what comes at once, ends in time, and rests after it was in vain."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from streambus_client._blocking._spin import REST_REQUESTS, Spin, may_spin

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_what_is_there_is_received(pair: Pair) -> None:
    ours, theirs = pair
    spin = Spin()
    for number in range(3):
        theirs.sendall(b"answer %d" % number)
        assert spin.receive(ours, 100) == b"answer %d" % number
    assert spin.rest == 0
    theirs.close()
    assert spin.receive(ours, 100) == b"", "the end of the stream is seen too"


def test_a_spin_in_vain_ends_and_is_not_repeated_for_some_requests(pair: Pair) -> None:
    ours, theirs = pair
    spin = Spin()
    began = time.monotonic()
    assert spin.receive(ours, 100) is None
    assert time.monotonic() - began < 5, "the bound is 100 µs; this machine may be busy"
    theirs.sendall(b"late")
    for _ in range(REST_REQUESTS):
        assert spin.receive(ours, 100) is None
    assert spin.receive(ours, 100) == b"late"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_there_is_none_on_one_core() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert not may_spin()
    finally:
        os.sched_setaffinity(0, before)
