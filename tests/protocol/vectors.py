"""Write the test vectors of docs/formats anew: ``python -m tests.protocol.vectors``.

They are committed: a change of a format shows as a change of a vector.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streambus_protocol import (
    APIS,
    ApiKey,
    BatchFlags,
    Codec,
    ErrorCode,
    FetchedPartition,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    ProducerStamp,
    TraceContext,
    encode_batch,
    encode_frame,
    encode_message,
)

FOLDER = Path(__file__).parents[2] / "docs" / "formats" / "vectors"

_TRACED = TraceContext(bytes(range(16)), bytes(range(1, 9)), 1).to_bytes().hex() + "91c0"
FRAMES: list[dict[str, Any]] = [
    dict(zip(("name", "api", "version", "flags", "correlation_id", "body"), frame, strict=True))
    for frame in (
        ("health request", 9, 0, 0, 1, "90"),
        ("empty body", 65535, 255, 1, 2**32 - 1, ""),
        ("traced", 1, 0, 4, 7, _TRACED),
    )
]

BATCHES: list[dict[str, Any]] = [
    {"name": "hello", "values": ["68656c6c6f"], "base_timestamp_ms": 1_700_000_000_000},
    {
        "name": "null and empty are different",
        "values": ["", None], "keys": [None, ""], "base_timestamp_ms": 0,
    },
    {
        "name": "timestamps and headers",
        "values": ["01", "02", "03"],
        "base_timestamp_ms": 1000, "timestamp_deltas": [0, -5, 70_000],
        "headers": [None, [["a", "31"], ["a", None]], [["ü", ""]]],
    },
    {
        "name": "producer, stamped by a leader",
        "values": ["ff"], "keys": ["6b"], "base_timestamp_ms": -1, "base_offset": 2**40,
        "leader_epoch": 9, "producer": [123, 4, 567], "flags": int(BatchFlags.TRANSACTIONAL),
    },
    {
        "name": "gaps between offsets",
        "values": ["61", "62", "63"], "base_timestamp_ms": 5, "offset_deltas": [0, 4, 9],
    },
]  # fmt: skip
COMPRESSED = [codec for codec in Codec if codec is not Codec.NONE]

_WANTED = FetchPartition("orders", 3, 2**40, 7, 1 << 20)
MESSAGES: dict[str, tuple[Any, ...]] = {
    "fetch, from leaders": FetchRequest(500, 1, 1 << 23, (_WANTED,)),
    "fetch, from the closest replica": FetchRequest(500, 1, 1 << 23, (_WANTED,), "eu-1a"),
    "fetched": FetchResponse(0, (FetchedPartition(0, None, 2**40 + 1, 5, b"batches"),)),
    "fetched: go on at broker 2": FetchResponse(0, (FetchedPartition(0, None, 9, 5, b"", 2),)),
    "fetched: refused": FetchResponse(
        0, (FetchedPartition(int(ErrorCode.NOT_LEADER), "refresh", -1, -1, b""),)
    ),
}
"""Messages of an API with several versions; what an older one cannot say is left out."""


def messages() -> list[dict[str, Any]]:
    """Each of them in every version."""
    fetch = APIS[ApiKey.FETCH]
    return [
        {
            "name": f"{name}, version {version}", "api": int(fetch.key), "version": version,
            "message": type(message).__name__, "body": encode_message(message, version).hex(),
        }
        for name, message in MESSAGES.items()
        for version in range(fetch.version_min, fetch.version_max + 1)
    ]  # fmt: skip


def unhex(text: str | None) -> bytes | None:
    """Read a value of a vector; None stays None."""
    return None if text is None else bytes.fromhex(text)


def frame_of(vector: dict[str, Any]) -> bytes:
    """Encode what a frame vector describes."""
    fields = (vector["api"], vector["version"], vector["flags"], vector["correlation_id"])
    return encode_frame(*fields, bytes.fromhex(vector["body"]))


def batch_of(vector: dict[str, Any]) -> bytes:
    """Encode what a batch vector describes."""
    headers = vector.get("headers")
    return encode_batch(
        [unhex(value) for value in vector["values"]],
        [unhex(key) for key in vector["keys"]] if "keys" in vector else None,
        base_timestamp_ms=vector["base_timestamp_ms"],
        timestamp_deltas=vector.get("timestamp_deltas"),
        flat_headers=[flat_of(pairs) for pairs in headers] if headers else None,
        offset_deltas=vector.get("offset_deltas"),
        codec=Codec.parse(vector.get("codec", "none")),
        flags=vector.get("flags", 0),
        producer=ProducerStamp(*vector.get("producer", (-1, -1, -1))),
        base_offset=vector.get("base_offset", 0),
        leader_epoch=vector.get("leader_epoch", -1),
    )


def flat_of(pairs: list[list[Any]] | None) -> list[str | bytes | None] | None:
    """The flat form of a record's headers in a vector."""
    if pairs is None:
        return None
    return [part for name, value in pairs for part in (name, unhex(value))]


def main() -> None:
    """Write the files."""
    frames = [vector | {"bytes": frame_of(vector).hex()} for vector in FRAMES]
    long = {"values": ["00" * 100], "base_timestamp_ms": 1}
    compressed = [{"name": codec.name, "codec": codec.name, **long} for codec in COMPRESSED]
    batches = [vector | {"bytes": batch_of(vector).hex()} for vector in [*BATCHES, *compressed]]
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = {"frame": frames, "batch": batches, "message": messages()}
    for name, vectors in files.items():
        text = json.dumps(vectors, indent=1, ensure_ascii=False) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
