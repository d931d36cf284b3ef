"""``hatch run fuzz raft [frames|messages|forwards|segment|records|meta] [--seconds N]``.

Coverage-guided: each target feeds a reader whatever the fuzzer finds; anything but the package's
own typed errors, more than a second or one allocation above 64 MiB for one input is a finding. The
fuzzer stops at the first one and writes the input to a file that it names; keep it as a test in
tests/regressions.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["streambus_raft"]):
    from streambus_raft import Codec
    from streambus_raft._checked import CheckedFileError, decode_checked, encode_checked
    from streambus_raft._envelope import decode_envelope
    from streambus_raft._forwarding import decode_forward
    from streambus_raft._frames import FrameReader, decode_hello, decode_refused, encode_frame
    from streambus_raft._log_records import RecordError, decode_log_record
    from streambus_raft._segment import decode_record, encode_header, encode_record, scan_segment
    from streambus_raft._snapshot_files import MAGIC, VERSION, stored_from_fields
    from streambus_raft.errors import RaftError

from tests.support.fuzzing import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable

_CODEC = Codec("kv", 1 << 20)


def fuzz_frames(data: bytes) -> None:
    """A stream in two pieces, raw, and what is behind a right checksum."""
    reader = FrameReader(4096)
    with contextlib.suppress(RaftError):
        reader.feed(data[: len(data) // 2])
        reader.feed(data[len(data) // 2 :])
    for kind, payload in FrameReader(1 << 20).feed(encode_frame(1, data)) if data else ():  # type: ignore[arg-type]  # any number will do
        assert (kind, payload) == (1, data)
    for decode in (decode_hello, decode_refused):
        with contextlib.suppress(RaftError):
            decode(data)


def fuzz_messages(data: bytes) -> None:
    """A message, raw and behind the right beginning."""
    with contextlib.suppress(RaftError):
        _CODEC.decode(data)
    if data:
        head = b"\x01\xa2kv" + bytes([data[0] % 13])
        for fields in range(6, 13):
            with contextlib.suppress(RaftError):
                _CODEC.decode(bytes([0x90 | fields]) + head + data[1:])


def fuzz_forwards(data: bytes) -> None:
    """A forward and an envelope."""
    with contextlib.suppress(RaftError):
        decode_forward(data)
    with contextlib.suppress(RaftError):
        decode_envelope(data)


def fuzz_segment(data: bytes) -> None:
    """A segment behind a right header: the scan ends, and never beyond the bytes."""
    scan_segment(data, 1)
    header = encode_header(1, 0)
    scan = scan_segment(header + data, 1)
    assert scan.end <= scan.size == len(header) + len(data)
    decode_record(data, 1, 40)
    body = data or b"x"
    assert decode_record(encode_record(body, 3, 64, 40), 3, 64) == body


def fuzz_records(data: bytes) -> None:
    """The body of a record."""
    with contextlib.suppress(RecordError):
        decode_log_record(data)


def fuzz_meta(data: bytes) -> None:
    """The facts of a snapshot, raw and behind a right checksum."""
    with contextlib.suppress(CheckedFileError, RaftError):
        stored_from_fields(decode_checked(MAGIC, VERSION, data))
    head = encode_checked(MAGIC, VERSION, ())[:12]
    with contextlib.suppress(CheckedFileError, RaftError):
        decode_checked(MAGIC, VERSION, head + data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frames": fuzz_frames,
    "messages": fuzz_messages,
    "forwards": fuzz_forwards,
    "segment": fuzz_segment,
    "records": fuzz_records,
    "meta": fuzz_meta,
}


def main(arguments: list[str]) -> int:
    """Fuzz every target in a process of its own, or the one that is named."""
    return fuzz("raft", __doc__, TARGETS, arguments)
