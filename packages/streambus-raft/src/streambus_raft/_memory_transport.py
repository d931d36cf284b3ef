"""Servers of one process and one event loop, connected without a network."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streambus_raft._transport import TransportMetrics
from streambus_raft.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streambus_raft._forwarding import PeerMessage
    from streambus_raft._transport import Receiver
    from streambus_raft._types import NodeId


class MemoryNetwork:
    """Connects the transports it makes; connections can be cut and healed, for tests.

    Messages are handed over as they are, not copied: they are immutable by convention.
    """

    def __init__(self) -> None:
        self._receivers: dict[int, Receiver] = {}
        self._cut: set[tuple[int, int]] = set()

    def transport(self, node_id: int) -> MemoryTransport:
        """Make the transport of a node."""
        return MemoryTransport(self, node_id)

    def cut(self, sender: int, receiver: int) -> None:
        """Lose everything that ``sender`` sends to ``receiver``: one direction only."""
        self._cut.add((sender, receiver))

    def isolate(self, node_id: int) -> None:
        """Cut a node off from all that are running, in both directions."""
        for other in self._receivers:
            self.cut(node_id, other)
            self.cut(other, node_id)

    def heal(self) -> None:
        """Undo all cuts."""
        self._cut.clear()


class MemoryTransport:
    """The ``Transport`` of one node within a :class:`MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, node_id: int) -> None:
        self._network = network
        self._node_id = node_id
        self.metrics = TransportMetrics()

    @asynccontextmanager
    async def running(self, receiver: Receiver) -> AsyncIterator[None]:
        """See ``Transport``.

        Raises:
            ConfigError: the node is running already.
        """
        receivers = self._network._receivers
        if self._node_id in receivers:
            raise ConfigError(f"node {self._node_id} is running already")
        receivers[self._node_id] = receiver
        try:
            yield
        finally:
            del receivers[self._node_id]

    def send(self, to: NodeId, messages: Sequence[PeerMessage]) -> None:
        """See ``Transport``."""
        receiver = self._network._receivers.get(to)
        if receiver is None or (self._node_id, to) in self._network._cut:
            self.metrics.messages_dropped += len(messages)
            return
        self.metrics.messages_sent += len(messages)
        receiver.receive(messages)
