"""Whether to look for an answer a few times before sleeping until it comes.

A core that falls asleep takes 20 to 80 µs to wake, longer than a broker on the same machine takes
to answer; so the lock of every operating system spins for a moment before it sleeps, and so does a
connection that waits for one answer. Measured with an echo on the other of two virtual cores: 27
instead of 45 µs a round trip, and no more CPU time, because falling asleep and waking cost as much.

Rules:
    1. Bounded: at most `SPIN_S`, then the kernel waits.
    2. Never where this process has one core only: looking would keep the broker from answering.
    3. Given up for the next `REST_REQUESTS` requests whenever it was in vain: of a distant broker,
       or of one that syncs first, there is nothing to see so soon.
"""

from __future__ import annotations

import os
import socket
import time

SPIN_S = 100e-6
REST_REQUESTS = 30
_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)


class Spin:
    """The state of one connection, where `may_spin`.

    Attributes:
        rest: Requests for which it is not tried; counted down by ``receive``.
    """

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = 0

    def receive(self, source: socket.socket, bytes_max: int) -> bytes | None:
        """Give what has come, or comes at once; None if it is not tried, or was in vain.

        Raises:
            OSError: as ``recv``.
        """
        if self.rest:
            self.rest -= 1
            return None
        clock = time.perf_counter
        end_s = clock() + SPIN_S
        while True:
            try:
                return source.recv(bytes_max, _DONT_WAIT)
            except BlockingIOError:
                if clock() >= end_s:
                    self.rest = REST_REQUESTS
                    return None


def may_spin() -> bool:
    """Whether rule 2 allows it here, and the system has what it takes."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return cores > 1 and bool(_DONT_WAIT)
