"""Fetches of the blocking consumer: one under way, and one prepared to be repeated."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

from streambus_client._operations import Looks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_client._blocking._connection import BlockingConnection
    from streambus_client._fetcher import FetchCall
    from streambus_client._partition_reader import PartitionReader
    from streambus_client._quick_fetch import FetchTemplate
    from streambus_protocol import PlainFetched


class Flight:
    """A fetch under way.

    Attributes:
        call: What was asked.
        connection: Where the answer comes.
        looks: When to look whether another broker is to be asked by now.
        deadline: Until when the answer is waited for.
    """

    __slots__ = ("call", "connection", "deadline", "looks")

    def __init__(
        self, call: FetchCall, connection: BlockingConnection, overdue_at: float, deadline: float
    ) -> None:
        self.call = call
        self.connection = connection
        self.looks = Looks(overdue_at)
        self.deadline = deadline


def readable(flights: Sequence[Flight], timeout_s: float) -> list[Flight]:
    """Wait for the first answers: the flights that have something, or whose time is over."""
    poller = select.poll()
    by_number = {}
    for flight in flights:
        number = flight.connection.socket.fileno()
        by_number[number] = flight
        if number >= 0:
            poller.register(number, select.POLLIN)
    events = poller.poll(timeout_s * 1000)
    now = time.monotonic()
    overdue = [
        flight for number, flight in by_number.items() if number < 0 or flight.deadline <= now
    ]
    return overdue + [by_number[number] for number, _ in events]


class QuickFetch:
    """The prepared request of a lone partition, valid while nothing of the cluster changes.

    Attributes:
        reader: The partition.
        node: The broker that is asked.
        connection: To it.
        template: The request.
        answer: Reads the plain answer.
    """

    __slots__ = ("_changes", "_until", "answer", "connection", "node", "reader", "template")

    def __init__(
        self,
        reader: PartitionReader,
        node: int,
        connection: BlockingConnection,
        template: FetchTemplate,
        answer: PlainFetched,
        changes: int,
        until: float,
    ) -> None:
        self._changes = changes
        self._until = until
        self.reader = reader
        self.node = node
        self.connection = connection
        self.template = template
        self.answer = answer

    def serves(self, reader: PartitionReader, changes: int, now: float) -> bool:
        """Whether it still stands for what the general way would ask."""
        return (
            reader is self.reader
            and changes == self._changes
            and now < self._until
            and not self.connection.closed
        )
