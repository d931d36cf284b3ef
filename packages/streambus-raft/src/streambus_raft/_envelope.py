"""What a command entry holds: all the proposals of one loop turn, as msgpack columns.

One entry for many proposals, because everything the core, the log and the wire do is done per
entry, while a column of commands costs one C call. The origin lets the node that took the
proposals find its waiting callers again, even where another node appended the entry.

Grammar (msgpack): ``[version, node, ticket, commands]`` or, where a command belongs to a client
session, ``[version, node, ticket, commands, requests]``; ``requests[i]`` is ``nil`` or
``[session, sequence, acknowledged_below]``. A session is opened by a command of its own:
``requests[i] = [0, expire_after_entries, 0]`` with an empty command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgpack

from streambus_raft._types import NUMBER_MAX
from streambus_raft.errors import EnvelopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION: Final = 1
OPEN_SESSION: Final = 0
"""In place of a session's number: the request opens one."""


class SessionRequest(NamedTuple):
    """Which request of which session a command is.

    Attributes:
        session: The number that opening the session returned, from 1.
        sequence: Counts the session's requests, from 1; a retry repeats the number.
        acknowledged_below: The client knows the answers of all requests below this number, so that
            they need not be kept. At most ``sequence``.
    """

    session: int
    sequence: int
    acknowledged_below: int


class Envelope(NamedTuple):
    """The proposals of one entry.

    Attributes:
        node: The node whose callers wait for the answers.
        ticket: What that node calls this group of proposals; 0 if nobody waits.
        commands: The commands, in the order in which they are applied.
        requests: For each command its session request or None; None if no command has one.
    """

    node: int
    ticket: int
    commands: Sequence[bytes]
    requests: Sequence[SessionRequest | None] | None


def encode_envelope(envelope: Envelope) -> bytes:
    """Encode for the log. Cost: one copy of the commands."""
    parts = envelope[:3] if envelope.requests is None else envelope
    packed: bytes = msgpack.packb((VERSION, *parts), use_bin_type=True)
    return packed


def decode_envelope(data: bytes) -> Envelope:
    """Decode an entry's content.

    Raises:
        EnvelopeError: it is not an envelope, or of an unknown version.
    """
    try:
        fields = msgpack.unpackb(data, raw=False, use_list=True)
    except (ValueError, msgpack.UnpackException) as exc:
        raise EnvelopeError(f"a committed entry is no msgpack: {exc}") from exc
    if not isinstance(fields, list) or not fields or type(fields[0]) is not int:
        raise EnvelopeError("a committed entry does not begin with a version")
    if fields[0] != VERSION:
        raise EnvelopeError(f"a committed entry has the unknown envelope version {fields[0]}")
    if len(fields) not in (4, 5):
        raise EnvelopeError(f"an envelope has {len(fields)} fields")
    node, ticket, commands = fields[1:4]
    if not _is_number(node) or not _is_number(ticket) or not _all_bytes(commands):
        raise EnvelopeError("an envelope's field has a wrong type")
    requests = _requests(fields[4], len(commands)) if len(fields) == 5 else None
    return Envelope(node, ticket, commands, requests)


def _requests(column: object, count: int) -> list[SessionRequest | None]:
    if not isinstance(column, list) or len(column) != count:
        raise EnvelopeError("an envelope's requests do not match its commands")
    requests: list[SessionRequest | None] = []
    for fields in column:
        if fields is None:
            requests.append(None)
        elif isinstance(fields, list) and len(fields) == 3 and all(map(_is_number, fields)):
            requests.append(SessionRequest._make(fields))
        else:
            raise EnvelopeError("a session request is malformed")
    return requests


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= NUMBER_MAX


def _all_bytes(values: object) -> bool:
    return isinstance(values, list) and set(map(type, values)) <= {bytes}
