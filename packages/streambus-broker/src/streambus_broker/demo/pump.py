"""Send every line once, although the broker dies in the middle.

The producer is idempotent, as it is by default: it numbers what it sends, the brokers remember the
numbers, and what has no answer is sent again until it has one, without being doubled or
overtaking. So there is nothing to do here about a death but to wait; what the second process reads
tells whether that is true.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from streambus_client import Producer

if TYPE_CHECKING:
    from streambus_client import SendManyFuture


class _Sent(NamedTuple):
    """Lines that were handed to the producer together."""

    lines: int
    future: SendManyFuture


class Pump:
    """See the module.

    Args:
        address: The broker, or several.
        topic: Where to.

    Attributes:
        records: Lines handed over.
        bytes_sent: Their bytes.
        latencies_s: How long each single acknowledged send took.
    """

    def __init__(self, address: str, topic: str) -> None:
        self.records = self.bytes_sent = 0
        self.latencies_s: list[float] = []
        self._topic = topic
        self._under_way: deque[_Sent] = deque()
        self._producer = Producer(address, acks="all", linger_ms=2)

    def send_one(self, partition: int, key: bytes, line: bytes) -> None:
        """Send a line and wait until it is durable.

        Raises:
            ClientError: It was not acknowledged.
        """
        began_s = time.perf_counter()
        self._producer.send(self._topic, line, key=key, partition=partition)
        self.latencies_s.append(time.perf_counter() - began_s)
        self._count([line])

    def send_many(self, partition: int, key: bytes, lines: list[bytes]) -> None:
        """Hand lines over; waits only for room.

        Raises:
            ClientError: Lines handed over before were refused.
        """
        future = self._producer.submit_many(
            self._topic, lines, [key] * len(lines), partition=partition
        )
        self._under_way.append(_Sent(len(lines), future))
        self._count(lines)
        while self._under_way and self._under_way[0].future.done():
            self._under_way.popleft().future.result()

    def unanswered(self) -> int:
        """How many lines are under way."""
        return sum(sent.lines for sent in self._under_way if not sent.future.done())

    def finish(self) -> None:
        """Wait until everything is acknowledged.

        Raises:
            ClientError: Something was refused.
        """
        self._producer.flush()
        while self._under_way:
            self._under_way.popleft().future.result()

    def close(self) -> None:
        """Give the connections back; what is under way is abandoned."""
        self._producer.close(timeout=0)

    def _count(self, lines: list[bytes]) -> None:
        self.records += len(lines)
        self.bytes_sent += sum(map(len, lines))
