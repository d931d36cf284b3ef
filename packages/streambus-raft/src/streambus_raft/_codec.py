"""Messages as bytes: one msgpack array, checked field by field when it comes in.

Format, version 1: ``[version, cluster, kind, field, ...]`` with the fields of the message class in
their order. The entries of an append travel as columns, because their index follows from
``prev_index`` and their terms are nearly always one: ``[[[count, term], ...], kinds, [data, ...]]``
where ``kinds`` is a byte string with one byte for each entry.
"""

from __future__ import annotations

from itertools import chain, groupby, pairwise, repeat
from operator import itemgetter
from typing import TYPE_CHECKING

import msgpack

from streambus_raft import _messages as messages
from streambus_raft._entry import Entry, EntryKind
from streambus_raft._membership import UNPACK_ERRORS, membership_from_fields
from streambus_raft._storage import SnapshotMeta
from streambus_raft._types import NUMBER_MAX
from streambus_raft.errors import (
    ConfigError,
    ForeignClusterError,
    MessageMalformedError,
    MessageTooLargeError,
    MessageVersionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streambus_raft._messages import Message

FORMAT_VERSION = 1
TEXT_CHARACTERS_MAX = 1000
"""Of a cluster's name or a reason."""

_term_of, _kind_of, _data_of = itemgetter(1), itemgetter(2), itemgetter(3)
_KINDS = frozenset(map(int, EntryKind))


def _number(value: object) -> int:
    if type(value) is int and 0 <= value <= NUMBER_MAX:
        return value
    raise MessageMalformedError(f"{value!r:.60} is no number from 0 to {NUMBER_MAX}")


def _node(value: object) -> int:
    if type(value) is int and 0 < value <= NUMBER_MAX:
        return value
    raise MessageMalformedError(f"{value!r:.60} is no node id")


def _flag(value: object) -> bool:
    if type(value) is bool:
        return value
    raise MessageMalformedError(f"{value!r:.60} is no truth value")


def _bytes(value: object) -> bytes:
    if type(value) is bytes:
        return value
    raise MessageMalformedError(f"{value!r:.60} are no bytes")


def _text(value: object) -> str:
    if type(value) is str and len(value) <= TEXT_CHARACTERS_MAX:
        return value
    raise MessageMalformedError(f"{value!r:.60} is no text of at most {TEXT_CHARACTERS_MAX}")


def _meta(value: object) -> SnapshotMeta:
    if type(value) is not tuple or len(value) != 5:
        raise MessageMalformedError("a snapshot has five facts")
    index, term, membership, size, checksum = value
    return SnapshotMeta(
        _number(index),
        _number(term),  # type: ignore[arg-type]  # a checked number is a term
        membership_from_fields(membership),
        _number(size),
        _number(checksum),
    )


def _columns(value: object) -> tuple[list[int], bytes, tuple[bytes, ...]]:
    if type(value) is not tuple or len(value) != 3:
        raise MessageMalformedError("entries have three columns")
    runs, kinds, payloads = value
    if type(runs) is not tuple or type(kinds) is not bytes or type(payloads) is not tuple:
        raise MessageMalformedError("a column of entries has a wrong type")
    count = len(payloads)
    if len(kinds) != count or len(runs) > count:
        raise MessageMalformedError("the columns of entries differ in length")
    for run in runs:
        if type(run) is not tuple or len(run) != 2 or not 0 < _number(run[0]) <= count:
            raise MessageMalformedError("a run of terms is a pair of count and term")
        _number(run[1])
    if sum(run[0] for run in runs) != count or any(a[1] >= b[1] for a, b in pairwise(runs)):
        raise MessageMalformedError("the runs of terms do not ascend, or do not cover the entries")
    if not _KINDS.issuperset(kinds):
        raise MessageMalformedError("an entry of unknown kind")
    if not set(map(type, payloads)) <= {bytes}:
        raise MessageMalformedError("an entry's data are bytes")
    return list(chain.from_iterable(repeat(term, n) for n, term in runs)), kinds, payloads


def _pack_entries(entries: list[Entry]) -> tuple[object, bytes, list[bytes]]:
    terms = list(map(_term_of, entries))
    runs = [(sum(1 for _ in same), term) for term, same in groupby(terms)]
    return runs, bytes(map(_kind_of, entries)), list(map(_data_of, entries))


_FIELDS: dict[type, tuple[Callable[[object], object], ...]] = {
    messages.VoteRequest: (_number, _number, _flag, _flag),
    messages.VoteReply: (_flag, _flag, _node),
    messages.AppendRequest: (_number, _number, _number, _number, _columns),
    messages.AppendReply: (_number, _flag, _number, _number, _number, _node),
    messages.Heartbeat: (_number, _number, _number, _number),
    messages.HeartbeatReply: (_number, _number, _node),
    messages.SnapshotChunk: (_number, _meta, _number, _bytes),
    messages.SnapshotReply: (_number, _number, _number, _flag, _node),
    messages.TimeoutNow: (),
    messages.ReadRequest: (_number,),
    messages.ReadReply: (_number, _number),
    messages.Refusal: (_node, _text),
}
"""How each message's fields behind sender, to and term are checked; its order gives the wire
codes."""

_CHECKS = {kind: (_node, _node, _number, *checks) for kind, checks in _FIELDS.items()}
"""The same with those of sender, to and term."""

_KIND_OF_CLASS = {message_class: code for code, message_class in enumerate(_FIELDS, 1)}
_CLASS_OF_KIND = {code: message_class for message_class, code in _KIND_OF_CLASS.items()}


class Codec:
    """Encodes and decodes the messages of one cluster. Not for several threads at once.

    Args:
        cluster: a name that every member has in common, at most 1000 characters.
        message_bytes_max: above this nothing is decoded. Leave room for ``append_bytes_max``, the
            largest command, and about 10 bytes for each entry.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(self, cluster: str, message_bytes_max: int = 64 << 20) -> None:
        if len(cluster) > TEXT_CHARACTERS_MAX:
            raise ConfigError(f"a cluster's name has at most {TEXT_CHARACTERS_MAX} characters")
        if message_bytes_max < 1024:
            raise ConfigError("message_bytes_max is at least 1024")
        self.cluster = cluster
        self.message_bytes_max = message_bytes_max
        self._packer = msgpack.Packer(autoreset=True)

    def encode(self, message: Message) -> bytes:
        """Make bytes of a message."""
        head = (FORMAT_VERSION, self.cluster, _KIND_OF_CLASS[type(message)])
        if isinstance(message, messages.AppendRequest):
            fields: Iterable[object] = (*message[:-1], _pack_entries(message.entries))
        else:
            fields = message
        packed: bytes = self._packer.pack((*head, *fields))
        return packed

    def decode(self, data: bytes | bytearray | memoryview) -> Message:
        """Make a message of bytes.

        Raises:
            MessageTooLargeError: more than ``message_bytes_max``; nothing was decoded.
            MessageVersionError: the sender speaks a later format.
            ForeignClusterError: the message belongs to another cluster.
            MessageMalformedError: anything else that is not a message in its whole.
        """
        if len(data) > self.message_bytes_max:
            raise MessageTooLargeError(len(data), self.message_bytes_max)
        try:
            row = msgpack.unpackb(data, use_list=False)
        except UNPACK_ERRORS as exc:
            raise MessageMalformedError(f"no msgpack value: {exc}") from exc
        if type(row) is not tuple or len(row) < 3:
            raise MessageMalformedError("no array of version, cluster, kind and fields")
        version, cluster, kind, *fields = row
        if version != FORMAT_VERSION or type(version) is not int:
            raise MessageVersionError(_number(version))
        if cluster != self.cluster:
            raise ForeignClusterError(_text(cluster), self.cluster)
        message_class = _CLASS_OF_KIND.get(kind) if type(kind) is int else None
        if message_class is None:
            raise MessageMalformedError(f"{kind!r:.60} is no kind of message")
        return self._build(message_class, fields)

    def _build(self, message_class: type, fields: list[object]) -> Message:
        checks = _CHECKS[message_class]
        if len(fields) != len(checks):
            raise MessageMalformedError(f"{message_class.__name__} has {len(checks)} fields")
        checked = [check(field) for check, field in zip(checks, fields, strict=True)]
        if message_class is messages.AppendRequest:
            checked[-1] = _entries(checked)
        message: Message = message_class(*checked)
        return message


def _entries(checked: list[object]) -> list[Entry]:
    """Join the columns of an append request into entries that can follow its ``prev_index``."""
    term, prev_index, prev_term, columns = checked[2], checked[4], checked[5], checked[7]
    assert isinstance(term, int)
    assert isinstance(prev_index, int)
    assert isinstance(prev_term, int)
    assert isinstance(columns, tuple)
    terms, kinds, payloads = columns
    if prev_term > term or (terms and not prev_term <= terms[0] <= terms[-1] <= term):
        raise MessageMalformedError("the terms of an append do not ascend to its own")
    first = prev_index + 1
    if first + len(payloads) > NUMBER_MAX:
        raise MessageMalformedError("an append reaches behind the largest index")
    rows = zip(range(first, first + len(payloads)), terms, kinds, payloads, strict=True)
    return list(map(tuple.__new__, repeat(Entry), rows))
