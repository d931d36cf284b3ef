"""Producers and readers that write down what they saw, and the judgement of it.

Every producer sends numbered records to one partition, with retries: it is idempotent. The first
sends one after the other, the others hand theirs to the background, which sends them in batches. A
reader follows each partition all the time. What must hold at the end:

- every acknowledged record is at the offset that was answered;
- no record is there twice, and each producer's records are in the order of their numbers;
- what a reader saw at an offset at any time is what the log has there in the end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streambus_client import Consumer, Producer
from streambus_client.errors import ClientError

if TYPE_CHECKING:
    from streambus_client import SendFuture

TOPIC = "chaos"
_WINDOW = 500
_READ_TIMEOUT_S = 120.0
_DELIVERY_TIMEOUT_MS = 20_000


@dataclass(slots=True)
class Sender:
    """One producer.

    Attributes:
        number: Its own, and its partition's.
        pause_s: Between two records.
        sent: How many records it began to send.
        failed: How many of them had no good end; they may be in the log or not.
        acknowledged: Record → offset.
        last_s: When the last one was acknowledged, on the monotonic clock.
    """

    number: int
    pause_s: float
    sent: int = 0
    failed: int = 0
    acknowledged: dict[int, int] = field(default_factory=dict)
    last_s: float = 0.0

    def run(self, address: str, stop: threading.Event) -> None:
        """Send until told to stop."""
        with Producer(
            address, acks="all", request_timeout_ms=5_000, delivery_timeout_ms=_DELIVERY_TIMEOUT_MS
        ) as producer:
            if self.number == 0:
                self._send_singly(producer, stop)
            else:
                self._submit(producer, stop)

    def _next(self) -> tuple[int, bytes]:
        number = self.sent
        self.sent += 1
        return number, b"%d-%d" % (self.number, number)

    def _send_singly(self, producer: Producer, stop: threading.Event) -> None:
        while not stop.is_set():
            number, value = self._next()
            try:
                self._done(number, producer.send(TOPIC, value, partition=self.number).offset)
            except ClientError:
                self.failed += 1
            stop.wait(self.pause_s)

    def _submit(self, producer: Producer, stop: threading.Event) -> None:
        window: deque[tuple[int, SendFuture]] = deque()
        while window or not stop.is_set():
            while window and (stop.is_set() or len(window) >= _WINDOW or window[0][1].done()):
                number, future = window.popleft()
                try:
                    self._done(number, future.result().offset)
                except ClientError:
                    self.failed += 1
            if not stop.is_set():
                number, value = self._next()
                window.append((number, producer.submit(TOPIC, value, partition=self.number)))
                stop.wait(self.pause_s)

    def _done(self, number: int, offset: int) -> None:
        self.acknowledged[number] = offset
        self.last_s = time.monotonic()


@dataclass(slots=True)
class Reader:
    """Reads the whole topic as it grows.

    Attributes:
        seen: Partition → the records, in the order of their offsets.
        problems: What no reader may ever see.
    """

    seen: dict[int, list[bytes]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def run(self, address: str, stop: threading.Event) -> None:
        """Read until told to stop."""
        with Consumer(address, TOPIC, start="earliest") as consumer:
            while not stop.is_set():
                self._poll(consumer)

    def run_to_end(self, address: str) -> None:
        """Read until nothing is left."""
        with Consumer(address, TOPIC, start="earliest") as consumer:
            total = sum(consumer.latest().values())
            ends_s = time.monotonic() + _READ_TIMEOUT_S
            while sum(map(len, self.seen.values())) < total:
                self._poll(consumer)
                if time.monotonic() > ends_s:
                    self.problems.append(f"{total} records are not read in {_READ_TIMEOUT_S:g} s")
                    return

    def _poll(self, consumer: Consumer) -> None:
        try:
            records = consumer.poll(timeout=0.5)
        except ClientError:
            return  # nobody to read from at the moment
        for record in records:
            log = self.seen.setdefault(record.partition, [])
            if record.offset != len(log):
                self.problems.append(
                    f"a reader got offset {record.offset} of partition {record.partition}"
                    f" after {len(log) - 1}"
                )
                return
            log.append(record.value or b"")


class Load:
    """All producers and one reader, each in a thread.

    Args:
        address: Of the cluster.
        partitions: How many, each with a producer.
        rate: Records a second, of all producers together, at most.
    """

    def __init__(self, address: str, partitions: int, rate: float) -> None:
        self.senders = [Sender(number, partitions / rate) for number in range(partitions)]
        self.reader = Reader()
        self._address = address
        self._stop = threading.Event()
        runs = [sender.run for sender in self.senders] + [self.reader.run]
        self._threads = [threading.Thread(target=run, args=(address, self._stop)) for run in runs]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, after what is under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def acknowledged(self) -> int:
        """How many records were."""
        return sum(len(sender.acknowledged) for sender in self.senders)

    def wait_flowing(self, timeout_s: float) -> float | None:
        """Wait until every producer has had an acknowledgement since now; seconds, or None."""
        began_s = time.monotonic()
        while any(sender.last_s < began_s for sender in self.senders):
            if time.monotonic() - began_s > timeout_s:
                return None
            time.sleep(0.01)
        return time.monotonic() - began_s

    def problems(self) -> list[str]:
        """What was promised and does not hold; the cluster is whole, and the load has ended."""
        final = Reader()
        final.run_to_end(self._address)
        found = self.reader.problems + final.problems
        for sender in self.senders:
            found += _judge(sender, final.seen.get(sender.number, []))
        for partition, seen in self.reader.seen.items():
            log = final.seen.get(partition, [])
            if log[: len(seen)] != seen:
                at = next(
                    (i for i, (a, b) in enumerate(zip(seen, log, strict=False)) if a != b), len(log)
                )
                found.append(f"partition {partition} was read otherwise before, from {at} on")
        return found


def _judge(sender: Sender, log: list[bytes]) -> list[str]:
    found = []
    numbers = [int(value.split(b"-")[1]) for value in log]
    if any(not value.startswith(b"%d-" % sender.number) for value in log):
        found.append(f"partition {sender.number} holds records of others")
    for number, offset in sender.acknowledged.items():
        if offset >= 0 and (offset >= len(numbers) or numbers[offset] != number):
            there = numbers[offset] if offset < len(numbers) else "nothing"
            found.append(f"{sender.number}-{number} was acknowledged at {offset}: {there} is there")
    lost = set(sender.acknowledged) - set(numbers)
    if lost:
        found.append(f"{len(lost)} acknowledged of producer {sender.number} are lost: {min(lost)}…")
    if len(set(numbers)) < len(numbers):
        found.append(f"{len(numbers) - len(set(numbers))} of producer {sender.number} are doubled")
    elif numbers != sorted(numbers):
        found.append(f"records of producer {sender.number} changed their order")
    return found
