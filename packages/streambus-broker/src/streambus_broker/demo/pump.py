"""Send every line once, although the broker dies in the middle.

A batch whose answer was lost may or may not have been written. This producer does not guess and
does not send again blindly: after the restart it asks where each partition's log ends, and goes on
there. Only one producer writes the topic, in order, so the end of the log tells exactly which of
its records are in. (What must hold beside that, and is checked: nothing acknowledged is beyond it.)
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streambus_client import Producer
from streambus_client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streambus_client import SendManyFuture


@dataclass(slots=True)
class _Sent:
    """Lines of one key that were handed to the producer together."""

    first: int
    key: bytes
    lines: list[bytes]
    future: SendManyFuture


@dataclass(slots=True)
class _Lane:
    """One partition: what was handed over, and what is known to be written."""

    handed_over: int = 0
    acknowledged: int = 0
    window: deque[_Sent] = field(default_factory=deque)


class LostRecordsError(Exception):
    """Records that were acknowledged are not in the log."""


class Pump:
    """See the module.

    Args:
        address: The broker.
        topic: An empty topic that nobody else writes.
        partitions: How many it has.

    Attributes:
        records: Lines handed over.
        bytes_sent: Their bytes.
        latencies_s: How long each single acknowledged send took.
        found_written: Records without an answer that had been written before the kill.
        sent_again: Records without an answer that had to be sent again.
    """

    def __init__(self, address: str, topic: str, partitions: int) -> None:
        self.records = self.bytes_sent = 0
        self.latencies_s: list[float] = []
        self.found_written = self.sent_again = 0
        self._address = address
        self._topic = topic
        self._lanes = [_Lane() for _ in range(partitions)]
        self._producer = self._connect()

    def send_one(self, partition: int, key: bytes, line: bytes) -> None:
        """Send a line and wait until it is durable; only while nothing else is under way.

        Raises:
            ClientError: It was not acknowledged.
        """
        began_s = time.perf_counter()
        self._producer.send(self._topic, line, key=key, partition=partition)
        self.latencies_s.append(time.perf_counter() - began_s)
        lane = self._lanes[partition]
        lane.handed_over += 1
        lane.acknowledged = lane.handed_over
        self._count([line])

    def send_many(self, partition: int, key: bytes, lines: list[bytes]) -> None:
        """Hand lines over; waits only for room.

        Raises:
            ClientError: Lines handed over before were refused.
        """
        lane = self._lanes[partition]
        future = self._producer.submit_many(
            self._topic, lines, [key] * len(lines), partition=partition
        )
        lane.window.append(_Sent(lane.handed_over, key, lines, future))
        lane.handed_over += len(lines)
        self._count(lines)
        self._settle(lane)

    def finish(self) -> None:
        """Wait until everything is acknowledged.

        Raises:
            ClientError: Something was refused.
        """
        self._producer.flush()
        for lane in self._lanes:
            self._settle(lane)
            assert lane.acknowledged == lane.handed_over, "a flush waits for everything"

    def close(self) -> None:
        """Give the connections back; what is under way is abandoned."""
        with contextlib.suppress(ClientError):
            self._producer.close(timeout=0)

    def broken(self) -> int:
        """The broker was killed: wait for every future to end; return how many had no answer."""
        without_answer = 0
        for lane in self._lanes:
            failed = False
            for sent in lane.window:
                # Part of a column may be acknowledged; then only the log's end can tell.
                failed = failed or sent.future.exception() is not None
                if failed:
                    without_answer += len(sent.lines)
                else:
                    lane.acknowledged = sent.first + len(sent.lines)
        self.close()
        return without_answer

    def go_on(self, ends: Mapping[int, int]) -> None:
        """The broker is back: send what its logs do not hold.

        Args:
            ends: Partition → offset at which its log ends.

        Raises:
            LostRecordsError: An acknowledged record is missing.
        """
        self._producer = self._connect()
        for partition, lane in enumerate(self._lanes):
            end = ends[partition]
            if end < lane.acknowledged or end > lane.handed_over:
                raise LostRecordsError(
                    f"partition {partition} ends at {end} after the kill;"
                    f" {lane.acknowledged} records were acknowledged, {lane.handed_over} sent"
                )
            self.found_written += end - lane.acknowledged
            window, lane.window = lane.window, deque()
            lane.handed_over = lane.acknowledged = end
            for sent in window:
                missing = sent.lines[max(0, end - sent.first) :]
                if missing:
                    self.sent_again += len(missing)
                    self._count(missing, sign=-1)
                    self.send_many(partition, sent.key, missing)

    def _settle(self, lane: _Lane) -> None:
        """Forget what is acknowledged.

        Raises:
            ClientError: The oldest lines under way were refused.
        """
        while lane.window and lane.window[0].future.done():
            sent = lane.window[0]
            sent.future.result()
            lane.window.popleft()
            lane.acknowledged = sent.first + len(sent.lines)

    def _count(self, lines: list[bytes], sign: int = 1) -> None:
        self.records += sign * len(lines)
        self.bytes_sent += sign * sum(map(len, lines))

    def _connect(self) -> Producer:
        return Producer(self._address, acks="all", retries_max=0, linger_ms=2)
