"""The load under which faults happen, and the judgement over what became of it.

Each producer has a partition to itself and numbers its records. What must hold in the end:

- what was acknowledged is in the log, at the offset that was named;
- no record is there twice, and a producer's records are in the order of their numbers;
- what a reader saw at an offset at any time is what the log has there in the end.

One reader stays with the leaders; the other one names the brokers' racks, one after the other, and
so reads from followers. Numbers and offsets are kept in arrays: an hour has millions of them.
"""

from __future__ import annotations

import itertools
import threading
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streambus_client import Consumer, Producer
from streambus_client.errors import ClientError

if TYPE_CHECKING:
    from streambus_client import SendManyFuture

TOPIC = "chaos"
UNKNOWN = -1
"""In place of an offset: not acknowledged. In place of a number: a record of somebody else."""

_BACKLOG_MAX = 2_000
_TICK_S = 0.01
_STUCK_S = 120.0
"""At the end, without a single record."""
_STAY_S = 20.0
"""How long a reader stays in one rack."""
_DELIVERY_TIMEOUT_MS = 60_000


@dataclass(slots=True)
class Sender:
    """One producer.

    Attributes:
        number: Its own, and its partition's.
        rate: Records a second, at most.
        offsets: By the number of the record; UNKNOWN where it may be in the log or not.
        acknowledged: How many were.
        failed: How many had no good end.
        last_s: When the last one was acknowledged, on the monotonic clock.
        silence_s: The longest time without an acknowledgement since `listen`.
    """

    number: int
    rate: float
    offsets: array[int] = field(default_factory=lambda: array("q"))
    acknowledged: int = 0
    failed: int = 0
    last_s: float = 0.0
    silence_s: float = 0.0

    def run(self, address: str, stop: threading.Event) -> None:
        """Send until told to stop."""
        self.last_s = time.monotonic()
        with Producer(
            address, acks="all", request_timeout_ms=5_000, delivery_timeout_ms=_DELIVERY_TIMEOUT_MS
        ) as producer:
            if self.number == 0:
                self._send_singly(producer, stop)
            else:
                self._submit(producer, stop)

    def listen(self) -> None:
        """Measure the silence from now on."""
        self.silence_s = 0.0

    def _next(self) -> bytes:
        self.offsets.append(UNKNOWN)
        return b"%d-%d" % (self.number, len(self.offsets) - 1)

    def _send_singly(self, producer: Producer, stop: threading.Event) -> None:
        while not stop.is_set():
            value = self._next()
            try:
                done = producer.send(TOPIC, value, partition=self.number)
                self._done(len(self.offsets) - 1, done.offset, 1)
            except ClientError:
                self.failed += 1
            stop.wait(1 / self.rate)

    def _submit(self, producer: Producer, stop: threading.Event) -> None:
        window: deque[tuple[int, int, SendManyFuture]] = deque()
        backlog, due = 0, 0.0
        looked_s = time.monotonic()
        while window or not stop.is_set():
            while window and (stop.is_set() or window[0][2].done()):
                first, count, future = window.popleft()
                backlog -= count
                self._settle(first, count, future)
            now_s = time.monotonic()
            due = min(due + self.rate * (now_s - looked_s), _BACKLOG_MAX - backlog)
            looked_s = now_s
            if due >= 1 and not stop.is_set():
                first, count = len(self.offsets), int(due)
                values = [self._next() for _ in range(count)]
                due -= count
                backlog += count
                future = producer.submit_many(TOPIC, values, partition=self.number)
                window.append((first, count, future))
            stop.wait(_TICK_S)

    def _settle(self, first: int, count: int, future: SendManyFuture) -> None:
        try:
            ranges = future.result()
        except ClientError:
            self.failed += count  # some may have been written; nobody counts on them
            return
        for each in ranges:
            self._done(first, each.first_offset, each.record_count)
            first += each.record_count

    def _done(self, first: int, offset: int, count: int) -> None:
        self.offsets[first : first + count] = array("q", range(offset, offset + count))
        self.acknowledged += count
        now_s = time.monotonic()
        self.silence_s = max(self.silence_s, now_s - self.last_s)
        self.last_s = now_s


@dataclass(slots=True)
class Reader:
    """Reads the whole topic as it grows.

    Attributes:
        racks: Where it stands, one after the other; an empty one is nowhere.
        seen: Partition → the numbers of the records, in the order of their offsets.
        problems: What no reader may ever see.
    """

    racks: tuple[str, ...] = ("",)
    seen: dict[int, array[int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def run(self, address: str, stop: threading.Event) -> None:
        """Read until told to stop."""
        for rack in itertools.cycle(self.racks):
            if stop.is_set() or self.problems:
                return
            with Consumer(address, TOPIC, start="earliest", client_rack=rack) as consumer:
                if not self._go_on(consumer):
                    continue
                ends_s = time.monotonic() + _STAY_S
                while time.monotonic() < ends_s and not (stop.is_set() or self.problems):
                    self._poll(consumer)

    def _go_on(self, consumer: Consumer) -> bool:
        """Have a new consumer begin behind what was read; whether it could find out where."""
        try:
            for partition, log in self.seen.items():
                consumer.seek(TOPIC, partition, len(log))
        except ClientError:
            time.sleep(0.2)
            return False
        return True

    def run_to_end(self, address: str) -> None:
        """Read until nothing is left."""
        came_s = time.monotonic()
        with Consumer(address, TOPIC, start="earliest") as consumer:
            total = found = 0
            while (not total or found < total) and not self.problems:
                try:
                    total = total or sum(consumer.latest().values())
                except ClientError:
                    time.sleep(0.2)  # a broker may be on its way back
                self._poll(consumer)
                before, found = found, sum(map(len, self.seen.values()))
                now_s = time.monotonic()
                if found > before:
                    came_s = now_s
                elif now_s - came_s > _STUCK_S:
                    text = f"{found} of {total} records are read at the end, and no more"
                    self.problems.append(f"{text} in {_STUCK_S:g} s")

    def _poll(self, consumer: Consumer) -> None:
        try:
            for columns in consumer.batches(timeout=0.5):
                log = self.seen.setdefault(columns.partition, array("q"))
                if columns.offsets[0] != len(log):
                    self.problems.append(
                        f"a reader got offset {columns.offsets[0]} of partition"
                        f" {columns.partition} after {len(log) - 1}"
                    )
                    return
                mine = b"%d-" % columns.partition
                log.extend(number_of(value, mine) for value in columns.values)
        except ClientError:
            time.sleep(0.05)  # nobody to read from at the moment


def number_of(value: bytes | None, mine: bytes) -> int:
    """The number of a record of the producer whose records begin so; UNKNOWN for others."""
    if value is None or not value.startswith(mine):
        return UNKNOWN
    return int(value[len(mine) :])


class Load:
    """All producers and two readers, each in a thread.

    Args:
        address: Of the cluster.
        partitions: How many, each with a producer.
        rate: Records a second, of all producers together, at most.
        racks: Where brokers stand.
    """

    def __init__(
        self, address: str, partitions: int, rate: float, racks: tuple[str, ...] = ()
    ) -> None:
        self.senders = [Sender(number, rate / partitions) for number in range(partitions)]
        self.readers = [Reader()]
        if racks:
            self.readers.append(Reader(racks))
        self._address = address
        self._stop = threading.Event()
        runs = [each.run for each in self.senders] + [each.run for each in self.readers]
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
        return sum(sender.acknowledged for sender in self.senders)

    def listen(self) -> None:
        """Measure the longest silence of a producer from now on."""
        for sender in self.senders:
            sender.listen()

    @property
    def silence_s(self) -> float:
        """The longest time that a producer waited for an acknowledgement since `listen`."""
        return max(sender.silence_s for sender in self.senders)

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
        found = final.problems + [each for one in self.readers for each in one.problems]
        for sender in self.senders:
            found += judge(sender, final.seen.get(sender.number, array("q")))
        for reader in self.readers:
            for partition, seen in reader.seen.items():
                log = final.seen.get(partition, array("q"))
                if log[: len(seen)] != seen:
                    pairs = enumerate(zip(seen, log, strict=False))
                    at = next((i for i, (a, b) in pairs if a != b), len(log))
                    found.append(f"partition {partition} was read otherwise before, from {at} on")
        return found


def judge(sender: Sender, log: array[int]) -> list[str]:
    """What was promised to a producer and does not hold.

    Args:
        sender: The producer.
        log: The numbers of the records in its partition, in the order of their offsets.
    """
    found = []
    who = f"producer {sender.number}"
    if UNKNOWN in log:
        found.append(f"the partition of {who} holds records of others")
    wrong = [
        (number, offset) for number, offset in enumerate(sender.offsets)
        if offset != UNKNOWN and (offset >= len(log) or log[offset] != number)
    ]  # fmt: skip
    times = bytearray(1 + max(len(sender.offsets), max(log, default=0) + 1))  # by number
    for number in log:
        times[number] = min(times[number] + 1, 2)
    lost = [number for number, _ in wrong if not times[number]]
    if lost:
        found.append(f"{len(lost)} acknowledged of {who} are lost: {lost[:10]}")
    for number, offset in wrong[:5]:
        there = log[offset] if offset < len(log) else "nothing"
        found.append(f"{number} of {who} was acknowledged at {offset}: {there} is there")
    times[UNKNOWN] = 0
    if doubled := times.count(2):
        found.append(f"{doubled} of {who} are doubled")
    elif any(log[i] > log[i + 1] for i in range(len(log) - 1)):
        found.append(f"records of {who} changed their order")
    return found
