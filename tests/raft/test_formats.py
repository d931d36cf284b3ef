"""The vectors in ``docs/formats/vectors`` are what this implementation writes and reads."""

from __future__ import annotations

import json
from pathlib import Path

from streambus_raft import (
    AppendRequest,
    Codec,
    Entry,
    EntryKind,
    Forward,
    HardState,
    Heartbeat,
    NodeId,
    Term,
)
from streambus_raft._envelope import Envelope, SessionRequest, encode_envelope
from streambus_raft._forwarding import decode_forward, encode_forward
from streambus_raft._frames import (
    FrameKind,
    FrameReader,
    Hello,
    RefusalCode,
    decode_hello,
    encode_frame,
    encode_hello,
    encode_refused,
)
from streambus_raft._identity_file import Identity, decode_identity, encode_identity
from streambus_raft._log_creation import encode_opening
from streambus_raft._log_records import (
    CheckpointRecord,
    CompactRecord,
    EntriesRecord,
    HardStateRecord,
    decode_log_record,
    encode_compact,
    encode_entries,
    encode_hard_state,
)
from streambus_raft._segment import encode_record, scan_segment

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"

STATE = HardState(Term(3), NodeId(2), 17)
ENTRIES = [
    Entry(18, Term(2), EntryKind.COMMAND, b"one"),
    Entry(19, Term(3), EntryKind.NOOP, b""),
]
CHECKPOINT = CheckpointRecord(HardState(), 0, Term(0), 0, Term(0))


def log_vectors() -> dict[str, str]:
    """Segment 1 with its opening and three records, the last two written after a sync."""
    opening = encode_opening(1, 0, CHECKPOINT)
    segment = opening
    for body in (encode_hard_state(STATE), encode_entries(ENTRIES), encode_compact(17, Term(2))):
        segment += encode_record(body, 1, len(segment), len(opening))
    return {
        "identity": encode_identity(Identity(81985529216486895, 1, "kv")).hex(),
        "opening": opening.hex(),
        "segment": segment.hex(),
    }


def wire_vectors() -> dict[str, str]:
    """A greeting, its answers, two messages and a forward, as whole frames."""
    codec = Codec("kv")
    heartbeat = Heartbeat(NodeId(1), NodeId(2), Term(3), 4, 17, 5, 99)
    append = AppendRequest(NodeId(1), NodeId(2), Term(3), 4, 17, Term(2), 17, ENTRIES)
    requests = [None, SessionRequest(12, 1, 1)]
    envelope = encode_envelope(Envelope(2, 77, [b"one", b"two"], requests))
    forward = Forward(NodeId(2), NodeId(1), envelope)
    return {
        "hello": encode_hello(Hello(1, "kv", 1, 2)).hex(),
        "welcome": encode_frame(FrameKind.WELCOME, b"\x91\x01").hex(),
        "refused": encode_refused(RefusalCode.CLUSTER, "another cluster").hex(),
        "heartbeat": encode_frame(FrameKind.MESSAGE, codec.encode(heartbeat)).hex(),
        "append": encode_frame(FrameKind.MESSAGE, codec.encode(append)).hex(),
        "forward": encode_frame(FrameKind.FORWARD, encode_forward(forward)).hex(),
    }


def read(name: str) -> dict[str, str]:
    vectors: dict[str, str] = json.loads((VECTORS / name).read_text(encoding="utf-8"))
    return vectors


def test_the_log_is_written_and_read_as_described() -> None:
    vectors = read("raft-log.json")
    assert vectors == log_vectors()
    assert decode_identity(bytes.fromhex(vectors["identity"])).cluster == "kv"
    scan = scan_segment(bytes.fromhex(vectors["segment"]), 1)
    assert (scan.problem, scan.predecessor_bytes) == ("", 0)
    assert [decode_log_record(record.body) for record in scan.records] == [
        CHECKPOINT,
        HardStateRecord(STATE),
        EntriesRecord(ENTRIES),
        CompactRecord(17, Term(2)),
    ]


def test_the_wire_is_written_and_read_as_described() -> None:
    vectors = read("raft-wire.json")
    assert vectors == wire_vectors()
    reader = FrameReader(10_000)
    frames = reader.feed(b"".join(map(bytes.fromhex, vectors.values())))
    assert [kind for kind, _ in frames] == [1, 2, 3, 4, 4, 5]
    assert decode_hello(frames[0][1]) == Hello(1, "kv", 1, 2)
    append = Codec("kv").decode(frames[4][1])
    assert isinstance(append, AppendRequest)
    assert append.entries == ENTRIES
    assert decode_forward(frames[5][1]).sender == 2


def test_the_worked_examples_in_the_documents_are_these_bytes() -> None:
    for document, name, key in (
        ("raft-log.md", "raft-log.json", "segment"),
        ("raft-wire.md", "raft-wire.json", "heartbeat"),
    ):
        text = (VECTORS.parent / document).read_text(encoding="utf-8")
        example = text.split("## Worked example", 1)[1].split("```")[1]
        written = "".join(line[:50] for line in example.strip("\n").splitlines())
        assert written.replace(" ", "") == read(name)[key], document
