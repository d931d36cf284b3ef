"""Messages on the wire: what goes out comes in, and nothing else does."""

from __future__ import annotations

from random import Random
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_raft import (
    AppendReply,
    AppendRequest,
    Codec,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Membership,
    Message,
    NodeId,
    ReadReply,
    ReadRequest,
    Refusal,
    SnapshotChunk,
    SnapshotMeta,
    SnapshotReply,
    Term,
    TimeoutNow,
    VoteReply,
    VoteRequest,
    decode_membership,
    new_membership,
)
from streambus_raft.errors import (
    ConfigError,
    ForeignClusterError,
    MessageError,
    MessageMalformedError,
    MessageTooLargeError,
    MessageVersionError,
)

HEAD = (NodeId(1), NodeId(2), Term(5))
ENTRIES = [
    Entry(8, Term(3), EntryKind.COMMAND, b"a"),
    Entry(9, Term(3), EntryKind.NOOP, b""),
    Entry(10, Term(5), EntryKind.MEMBERSHIP, new_membership([1, 2]).encode()),
]
META = SnapshotMeta(7, Term(3), new_membership([1, 2, 3], [4]), 100, 12345)
MESSAGES: list[Message] = [
    VoteRequest(*HEAD, 7, Term(3), True, False),
    VoteReply(*HEAD, False, True, 99),
    AppendRequest(*HEAD, 4, 7, Term(3), 6, ENTRIES),
    AppendRequest(*HEAD, 4, 7, Term(3), 6, []),
    AppendReply(*HEAD, 4, True, 7, 6, Term(2), 99),
    Heartbeat(*HEAD, 4, 6, 17, 99),
    HeartbeatReply(*HEAD, 4, 17, 99),
    SnapshotChunk(*HEAD, 4, META, 0, b"bytes"),
    SnapshotReply(*HEAD, 4, 7, 5, False, 99),
    TimeoutNow(*HEAD),
    ReadRequest(*HEAD, 2**62),
    ReadReply(*HEAD, 2**62, 7),
    Refusal(*HEAD, 99, "lost its tail"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_message_survives_the_wire(message: Message) -> None:
    codec = Codec("test")
    decoded = codec.decode(codec.encode(message))
    assert decoded == message
    assert type(decoded) is type(message)


def row(message: Message) -> list[Any]:
    fields: list[Any] = msgpack.unpackb(Codec("test").encode(message))
    return fields


@pytest.mark.parametrize("message", MESSAGES, ids=lambda each: type(each).__name__)
def test_each_field_is_checked(message: Message) -> None:
    codec = Codec("test")
    fields = row(message)
    for place in range(2, len(fields)):
        wrongs: tuple[Any, ...] = (None, -1, 2**63, 1.5, "text" * 300, [], {}, [[1]])
        for wrong in wrongs:
            changed = [*fields[:place], wrong, *fields[place + 1 :]]
            with pytest.raises(MessageError):
                codec.decode(msgpack.packb(changed))
    for changed in (fields[:-1], [*fields, 0], []):
        with pytest.raises(MessageMalformedError):
            codec.decode(msgpack.packb(changed))


def test_message_of_another_cluster_version_or_size_is_refused() -> None:
    data = Codec("one").encode(MESSAGES[0])
    with pytest.raises(ForeignClusterError) as foreign:
        Codec("two").decode(data)
    assert (foreign.value.cluster, foreign.value.expected) == ("one", "two")
    with pytest.raises(MessageVersionError) as version:
        Codec("test").decode(msgpack.packb([9, *row(MESSAGES[0])[1:]]))
    assert version.value.version == 9
    large = AppendRequest(*HEAD, 4, 7, Term(3), 6, [Entry(8, Term(3), 0, b"x" * 2000)])
    with pytest.raises(MessageTooLargeError) as size:
        Codec("test", message_bytes_max=1024).decode(Codec("test").encode(large))
    assert size.value.bytes_max == 1024


@pytest.mark.parametrize(
    "columns",
    [
        [[[3, 3]], b"\0\0", [b"a", b"b"]],  # more terms than entries
        [[[1, 3]], b"\0\0", [b"a", b"b"]],  # fewer
        [[[1, 4], [1, 3]], b"\0\0", [b"a", b"b"]],  # terms that fall
        [[[1, 3], [1, 3]], b"\0\0", [b"a", b"b"]],  # a run cut in two
        [[[2, 2]], b"\0\0", [b"a", b"b"]],  # a term before the previous entry's
        [[[2, 9]], b"\0\0", [b"a", b"b"]],  # a term behind the message's
        [[[2, 3]], b"\0", [b"a", b"b"]],
        [[[2, 3]], b"\0\7", [b"a", b"b"]],  # an unknown kind
        [[[2, 3]], b"\0\0", [b"a", "b"]],
        [[[0, 3], [2, 4]], b"\0\0", [b"a", b"b"]],
    ],
)
def test_entries_that_cannot_be_are_refused(columns: list[Any]) -> None:
    fields = row(AppendRequest(*HEAD, 4, 7, Term(3), 6, []))
    with pytest.raises(MessageMalformedError):
        Codec("test").decode(msgpack.packb([*fields[:-1], columns]))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_typed_error(data: bytes) -> None:
    codec = Codec("test")
    try:
        message = codec.decode(data)
    except MessageError:
        return
    assert codec.decode(codec.encode(message)) == message


def test_flipped_bytes_are_a_message_or_a_typed_error() -> None:
    random, codec = Random(7), Codec("test")
    for message in MESSAGES:
        data = codec.encode(message)
        for _ in range(300):
            damaged = bytearray(data)
            damaged[random.randrange(len(data))] ^= 1 << random.randrange(8)
            try:
                found = codec.decode(damaged)
            except MessageError:
                continue
            assert codec.decode(codec.encode(found)) == found


def test_membership_survives_and_is_checked() -> None:
    membership = Membership(
        (NodeId(1), NodeId(3)),
        (NodeId(1), NodeId(2)),
        (NodeId(4),),
        (NodeId(2),),
        ((NodeId(1), 5),),
    )
    assert decode_membership(membership.encode()) == membership
    for wrong in (
        b"",
        b"\xc1",
        msgpack.packb([]),
        msgpack.packb([[2, 1], [], [], [], []]),
        msgpack.packb([[1], [], [1], [], []]),
        msgpack.packb([[1], [], [], [2], []]),
        msgpack.packb([[1], [], [], [], [[1]]]),
        msgpack.packb([[1], [], [], [], [[1, 0]]]),
        msgpack.packb([[0], [], [], [], []]),
        msgpack.packb([["1"], [], [], [], []]),
        msgpack.packb([1, [], [], [], []]),
        msgpack.packb([[1], [], [], [], 1]),
    ):
        with pytest.raises(MessageMalformedError):
            decode_membership(wrong)


def test_codec_settings_are_checked() -> None:
    with pytest.raises(ConfigError):
        Codec("x" * 1001)
    with pytest.raises(ConfigError):
        Codec("x", message_bytes_max=10)
