"""Stored bytes with right checksums and wrong shapes: each is refused with a typed error."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from xxhash import xxh3_64_intdigest

from streambus_storage import CorruptionError, FormatVersionError
from streambus_storage._block import CODEC_LZ4, CODEC_ZSTD, decode_entries, seal, unseal
from streambus_storage._levels import VersionEdit
from streambus_storage._manifest_format import (
    ManifestEdit,
    Segment,
    decode_current,
    decode_manifest,
    encode_edit,
    encode_manifest_header,
)
from streambus_storage._sstable_format import Footer, decode_footer, encode_footer
from streambus_storage._wal_format import (
    WAL_HEADER_BYTES,
    check_wal_header,
    decode_record,
    encode_wal_header,
)


def framed(kind: int, payload: bytes, seed: int) -> bytes:
    body = b"\xb5\x1a\x9d" + bytes((kind,)) + struct.pack("<IQQ", len(payload), 1, 0) + payload
    return struct.pack("<Q", xxh3_64_intdigest(body, seed)) + body


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (1, b"", "has no key"),
        (2, b"\x05", "has no key"),
        (1, b"\x05\x00abc", "longer than the record"),
        (3, b"\xc1", "does not hold columns"),
        (3, msgpack.packb([[], []]), "does not hold columns"),
        (3, msgpack.packb([[b"a"], [], []]), "does not hold columns"),
        (3, msgpack.packb([b"a", [], []]), "does not hold columns"),
        (3, msgpack.packb([["a"], [b""], []]), "does not hold columns"),
        (3, msgpack.packb([[b"a"], [1], []]), "does not hold columns"),
        (3, msgpack.packb([[], [], [1]]), "does not hold columns"),
        (3, msgpack.packb([[], [], [[0, b"a", 1]]]), "does not hold columns"),
        (7, b"", "no record begins here"),
    ],
)
def test_log_record_of_a_wrong_shape(kind: int, payload: bytes, reason: str) -> None:
    said = decode_record(framed(kind, payload, 5), 0, 5)
    assert isinstance(said, str)
    assert reason in said


def test_log_header_of_another_segment_or_cut_short() -> None:
    header = encode_wal_header(3, 9)
    assert check_wal_header(header, 3, "3.wal") == int.from_bytes(header[-8:], "little")
    with pytest.raises(CorruptionError, match="that of segment 3"):
        check_wal_header(header, 4, "4.wal")
    with pytest.raises(CorruptionError, match="cut short"):
        check_wal_header(header[: WAL_HEADER_BYTES - 1], 3, "3.wal")
    with pytest.raises(CorruptionError, match="damaged"):
        check_wal_header(b"X" + header[1:], 3, "3.wal")


@pytest.mark.parametrize(
    "columns",
    [
        1,
        [],
        [[b"a"]],
        [[b"a"], b"v"],
        [[b"a"], []],
        [[], []],
        [["a"], [b"v"]],
        [[b"a"], [7]],
        [[b"a"], [[1, 2]]],
        [[b"a"], [[1, 2, b"x"]]],
    ],
)
def test_block_of_a_wrong_shape(columns: Any) -> None:
    with pytest.raises(CorruptionError):
        decode_entries(msgpack.packb(columns), "1.sst", 0)


@pytest.mark.parametrize("codec", [CODEC_LZ4, CODEC_ZSTD, 9])
def test_block_that_does_not_expand(codec: int) -> None:
    pytest.importorskip("cramjam")
    for stored in (b"", b"\xff\xff\xff\xff rubbish", b"\x01\x00\x00\x00\xff\xff"):
        tagged = stored + bytes((codec,))
        data = tagged + struct.pack("<Q", xxh3_64_intdigest(tagged, 4))
        with pytest.raises(CorruptionError):
            unseal(data, "1.sst", 4)


def test_block_read_from_the_wrong_place_or_cut_short() -> None:
    sealed = seal(b"payload", 100)
    assert unseal(sealed, "1.sst", 100) == b"payload"
    with pytest.raises(CorruptionError, match="checksum"):
        unseal(sealed, "1.sst", 101)
    with pytest.raises(CorruptionError, match="cut short"):
        unseal(b"1234", "1.sst", 0)


def footer_with(version: int = 1, magic: bytes = b"SBUSSST\n", index_offset: int = 0) -> bytes:
    whole = encode_footer(Footer(index_offset, 10, 0, 10, 1, 0))
    head = whole[8:-12] + struct.pack("<I", version) + magic
    return struct.pack("<Q", xxh3_64_intdigest(head)) + head


def test_footer_that_is_none() -> None:
    assert decode_footer(footer_with(), "1.sst", 20).entries == 1
    with pytest.raises(CorruptionError, match="cut short"):
        decode_footer(footer_with()[:-1], "1.sst", 20)
    with pytest.raises(CorruptionError, match="damaged"):
        decode_footer(b"\x00" + footer_with()[1:], "1.sst", 20)
    with pytest.raises(CorruptionError, match="not a table"):
        decode_footer(footer_with(magic=b"SOMEBODY"), "1.sst", 20)
    with pytest.raises(CorruptionError, match="outside"):
        decode_footer(footer_with(index_offset=15), "1.sst", 20)
    with pytest.raises(FormatVersionError) as caught:
        decode_footer(footer_with(version=2), "1.sst", 20)
    assert caught.value.found == 2


def manifest_of(*payloads: Any) -> bytes:
    data = encode_manifest_header(1)
    for payload in payloads:
        packed = payload if isinstance(payload, bytes) else msgpack.packb(payload)
        data += struct.pack("<QI", xxh3_64_intdigest(packed, 1), len(packed)) + packed
    return data


GOOD = {
    "add": [], "remove": [], "delete": [], "sequence": None, "segments": [], "drop": [],
    "next": [1, 1], "holes": [],
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"add": [[0, 1, 2, 3, 4, b"a", "b", 0]]},
        {"add": [[9, 1, 2, 3, 4, b"a", b"b", 0]]},
        {"add": [[0, -1, 2, 3, 4, b"a", b"b", 0]]},
        {"add": [[0, 1]]},
        {"add": [[1, 1, 9, 9, 0, b"a", b"c", 0], [1, 2, 9, 9, 0, b"b", b"d", 0]]},
        {"remove": [5]},
        {"remove": ["x"]},
        {"remove": None},
        {"delete": [["a", b"b"]]},
        {"sequence": -1},
        {"segments": [[1]]},
        {"drop": [3]},
        {"next": []},
        {"holes": [[b"a", b"b", None]]},
    ],
)
def test_manifest_edit_that_makes_no_sense(change: dict[str, Any]) -> None:
    decode_manifest(manifest_of(GOOD, GOOD), 1, "MANIFEST-000001")
    with pytest.raises(CorruptionError, match="makes no sense"):
        decode_manifest(manifest_of(GOOD, {**GOOD, **change}), 1, "MANIFEST-000001")
    with pytest.raises(CorruptionError, match="makes no sense"):
        decode_manifest(manifest_of([1, 2]), 1, "MANIFEST-000001")


def test_manifest_whose_flush_mark_goes_back() -> None:
    edits = [{**GOOD, "sequence": 9}, {**GOOD, "sequence": 8}]
    with pytest.raises(CorruptionError, match="go back"):
        decode_manifest(manifest_of(*edits), 1, "MANIFEST-000001")


def test_manifest_cut_short_anywhere_is_its_beginning_or_an_error() -> None:
    edits = [
        ManifestEdit(segments=[Segment(number)], version=VersionEdit(sequence=number))
        for number in range(1, 4)
    ]
    data = encode_manifest_header(1) + b"".join(encode_edit(edit, 1) for edit in edits)
    for size in range(len(data)):
        try:
            state, end = decode_manifest(data[:size], 1, "MANIFEST-000001")
        except CorruptionError as error:
            assert error.path == "MANIFEST-000001"
        else:
            assert sorted(state.segments) == list(range(1, state.version.sequence + 1))
            assert end <= size
    with pytest.raises(CorruptionError, match="others follow"):
        broken = bytearray(data)
        broken[len(data) // 2] ^= 1
        decode_manifest(bytes(broken), 1, "MANIFEST-000001")
    with pytest.raises(CorruptionError, match="that of manifest 1"):
        decode_manifest(data, 2, "MANIFEST-000002")


@pytest.mark.parametrize(
    "data", [b"", b"MANIFEST-000001\n", b"\xff\xff", b"MANIFEST-x 0\n", b"MANIFEST-000001 00\n"]
)
def test_current_that_names_nothing(data: bytes) -> None:
    with pytest.raises(CorruptionError):
        decode_current(data, "CURRENT")
