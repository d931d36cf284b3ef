"""What a server asks of a network: to carry messages, perhaps. Losing them is allowed.

Bring your own by two methods. The core tolerates loss, repetition, delay and reordering, so a
transport need not retry, acknowledge or store anything; it must not change messages, deliver them
to the wrong node, or block the event loop. One kind must not be repeated: a ``Forward`` carries
proposals, and a leader knows repetitions of the recent ones alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from streambus_raft._forwarding import PeerMessage
    from streambus_raft._types import NodeId


class Receiver(Protocol):
    """The server's side: takes what arrives."""

    def receive(self, messages: Sequence[PeerMessage]) -> None:
        """Take messages that were addressed to this node. Never blocks; on the loop's thread."""


class Transport(Protocol):
    """Carries messages between the servers of one cluster."""

    def running(self, receiver: Receiver) -> AbstractAsyncContextManager[None]:
        """Carry messages while the context is open; hand what arrives to ``receiver``."""

    def send(self, to: NodeId, messages: Sequence[PeerMessage]) -> None:
        """Try to deliver. Never blocks and never fails: what cannot be sent is dropped."""


@runtime_checkable
class MeasuredTransport(Protocol):
    """A transport may bring this too: a server's metrics hold it then."""

    metrics: TransportMetrics


@dataclass(slots=True)
class TransportMetrics:
    """What a transport has done since it was made.

    Attributes:
        messages_sent: Handed to the network.
        bytes_sent: The same in bytes, with frames.
        messages_received: Handed to the server.
        bytes_received: The same in bytes.
        messages_dropped: Not sent: the peer was not connected, not known, or too slow.
        connects: Connections that were opened and greeted.
        refusals: Greetings that were refused, by this node or by the other.
        garbage: Connections that were closed because of what came over them.
    """

    messages_sent: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    bytes_received: int = 0
    messages_dropped: int = 0
    connects: int = 0
    refusals: int = 0
    garbage: int = 0
