"""What a single ``send`` to one partition needs, prepared once and used until something changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streambus_client._blocking._connection import BlockingConnection
    from streambus_client._encoding import ProduceTemplate
    from streambus_client._types import TopicPartition


class Lane:
    """What a ``send`` to one partition needs, prepared: the leader's connection and the frame."""

    __slots__ = ("connection", "template", "where")

    def __init__(
        self, connection: BlockingConnection, template: ProduceTemplate, where: TopicPartition
    ) -> None:
        self.connection = connection
        self.template = template
        self.where = where
