"""``hatch run fuzz protocol [frame|message|batch|codec] [--seconds N]``: coverage-guided fuzzing.

Each target feeds a decoder whatever the fuzzer finds; anything but the package's own typed errors,
more than a second or one allocation above 64 MiB for one input is a finding. The fuzzer stops at
the first one and writes the input to a file that it names; keep it as a test in tests/regressions.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import atheris
import xxhash

with atheris.instrument_imports(include=["streambus_protocol"]):
    from streambus_protocol import (
        APIS,
        BATCH_HEADER_BYTES,
        Codec,
        FrameDecoder,
        ProtocolError,
        decode_columns,
        decode_message,
        encode_batch,
        iterate_batches,
    )
    from streambus_protocol._batch_header import CHECKED_FROM, PREFIX
    from streambus_protocol._codec import decompress

from tests.support.fuzzing import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable

_TYPES = [kind for api in APIS.values() for kind in (api.request, api.response)]


def fuzz_frame(data: bytes) -> None:
    """A stream in two pieces."""
    decoder = FrameDecoder(frame_bytes_max=4096)
    with contextlib.suppress(ProtocolError):
        decoder.receive(data[: len(data) // 2])
        decoder.receive(data[len(data) // 2 :])


def fuzz_message(data: bytes) -> None:
    """A body of any message: the first byte chooses which."""
    if data:
        with contextlib.suppress(ProtocolError):
            decode_message(_TYPES[data[0] % len(_TYPES)], data[1:], 0)


def fuzz_batch(data: bytes) -> None:
    """Columns behind a header whose checksum is right, so that the columns are reached."""
    template = bytearray(encode_batch([b"x"], base_timestamp_ms=0)[:BATCH_HEADER_BYTES])
    template += data[8:]
    template[28:36] = data[:8].ljust(8, b"\0")
    template[20:24] = len(template).to_bytes(4, "big")
    template[36:40] = max(len(data) - 8, 0).to_bytes(4, "big")
    checksum = xxhash.xxh3_64_intdigest(template[CHECKED_FROM:])
    batch = PREFIX.pack(0, 0, checksum) + template[CHECKED_FROM:]
    with contextlib.suppress(ProtocolError):
        decode_columns(batch)
    with contextlib.suppress(ProtocolError):
        list(iterate_batches(data))


def fuzz_codec(data: bytes) -> None:
    """Compressed data of every codec, with a small cap."""
    for codec in Codec:
        with contextlib.suppress(ProtocolError):
            decompress(codec, data, 4096, 8192)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "frame": fuzz_frame,
    "message": fuzz_message,
    "batch": fuzz_batch,
    "codec": fuzz_codec,
}


def main(arguments: list[str]) -> int:
    """Fuzz every target in a process of its own, or the one that is named."""
    return fuzz("protocol", __doc__, TARGETS, arguments)
