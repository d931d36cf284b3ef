"""The first and the last entry without a view: the same as a scan's."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from streambus_storage import ClosedError, InvalidTypeError, LSMTree, Options

if TYPE_CHECKING:
    from pathlib import Path


def check(tree: LSMTree) -> None:
    prefixes = [
        None,
        b"",
        b"\xff",
        *(b"%d" % n for n in range(10)),
        *(b"%02d" % n for n in range(100)),
    ]
    for prefix in prefixes:
        assert tree.first(prefix) == next(iter(tree.scan(prefix=prefix)), None), prefix
        assert tree.last(prefix) == next(iter(tree.scan(prefix=prefix, reverse=True)), None), prefix


@pytest.mark.parametrize("seed", range(2))
def test_first_and_last_equal_a_scan(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    options = Options(
        memtable_bytes=1 << 20,
        block_bytes=64,
        raw_value_bytes=64,
        table_bytes=2_000,
        automatic_compaction=False,
    )
    with LSMTree.open(str(tmp_path / "tree"), options) as tree:
        check(tree)
        for turn in range(25):
            for _ in range(source.randrange(12)):
                key = b"%04d" % source.randrange(10_000)
                kind = source.random()
                if kind < 0.2:
                    tree.delete(tree.first(key[:1])[0] if tree.first(key[:1]) else key)  # type: ignore[index]  # just seen
                elif kind < 0.3:
                    tree.put(key, b"large" * 20)
                else:
                    tree.put(key, b"%d" % turn)
            if source.random() < 0.1:
                low = source.randrange(9_000)
                tree.delete_range(b"%04d" % low, b"%04d" % (low + 500))
            if source.random() < 0.5:
                tree.flush()
            if source.random() < 0.1:
                tree.compact()
            check(tree)


def test_first_of_a_closed_tree_and_of_a_wrong_type(tmp_path: Path) -> None:
    with LSMTree.open(str(tmp_path / "tree")) as tree, pytest.raises(InvalidTypeError):
        tree.first("a")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ClosedError):
        tree.last()
