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
    """The prepared request of a lone partition, valid while nothing of the cluster changes."""

    __slots__ = ("_changes", "answer", "connection", "reader", "template")

    def __init__(
        self,
        reader: PartitionReader,
        connection: BlockingConnection,
        template: FetchTemplate,
        answer: PlainFetched,
        changes: int,
    ) -> None:
        self._changes = changes
        self.reader = reader
        self.connection = connection
        self.template = template
        self.answer = answer

    def serves(self, reader: PartitionReader, changes: int) -> bool:
        """Whether it still stands for what the general way would ask."""
        return reader is self.reader and changes == self._changes and not self.connection.closed
