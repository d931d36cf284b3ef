"""What servers say to each other beside the core's messages: proposals on their way to the leader.

A node that is not the leader sends its callers' commands on; the leader appends them under the
origin they came with. There is no answer when that works: the origin finds its callers again when
it applies the entry itself. Only a refusal is said, and a refusal is certain: nothing was appended.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

import msgpack

from streambus_raft._envelope import decode_envelope
from streambus_raft._messages import Message
from streambus_raft._types import NUMBER_MAX, NodeId
from streambus_raft.errors import EnvelopeError, MessageMalformedError

NOT_LEADER: Final = 0
BUSY: Final = 1
TOO_LARGE: Final = 2
_FORWARD: Final = 1
_REFUSED: Final = 2


class Forward(NamedTuple):
    """Please append this.

    Attributes:
        sender: Whose callers wait.
        to: The leader, as far as the sender knows.
        data: An encoded envelope whose node is ``sender``.
    """

    sender: NodeId
    to: NodeId
    data: bytes


class ForwardRefused(NamedTuple):
    """The group of proposals was not appended, and will not be.

    Attributes:
        sender: Who was asked.
        to: Who asked.
        ticket: The envelope's ticket.
        reason: ``NOT_LEADER``, ``BUSY`` or ``TOO_LARGE``.
        leader: Whom to ask instead; 0 if that is not known.
    """

    sender: NodeId
    to: NodeId
    ticket: int
    reason: int
    leader: int


ForwardMessage: TypeAlias = Forward | ForwardRefused
"""Either of them."""

PeerMessage: TypeAlias = Message | ForwardMessage
"""Whatever servers say to each other."""


def encode_forward(message: ForwardMessage) -> bytes:
    """Encode for the wire: a number for the class, then its fields, as one array."""
    kind = _FORWARD if isinstance(message, Forward) else _REFUSED
    packed: bytes = msgpack.packb((kind, *message))
    return packed


def decode_forward(data: bytes | memoryview) -> ForwardMessage:
    """Decode what came over the wire.

    Raises:
        MessageMalformedError: it is anything else; an enclosed envelope is checked too.
    """
    try:
        fields = msgpack.unpackb(data, use_list=False)
    except (ValueError, msgpack.UnpackException) as exc:
        raise MessageMalformedError(f"a forward is no msgpack: {exc}") from exc
    if not isinstance(fields, tuple) or not fields:
        raise MessageMalformedError("a forward is no array")
    kind, *rest = fields
    if kind == _FORWARD and len(rest) == 3 and type(rest[2]) is bytes:
        _check_numbers(rest[:2])
        try:
            origin = decode_envelope(rest[2]).node
        except EnvelopeError as exc:
            raise MessageMalformedError(str(exc)) from exc
        if origin != rest[0]:
            raise MessageMalformedError(f"node {rest[0]} forwards in the name of node {origin}")
        return Forward._make(rest)
    if kind == _REFUSED and len(rest) == 5:
        _check_numbers(rest)
        return ForwardRefused._make(rest)
    raise MessageMalformedError("a forward of unknown kind or shape")


def _check_numbers(values: list[object]) -> None:
    for value in values:
        if type(value) is not int or not 0 <= value <= NUMBER_MAX:
            raise MessageMalformedError("a forward's number is out of range")
