"""The committed vectors are what this release reads and writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streambus_protocol import (
    APIS,
    Frame,
    FrameDecoder,
    decode_columns,
    decode_message,
    encode_frame,
    encode_message,
)
from tests.protocol.message_tables import DOCUMENT, render
from tests.protocol.vectors import COMPRESSED, FOLDER, MESSAGES, batch_of, flat_of, messages, unhex


def load(name: str) -> list[Any]:
    return list(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("vector", load("frame"), ids=lambda vector: vector["name"])
def test_frame_vector(vector: dict[str, Any]) -> None:
    body = bytes.fromhex(vector["body"])
    fields = (vector["api"], vector["version"], vector["flags"], vector["correlation_id"], body)
    assert encode_frame(*fields) == bytes.fromhex(vector["bytes"])
    assert FrameDecoder().receive(bytes.fromhex(vector["bytes"])) == [Frame(*fields)]


@pytest.mark.parametrize("vector", load("batch"), ids=lambda vector: vector["name"])
def test_batch_vector(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    columns = decode_columns(data)
    assert columns.values == [unhex(value) for value in vector["values"]]
    assert columns.keys == ([unhex(key) for key in vector["keys"]] if "keys" in vector else None)
    assert columns.timestamp_deltas == vector.get("timestamp_deltas")
    assert columns.offset_deltas == vector.get("offset_deltas")
    assert columns.flat_headers == (
        [flat_of(pairs) for pairs in vector["headers"]] if "headers" in vector else None
    )
    assert columns.header.base_offset == vector.get("base_offset", 0)
    assert columns.header.leader_epoch == vector.get("leader_epoch", -1)
    if vector["name"] not in {codec.name for codec in COMPRESSED}:
        # A newer compression library may find other bytes for the same data.
        assert batch_of(vector) == data


def test_message_vectors() -> None:
    vectors = load("message")
    assert messages() == vectors
    for vector in vectors:
        sent = MESSAGES[vector["name"].rpartition(", version")[0]]
        read = decode_message(type(sent), bytes.fromhex(vector["body"]), vector["version"])
        assert encode_message(read, vector["version"]).hex() == vector["body"]
        if vector["version"] == APIS[vector["api"]].version_max:
            assert read == sent


def test_batch_example_of_the_document_is_the_vector() -> None:
    document = (FOLDER.parent / "batch.md").read_text(encoding="utf-8")
    checksum = load("batch")[0]["bytes"][24:40]
    spaced = " ".join(checksum[i : i + 2] for i in range(0, 16, 2))
    assert f"{spaced}   checksum" in document


def test_message_tables_of_the_document_are_the_declarations() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), (
        "docs/formats/messages.md is out of date: run python -m tests.protocol.message_tables"
    )
