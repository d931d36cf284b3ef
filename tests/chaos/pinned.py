"""A client that stays with one broker, whatever the metadata says: is a deposed leader honest?

It writes to a topic of its own at the broker that led it, while that broker is paused or cut off,
and a moment longer. What counts is what the broker acknowledges: records with ``acks=all`` always,
with ``acks=1`` those that were answered when the others had elected another leader already. All of
them have to be in the log in the end.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streambus_client import Admin, Consumer
from streambus_client.errors import ClientError
from streambus_protocol import ErrorCode, encode_batch
from tests.broker.raw import RawClient

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPIC = "deposed"
_ACKS = (1, -1)
_PAUSE_S = 0.02
_PATIENCE_S = 3.0
_READ_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Promises:
    """What brokers acknowledged to pinned clients; kept over the whole run.

    Attributes:
        kept: Value → offset.
        deposed: How often another leader was elected while a client was pinned.
        refusals: Error codes that were answered, and how often.
        problems: What was answered and should not have been.
    """

    kept: dict[bytes, int] = field(default_factory=dict)
    deposed: int = 0
    refusals: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def judge(self, address: str) -> list[str]:
        """Read the topic, and say what is not there."""
        log: list[bytes | None] = []
        ends_s = time.monotonic() + _READ_TIMEOUT_S
        with Consumer(address, TOPIC, start="earliest") as consumer:
            end = -1
            while end < 0 or (len(log) < end and time.monotonic() < ends_s):
                with contextlib.suppress(ClientError):
                    end = sum(consumer.latest().values())
                    log += [record.value for record in consumer.poll(5_000, timeout=1.0)]
        wrong = [
            f"a leader acknowledged {value!r} at {offset} when it was deposed: it is not there"
            for value, offset in self.kept.items()
            if offset >= len(log) or log[offset] != value
        ]
        return self.problems + wrong[:10]


class Pinned:
    """One client, pinned while the context is open.

    Args:
        promises: Where what it was promised goes.
        leader: The broker's address.
        others: The addresses of the other brokers.
        node: The broker's node id.
    """

    def __init__(self, promises: Promises, leader: str, others: Sequence[str], node: int) -> None:
        self._promises = promises
        self._leader = leader
        self._others = others
        self._node = node
        self._stop = threading.Event()
        self._moved_s = float("inf")
        self._threads = [threading.Thread(target=target) for target in (self._produce, self._watch)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _watch(self) -> None:
        """Notice when the others have elected another leader."""
        while not self._stop.wait(0.1):
            try:
                with Admin(self._others, request_timeout_ms=1_000) as admin:
                    while not self._stop.wait(0.05):
                        leader = admin.describe_topic(TOPIC).partitions[0].leader
                        if leader not in (self._node, -1) and self._moved_s == float("inf"):
                            self._moved_s = time.monotonic()
                            self._promises.deposed += 1
            except ClientError:
                continue

    def _produce(self) -> None:
        number = 0
        while not self._stop.is_set():
            try:
                with RawClient(self._leader, timeout_s=_PATIENCE_S) as client:
                    while not self._stop.wait(_PAUSE_S):
                        number += 1
                        self._one(client, number)
            except OSError:
                self._stop.wait(_PAUSE_S)

    def _one(self, client: RawClient, number: int) -> None:
        acks = _ACKS[number % 2]
        value = b"%d %d %d" % (id(self), number, acks)
        moved = self._moved_s < float("inf")
        # While the broker is paused the request waits in its socket, which is the point.
        client.socket.settimeout(_PATIENCE_S if acks == 1 else 90.0)
        batch = encode_batch([value], base_timestamp_ms=time.time_ns() // 1_000_000)
        answer = client.produce_batch(TOPIC, batch, acks=acks)
        if answer.error:
            code = ErrorCode(answer.error)
            refusals = self._promises.refusals
            refusals[code.name] = refusals.get(code.name, 0) + 1
            if not code.retriable:
                self._promises.problems.append(f"a producer was refused for good: {code.name}")
        elif acks == -1 or moved or self._moved_s < time.monotonic():
            self._promises.kept[value] = answer.base_offset
