"""The vectors under docs/formats/vectors: what other implementations are held to, holds here."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

from streambus_storage import FormatVersionError, Options, RealFileSystem
from streambus_storage._block import RawValue
from streambus_storage._cache import BlockCache
from streambus_storage._levels import TableMeta
from streambus_storage._manifest_format import (
    decode_current,
    decode_manifest,
    encode_current,
    encode_edit,
    encode_manifest_header,
)
from streambus_storage._open_files import OpenFiles
from streambus_storage._sstable_reader import MISSING, Table
from streambus_storage._sstable_writer import TableWriter
from streambus_storage._wal_format import (
    WAL_HEADER_BYTES,
    WalRecord,
    check_wal_header,
    decode_record,
    encode_wal_header,
)

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors"


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


def test_wal_vector_decodes_and_encodes_again() -> None:
    vector = load("wal.json")
    segment = vector["segment"]
    header = bytes.fromhex(vector["header"])
    assert encode_wal_header(segment, vector["salt"]) == header
    data = header + b"".join(bytes.fromhex(record["bytes"]) for record in vector["records"])
    seed = check_wal_header(data, segment, "vector")
    offset = WAL_HEADER_BYTES
    for expected in vector["records"]:
        record = decode_record(data, offset, seed)
        assert isinstance(record, WalRecord)
        assert record.offset == expected["offset"]
        assert record.sequence == expected["sequence"]
        assert record.durable == expected["durable"]
        assert record.last_sequence == expected["last_sequence"]
        assert [key.hex() for key in record.keys] == expected["keys"]
        values = [None if value is None else value.hex() for value in record.values]
        assert values == expected["values"]
        assert [[p, a.hex(), b.hex()] for p, a, b in record.ranges] == expected["ranges"]
        offset = record.end
    assert offset == len(data)


def test_wal_header_of_a_later_version_is_refused() -> None:
    from streambus_storage import _wal_format as wal

    head = wal._HEADER.pack(wal.WAL_MAGIC, 2, 0, 7)
    later = head + wal._CHECKSUM.pack(xxh3_64_intdigest(head))
    with pytest.raises(FormatVersionError) as caught:
        check_wal_header(later, 7, "x.wal")
    assert (caught.value.found, caught.value.supported) == (2, 1)


def test_manifest_vector_decodes_and_encodes_again() -> None:
    vector = load("manifest.json")
    number = vector["number"]
    data = bytes.fromhex(vector["header"] + "".join(vector["edits"]))
    state, end = decode_manifest(data, number, "vector")
    assert end == len(data)
    version = state.version
    assert {
        "sequence": version.sequence,
        "next_table": state.next_table,
        "next_segment": state.next_segment,
        "segments": [[s.number, s.sealed] for s in state.segments.values()],
        "holes": [[start.hex(), stop.hex(), seq] for start, stop, seq in version.holes],
        "tables": [
            [lv, t.number, t.size, t.entries, t.tombstones, t.lower.hex(), t.upper.hex(), t.clean]
            for lv, t in version.tables()
        ],
    } == vector["state"]
    whole = encode_manifest_header(number) + encode_edit(state.whole(), number)
    again, _ = decode_manifest(whole, number, "again")
    assert again.version.levels == version.levels
    assert list(again.version.holes) == list(version.holes)
    assert again.segments == state.segments
    assert encode_current(number).decode() == vector["current"]
    assert decode_current(vector["current"].encode(), "CURRENT") == number


def test_sstable_vector_reads_and_is_written_again(tmp_path: Path) -> None:
    vector = load("sstable.json")
    data = bytes.fromhex(vector["bytes"])
    path = tmp_path / "000001.sst"
    path.write_bytes(data)
    meta = TableMeta(
        number=1,
        size=len(data),
        entries=len(vector["entries"]),
        tombstones=vector["tombstones"],
        lower=bytes.fromhex(vector["lower"]),
        upper=bytes.fromhex(vector["upper"]),
        clean=0,
    )
    table = Table(RealFileSystem(), str(path), meta, BlockCache(1 << 20), deque(), OpenFiles(9))
    entries = [
        (bytes.fromhex(key), None if value is None else bytes.fromhex(value))
        for key, value in vector["entries"]
    ]
    for key, value in entries:
        found = table.get(key)
        assert (table.read_raw(found) if isinstance(found, RawValue) else found) == value
    assert table.get(bytes.fromhex(vector["absent"])) is MISSING
    bloom = table.filter()
    assert bloom is not None
    assert all(bloom.may_hold(key) for key, _ in entries)

    again = tmp_path / "again.sst"
    options = Options(raw_value_bytes=64, block_bytes=64)
    writer = TableWriter(RealFileSystem(), str(again), options, lambda _: None)
    writer.extend([key for key, _ in entries], [value for _, value in entries])
    assert writer.finish(1, 0) == meta
    assert again.read_bytes() == data
