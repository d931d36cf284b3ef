"""Fetches of the blocking consumer: one under way, and one prepared to be repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streambus_client._blocking._connection import BlockingConnection
    from streambus_client._fetcher import FetchCall, PartitionReader
    from streambus_client._quick_fetch import FetchTemplate
    from streambus_protocol import PlainFetched


class Flight:
    """A fetch under way, and until when its answer is waited for."""

    __slots__ = ("call", "connection", "deadline")

    def __init__(self, call: FetchCall, connection: BlockingConnection, deadline: float) -> None:
        self.call = call
        self.connection = connection
        self.deadline = deadline


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
