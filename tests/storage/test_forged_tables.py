"""Tables with right checksums that say something wrong: found when read, or by a verification."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from streambus_storage import CorruptionError, LSMTree, Options, RealFileSystem
from streambus_storage._levels import VersionEdit
from streambus_storage._manifest import Manifest
from streambus_storage._manifest_format import ManifestEdit, ManifestState
from streambus_storage._names import table_path
from streambus_storage._sstable_writer import TableWriter
from tests.storage.scenarios.disk import SMALL, new_world, open_tree, tables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from streambus_storage._levels import TableMeta

KEYS = [b"%02d" % number for number in range(40)]
SMALL_BLOCKS = Options(block_bytes=64, raw_value_bytes=64)


def forged(
    directory: Path,
    forge: Callable[[TableWriter], None] = lambda _: None,
    forge_meta: Callable[[TableMeta], TableMeta] = lambda meta: meta,
    keys: list[bytes] = KEYS,
) -> str:
    """A tree of one table, on which somebody laid hands before its checksums were made."""
    directory.mkdir()
    fs = RealFileSystem()
    writer = TableWriter(fs, table_path(str(directory), 1), SMALL_BLOCKS, lambda _: None)
    writer.extend(keys, [b"value" if key[-1] % 2 else None for key in keys])
    forge(writer)
    meta = forge_meta(writer.finish(1, 0))
    state = ManifestState(next_table=2)
    manifest = Manifest(fs, str(directory), 1, state)
    manifest.append(ManifestEdit(version=VersionEdit(added=[(1, meta)], sequence=99)))
    manifest.close()
    return str(directory)


def fewer_keys(writer: TableWriter) -> None:
    writer._counts[0] -= 1


def another_last_key(writer: TableWriter) -> None:
    writer._last_keys[0] += b"x"


def one_column_longer(writer: TableWriter) -> None:
    writer._counts.append(1)


def no_hashes(writer: TableWriter) -> None:
    writer._hashes[:] = writer._hashes[:1] * len(writer._hashes)


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (fewer_keys, "not as many keys"),
        (another_last_key, "does not end as the index says"),
        (one_column_longer, "no four columns"),
        (no_hashes, "the filter does not know"),
    ],
)
def test_forged_table_is_found_by_a_verification(
    tmp_path: Path, forge: Callable[[TableWriter], None], reason: str
) -> None:
    path = forged(tmp_path / "tree", forge)
    with LSMTree.open(path, read_only=True) as tree:
        [problem] = tree.verify().problems
        assert reason in problem.reason
        assert problem.path == table_path(path, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lower": b"0"}, "first key"),
        ({"tombstones": 3}, "number of entries"),
        ({"entries": 41}, "not the table of the manifest"),
    ],
)
def test_table_that_is_not_what_the_manifest_says(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = forged(tmp_path / "tree", forge_meta=lambda meta: replace(meta, **change))
    with LSMTree.open(path) as tree:
        [problem] = tree.verify().problems
        assert reason in problem.reason


def test_keys_out_of_order_are_found_by_a_verification(tmp_path: Path) -> None:
    path = forged(tmp_path / "tree", keys=[b"00", b"02", b"01", b"03"])
    with LSMTree.open(path, read_only=True) as tree:
        [problem] = tree.verify().problems
        assert "out of order" in problem.reason


def test_unforged_table_is_well(tmp_path: Path) -> None:
    with LSMTree.open(forged(tmp_path / "tree"), read_only=True) as tree:
        assert tree.verify()
        assert [key for key, _ in tree.scan()] == KEYS[1::2]


def test_table_cut_short_while_it_is_open_is_damage() -> None:
    world = new_world()
    with open_tree(world, cache_bytes=0) as tree:
        for key in KEYS:
            tree.put(key, b"v" * 30)
        tree.flush()
        assert tree.get(KEYS[-1]) is not None
        [path] = tables(world.disk)
        world.disk.shorten(path, 50)
        with pytest.raises(CorruptionError, match="cut short"):
            tree.get(KEYS[0])


def test_raw_value_is_read_again_from_a_file_that_was_let_go_and_checked() -> None:
    world = new_world()
    with open_tree(world, table_bytes=1024, open_files_max=1) as tree:
        for key in KEYS[:4]:
            tree.put(key, key * 500)
        tree.flush()
        assert len(tables(world.disk)) > 1
        for _ in range(2):
            assert [tree.get(key) for key in KEYS[:4]] == [key * 500 for key in KEYS[:4]]
        place = tree.locate(KEYS[0])
        assert place is not None
        world.disk.flip_bit(place.path, place.offset + 7)
        with pytest.raises(CorruptionError, match="raw value"):
            tree.get(KEYS[0])
        with pytest.raises(CorruptionError, match="raw value"):
            dict(tree.scan())
        assert [problem.path for problem in tree.verify().problems] == [place.path]


def test_reader_keeps_its_tables_open_whatever_the_writer_removes() -> None:
    world = new_world()
    with open_tree(world) as tree:
        for key in KEYS:
            tree.put(key, b"v" * 100)
        tree.flush()
        assert len(tables(world.disk)) > 1
        few = world.options(**{**SMALL, "open_files_max": 1, "cache_bytes": 0})
        with LSMTree.open(tree.path, few, read_only=True) as reader:
            tree.delete_range(b"", b"9")
            tree.flush()
            assert tables(world.disk) == []
            assert [key for key, _ in reader.scan()] == KEYS


def test_tables_that_are_gone_do_not_count_as_open() -> None:
    world = new_world()
    with open_tree(world, open_files_max=2, cache_bytes=0) as tree:
        for turn in range(6):
            for key in KEYS:
                tree.put(key, b"%d" % turn * 100)
            tree.compact()
            assert dict(tree.scan()) == dict.fromkeys(KEYS, b"%d" % turn * 100)
