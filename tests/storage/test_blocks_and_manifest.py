"""Stored shapes that are wrong with a right checksum, and files of the real disk's edges."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import msgpack
import pytest

from streambus_storage import CorruptionError, FormatVersionError, LSMTree, RealFileSystem
from streambus_storage import _checkpoint as checkpoint_module
from streambus_storage import _filesystem as filesystem_module
from streambus_storage import _manifest as manifest_module
from streambus_storage._block import decode_entries, seal, unseal
from streambus_storage._bloom import from_bytes
from streambus_storage._errors_io import translated
from streambus_storage._levels import TableMeta, Version, VersionEdit, VersionError
from streambus_storage._manifest_format import decode_current, decode_manifest, encode_current
from streambus_storage._sstable_format import Footer, decode_footer, encode_footer
from streambus_storage.errors import DiskFullError, StorageIOError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "shape",
    [
        1,
        [],
        [[b"a"], []],
        [[], []],
        [["text"], [b"v"]],
        [[b"a"], ["text"]],
        [[b"a"], [[1, 2]]],
        [[b"a"], [[1, 2, "x"]]],
        {"a": 1},
    ],
)
def test_block_of_a_wrong_shape_is_corruption(shape: Any) -> None:
    with pytest.raises(CorruptionError):
        decode_entries(msgpack.packb(shape), "x.sst", 7)


def test_block_that_is_cut_moved_or_of_an_unknown_codec_is_corruption() -> None:
    stored = seal(b"payload", 100)
    assert unseal(stored, "x", 100) == b"payload"
    for data, offset in ((stored, 101), (stored[:5], 100), (stored[:-1], 100)):
        with pytest.raises(CorruptionError) as caught:
            unseal(data, "x", offset)
        assert caught.value.offset == offset
    from xxhash import xxh3_64_intdigest

    tagged = b"payload" + bytes((9,))
    with pytest.raises(CorruptionError, match="codec 9"):
        unseal(tagged + xxh3_64_intdigest(tagged, 0).to_bytes(8, "little"), "x", 0)
    with pytest.raises(CorruptionError, match="msgpack"):
        decode_entries(b"\xc1", "x", 0)


def test_footer_of_a_wrong_shape_is_refused() -> None:
    good = encode_footer(Footer(10, 20, 0, 10, 5, 1))
    assert decode_footer(good, "x", 30) == Footer(10, 20, 0, 10, 5, 1)
    with pytest.raises(CorruptionError, match="outside"):
        decode_footer(good, "x", 20)
    with pytest.raises(CorruptionError, match="short"):
        decode_footer(good[1:], "x", 30)
    with pytest.raises(CorruptionError, match="damaged"):
        decode_footer(good[:-1] + b"!", "x", 30)
    from xxhash import xxh3_64_intdigest

    from streambus_storage import _sstable_format as table

    for version, magic, error in (
        (2, table.TABLE_MAGIC, FormatVersionError),
        (1, b"x" * 8, CorruptionError),
    ):
        head = table._FOOTER.pack(10, 20, 0, 10, 5, 1, version, magic)
        with pytest.raises(error):
            decode_footer(xxh3_64_intdigest(head).to_bytes(8, "little") + head, "x", 30)
    assert from_bytes(b"123") is None


def test_current_is_checked() -> None:
    assert decode_current(encode_current(12), "CURRENT") == 12
    for bad in (
        b"",
        b"MANIFEST-000012\n",
        b"MANIFEST-000012 0\n",
        b"\xff\xfe x\n",
        encode_current(12)[:-1],
    ):
        with pytest.raises(CorruptionError):
            decode_current(bad, "CURRENT")


def test_version_refuses_edits_that_do_not_fit() -> None:
    one = TableMeta(1, 10, 1, 0, b"a", b"c", 0)
    two = TableMeta(2, 10, 1, 0, b"b", b"d", 0)
    present = Version().apply(VersionEdit(added=[(3, one)], sequence=5))
    for edit in (
        VersionEdit(removed=[9]),
        VersionEdit(added=[(3, two)]),
        VersionEdit(sequence=4),
    ):
        with pytest.raises(VersionError):
            present.apply(edit)
    assert present.level_bytes(3) == 10


def test_manifest_that_grows_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "ROLL_BYTES", 300)
    path = tmp_path / "tree"
    with LSMTree.open(str(path)) as tree:
        for number in range(30):
            tree.put(b"%d" % number, b"v")
            tree.flush()
        names = [name for name in os.listdir(path) if name.startswith("MANIFEST-")]
        assert len(names) == 1
        assert int(names[0].removeprefix("MANIFEST-")) > 1
    with LSMTree.open(str(path)) as tree:
        assert len(list(tree.scan())) == 30


def test_manifest_cut_at_any_byte_is_an_older_state_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "tree"
    with LSMTree.open(str(path)) as tree:
        for number in range(3):
            tree.put(b"%d" % number, b"v")
            tree.flush()
    [manifest] = path.glob("MANIFEST-*")
    number = int(manifest.name.removeprefix("MANIFEST-"))
    data = manifest.read_bytes()
    whole, _ = decode_manifest(data, number, "m")
    sequences = set()
    for end in range(len(data)):
        try:
            state, valid = decode_manifest(data[:end], number, "m")
        except CorruptionError:
            continue
        assert valid <= end
        sequences.add(state.version.sequence)
    assert sequences == {0, 1, 2, 3}
    assert whole.version.sequence == 3


def test_short_writes_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, real_many = os.pwrite, os.pwritev
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:3], at))
    monkeypatch.setattr(
        os, "pwritev", lambda fd, parts, at: real_many(fd, [b"".join(parts)[:3]], at)
    )
    monkeypatch.setattr(filesystem_module, "_PARTS_MAX", 2)
    file = RealFileSystem().create(str(tmp_path / "file"))
    file.append(b"0123456789")
    file.append_parts([b"abcde", b"fgh", b"ij"])
    assert file.size == 20
    file.close()
    file.close()
    assert (tmp_path / "file").read_bytes() == b"0123456789abcdefghij"
    reader = RealFileSystem().open_read(str(tmp_path / "file"))
    assert reader.read(15, 100) == b"fghij"
    reader.close()


def test_checkpoint_copies_where_it_cannot_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = errno.EXDEV

    def refuse(*names: str) -> None:
        raise OSError(refusal, os.strerror(refusal), *names)

    monkeypatch.setattr(checkpoint_module, "COPY_BYTES", 64)
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        for number in range(100):
            tree.put(b"%d" % number, b"v" * 10)
        monkeypatch.setattr(os, "link", refuse)
        tree.checkpoint(str(tmp_path / "copy"))
        refusal = errno.EACCES
        with pytest.raises(StorageIOError):
            tree.checkpoint(str(tmp_path / "other"))
    assert sorted(os.listdir(tmp_path)) == ["copy", "tree"]
    with LSMTree.open(str(tmp_path / "copy"), create=False) as copy:
        assert len(list(copy.scan())) == 100


def test_errors_of_the_system_are_named() -> None:
    full = translated("/x", "append", OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(full, DiskFullError)
    assert (full.path, full.operation, full.errno) == ("/x", "append", errno.ENOSPC)
    other = translated("/x", "read", OSError(errno.EIO, "Input/output error"))
    assert type(other) is StorageIOError
    assert str(other) == "/x: read failed: Input/output error"
