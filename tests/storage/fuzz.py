"""``hatch run fuzz storage [wal|table|manifest|tree] [--seconds N]``: coverage-guided fuzzing.

Each target feeds a stored format whatever the fuzzer finds, behind checksums that are right, so
that the decoders themselves are reached. Anything but the package's own typed errors, more than
a second or one allocation above 64 MiB for one input is a finding. The fuzzer stops at the first
one and writes the input to a file that it names; keep it as a test in tests/regressions.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

import atheris
from xxhash import xxh3_64_intdigest

with atheris.instrument_imports(include=["streambus_storage"]):
    from streambus_storage import LSMTree, StorageError
    from streambus_storage._block import seal
    from streambus_storage._cache import BlockCache
    from streambus_storage._levels import TableMeta
    from streambus_storage._manifest_format import (
        decode_current,
        decode_manifest,
        encode_manifest_header,
    )
    from streambus_storage._open_files import OpenFiles
    from streambus_storage._sstable_format import FOOTER_BYTES, Footer, encode_footer
    from streambus_storage._sstable_reader import Table
    from streambus_storage._wal_format import (
        WAL_HEADER_BYTES,
        WalRecord,
        check_wal_header,
        encode_wal_header,
        newest_durable_mark,
        wal_seed,
    )
    from streambus_storage._wal_reader import scan_segment
    from streambus_storage.testing import SimulatedFileSystem, SimulatedWorld, random_source

from tests.support.fuzzing import fuzz

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = "/tree"


def fuzz_wal(data: bytes) -> None:
    """A whole segment; and records whose payload is the input and whose checksum is right."""
    with contextlib.suppress(StorageError):
        check_wal_header(data[:WAL_HEADER_BYTES], 1, "1.wal")
    segment = encode_wal_header(1, 0)
    seed = wal_seed(segment)
    at = 0
    while at < len(data):
        kind, length = data[at] % 6, data[at + 1] if at + 1 < len(data) else 0
        payload = data[at + 2 : at + 2 + length]
        at += 2 + length
        tag = b"\xb5\x1a\x9d" + bytes((kind,))
        body = tag + len(payload).to_bytes(4, "little") + (1).to_bytes(8, "little") * 2 + payload
        segment += xxh3_64_intdigest(body, seed).to_bytes(8, "little") + body
    for content in (segment, encode_wal_header(1, 0) + data):
        for item in scan_segment(content, seed, 1):
            assert isinstance(item, (WalRecord, tuple))
        newest_durable_mark(content, WAL_HEADER_BYTES, seed, 0)


def fuzz_table(data: bytes) -> None:
    """A table of two blocks: the first is the data block, the second the index, or both."""
    split = data[0] * 4 if data else 0
    first, second = data[1 : 1 + split], data[1 + split :]
    block = seal(first, 0)
    index = seal(second, len(block))
    content = block + index
    content += encode_footer(Footer(len(block), len(index), 0, len(block), 1, 0))
    _read_table(content)
    _read_table(block + data)


def _read_table(content: bytes) -> None:
    disk = SimulatedFileSystem()
    file = disk.create("/1.sst")
    file.append(content)
    file.close()
    meta = TableMeta(1, len(content), 1, 0, b"", b"\xff", 0)
    table = Table(disk, "/1.sst", meta, BlockCache(1 << 20), deque(), OpenFiles(8))
    with contextlib.suppress(StorageError):
        table.get(b"key")
    with contextlib.suppress(StorageError):
        for _, values in table.slices(b"", b"\xff"):
            for value in values:
                if hasattr(value, "read"):
                    value.read()
    assert FOOTER_BYTES > 0


def fuzz_manifest(data: bytes) -> None:
    """An edit with a right checksum behind a right header; and anything at all."""
    record = xxh3_64_intdigest(data, 1).to_bytes(8, "little") + len(data).to_bytes(4, "little")
    for content in (data, encode_manifest_header(1) + record + data):
        with contextlib.suppress(StorageError):
            decode_manifest(content, 1, "MANIFEST-000001")
    with contextlib.suppress(StorageError):
        decode_current(data, "CURRENT")


def _seed_disk() -> SimulatedFileSystem:
    """A killed tree with a log, two tables and a manifest of several edits."""
    world = SimulatedWorld(1)
    options = world.options(block_bytes=64, raw_value_bytes=64, automatic_compaction=False)
    tree = LSMTree.open(_PATH, options)
    for number in range(20):
        tree.put(b"%02d" % number, b"v" * number * 5)
        if number in (7, 14):
            tree.flush()
    tree.delete_range(b"03", b"05")
    tree.sync()
    disk = world.disk.power_cut(random_source(1), "keep")
    tree.close()
    return disk


_DISK = _seed_disk()
_FILES = list(_DISK.files())


def fuzz_tree(data: bytes) -> None:
    """One file of a real tree is overwritten somewhere; the tree is opened and read through."""
    if len(data) < 4:
        return
    disk = _DISK.power_cut(random_source(1), "keep")
    path = _FILES[data[0] % len(_FILES)]
    size = disk.files()[path]
    offset = int.from_bytes(data[1:3], "little") % (size + 1)
    if data[3] & 1:
        disk.shorten(path, offset)
    disk.damage(path, offset, data[4:])
    world = SimulatedWorld(1, disk=disk)
    with contextlib.suppress(StorageError):
        tree = LSMTree.open(_PATH, world.options(block_bytes=64, raw_value_bytes=64))
        try:
            for read in (
                lambda: list(tree.scan()),
                lambda: list(tree.scan(reverse=True)),
                lambda: tree.get(b"05"),
                tree.verify,
                tree.compact,
            ):
                with contextlib.suppress(StorageError):
                    read()
        finally:
            tree.close()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "wal": fuzz_wal,
    "table": fuzz_table,
    "manifest": fuzz_manifest,
    "tree": fuzz_tree,
}


def main(arguments: list[str]) -> int:
    """Fuzz every target in a process of its own, or the one that is named."""
    return fuzz("storage", __doc__, TARGETS, arguments)
