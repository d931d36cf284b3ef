"""Scenario 25: other options, the same answers; one opener; no stale lock; no unknown format."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import time
from typing import TYPE_CHECKING

import pytest
from xxhash import xxh3_64_intdigest

from streambus_storage import (
    FormatVersionError,
    LockedError,
    LSMTree,
    NotATreeError,
    Options,
    ReadOnlyError,
    StorageError,
)
from streambus_storage.testing import random_source
from tests.storage.model import Model, Shape, apply_to_tree, random_operation
from tests.storage.option_sets import random_options
from tests.storage.scenarios.disk import (
    contents,
    manifests,
    new_world,
    open_tree,
    rebuilt,
    tables,
    written_log,
)

if TYPE_CHECKING:
    from pathlib import Path

SETS = 50


def test_25_same_operations_under_fifty_option_sets_give_the_same_output() -> None:
    draw = random_source(25, "metamorphic")
    shape = Shape(keys=50, value_bytes_max=400)
    operations = [random_operation(draw, shape, serial) for serial in range(150)]
    model = Model()
    for operation in operations:
        model.apply(operation)
    expected = list(model.scan())
    sequences = set()
    for number in range(SETS):
        choose = random_source(number, "option set")
        world = new_world(number, eagerness=choose.choice((0.0, 0.5, 1.0)))
        tree = open_tree(world, **random_options(choose))
        for operation in operations:
            apply_to_tree(tree, operation)
            if choose.random() < 0.04:
                tree.close()
                tree = open_tree(world, **random_options(choose))
            elif choose.random() < 0.05:
                tree.flush()
            elif choose.random() < 0.03:
                tree.compact()
        assert list(tree.scan()) == expected, number
        assert list(tree.scan(reverse=True)) == expected[::-1], number
        for key in {key for key, _ in expected} | {b"absent", b"a", b"zz"}:
            assert tree.get(key) == model.entries.get(key), number
        for prefix in (b"", b"a", b"b/", b"c/1", b"x"):
            assert tree.first(prefix) == model.first(prefix), number
            assert tree.last(prefix) == model.last(prefix), number
        assert tree.verify()
        sequences.add(tree.last_sequence)
        tree.close()
    assert len(sequences) == 1


def hold(path: str, ready: object) -> None:
    """In a child process: open the tree, say so, and wait to be killed."""
    tree = LSMTree.open(path)
    tree.put(b"child", b"alive")
    ready.set()  # type: ignore[attr-defined] # a multiprocessing Event
    time.sleep(60)


def test_25_second_opener_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "tree")
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    child = context.Process(target=hold, args=(path, ready))
    child.start()
    try:
        assert ready.wait(30)
        with pytest.raises(LockedError) as caught:
            LSMTree.open(path)
        assert caught.value.path.startswith(path)
    finally:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    with LSMTree.open(path) as tree:
        assert tree.get(b"child") == b"alive"
        with pytest.raises(LockedError):
            LSMTree.open(path)
    with LSMTree.open(path):
        pass


def with_version(data: bytes, version: int, header_bytes: int) -> bytes:
    """A file's header with another format version and a checksum that is right for it."""
    head = data[:8] + struct.pack("<I", version) + data[12 : header_bytes - 8]
    return head + struct.pack("<Q", xxh3_64_intdigest(head)) + data[header_bytes:]


@pytest.mark.parametrize("kind", ["log", "manifest"])
def test_25_unknown_format_version_is_refused_and_nothing_is_touched(kind: str) -> None:
    world = new_world()
    tree = open_tree(world)
    tree.put(b"k", b"v", sync=True)
    killed = rebuilt(world)
    tree.close()
    path = written_log(killed.disk) if kind == "log" else manifests(killed.disk)[-1]
    killed.disk.damage(path, 0, with_version(killed.disk.content(path), 99, 32))
    before = {name: killed.disk.content(name) for name in killed.disk.files()}
    with pytest.raises(FormatVersionError) as caught:
        open_tree(killed)
    assert (caught.value.path, caught.value.found) == (path, 99)
    assert caught.value.supported < 99
    assert {name: killed.disk.content(name) for name in killed.disk.files()} == before


def test_25_directory_that_is_no_tree_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotATreeError) as caught:
        LSMTree.open(str(tmp_path / "absent"), create=False)
    assert str(tmp_path / "absent") in str(caught.value)
    assert not (tmp_path / "absent").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(StorageError):
        LSMTree.open(str(tmp_path / "full"))
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["letter.txt"]
    (tmp_path / "file").write_text("hello", encoding="utf-8")
    with pytest.raises(StorageError):
        LSMTree.open(str(tmp_path / "file"))


def test_25_read_only_opening_changes_no_byte_and_sees_what_a_crash_left() -> None:
    world = new_world()
    tree = open_tree(world)
    tree.put(b"table", b"1")
    tree.flush()
    tree.put(b"log", b"2", sync=True)
    killed = rebuilt(world)
    tree.close()
    before = {name: killed.disk.content(name) for name in killed.disk.files()}
    from tests.storage.scenarios.disk import PATH, SMALL

    with LSMTree.open(PATH, killed.options(**SMALL), read_only=True) as reader:
        assert dict(reader.scan()) == {b"table": b"1", b"log": b"2"}
        for call in (
            lambda: reader.put(b"k", b"v"),
            lambda: reader.delete(b"k"),
            lambda: reader.delete_range(b"a", b"b"),
            reader.flush,
            reader.compact,
        ):
            with pytest.raises(ReadOnlyError):
                call()
    after = {name: killed.disk.content(name) for name in killed.disk.files()}
    assert after == before
    assert contents(killed) == {b"table": b"1", b"log": b"2"}
    assert tables(killed.disk)


def test_25_real_disk_and_simulated_disk_hold_the_same_bytes(tmp_path: Path) -> None:
    draw = random_source(7, "bytes")
    operations = [random_operation(draw, Shape(), serial) for serial in range(80)]
    world = new_world()
    with open_tree(world) as simulated:
        for operation in operations:
            apply_to_tree(simulated, operation)
        simulated.flush()
    real_world = new_world()
    options = real_world.options(
        memtable_bytes=1 << 20,
        block_bytes=128,
        table_bytes=2048,
        raw_value_bytes=512,
        level1_bytes=8192,
    )
    plain = Options(
        memtable_bytes=1 << 20,
        block_bytes=128,
        table_bytes=2048,
        raw_value_bytes=512,
        level1_bytes=8192,
        scheduler=options.scheduler,
    )
    with LSMTree.open(str(tmp_path / "tree"), plain) as real:
        for operation in operations:
            apply_to_tree(real, operation)
        real.flush()
    for path in tables(world.disk):
        name = path.rpartition("/")[2]
        assert (tmp_path / "tree" / name).read_bytes() == world.disk.content(path)
