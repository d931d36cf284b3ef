"""Flush and compaction at work: what a user's callbacks, faults and range deletes do to them."""

from __future__ import annotations

import contextlib
import errno
import logging
from typing import TYPE_CHECKING, Any

import pytest

from streambus_storage import (
    DiskFullError,
    FilterVerdict,
    LSMTree,
    StorageError,
    TreeFailedError,
    WriteBatch,
)
from streambus_storage._pressure import STANDING
from streambus_storage.testing import SimulatedWorld
from streambus_storage.testing._handles import SimulatedAppendFile
from tests.storage.scenarios.disk import contents, new_world, open_tree, rebuilt, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streambus_storage._filesystem import Buffer


def runs(tree: LSMTree, count: int = 3, keys: int = 40) -> dict[bytes, bytes]:
    """Write the same keys again and again, and flush each time: tables that overlap."""
    expected: dict[bytes, bytes] = {}
    for run in range(count):
        for number in range(keys):
            expected[b"%03d" % number] = b"%d" % run * 60
            tree.put(b"%03d" % number, expected[b"%03d" % number])
        tree.flush()
    return expected


def test_range_delete_during_a_merge_removes_what_the_merge_wrote_unread() -> None:
    world = new_world()
    trees: list[LSMTree] = []

    def delete_meanwhile(key: bytes, value: bytes) -> FilterVerdict:
        if trees:
            tree = trees.pop()
            tree.delete_range(b"", b"9")
            tree.flush()
        return FilterVerdict.KEEP

    with open_tree(world, level0_trigger=4, compaction_filter=delete_meanwhile) as tree:
        runs(tree)
        trees.append(tree)
        tree.compact()
        world.scheduler.run_until_idle()
        assert list(tree.scan()) == []
        assert tables(world.disk) == []
        assert tree.stats().dropped_tables > 0
    assert contents(world) == {}


def test_filter_is_not_asked_about_deletes_and_must_answer_with_a_verdict() -> None:
    world = new_world()
    asked: list[bytes] = []
    answer: list[Any] = [True]

    def verdict(key: bytes, value: bytes) -> Any:
        asked.append(key)
        return answer[0]

    with open_tree(world, compaction_filter=verdict, automatic_compaction=False) as tree:
        expected = runs(tree, 2)
        tree.delete(b"000")
        tree.flush()
        del expected[b"000"]
        with pytest.raises(StorageError, match="returned True"):
            tree.compact()
        assert dict(tree.scan()) == expected
        asked.clear()
        answer[0] = FilterVerdict.KEEP
        tree.compact()
        assert b"000" not in asked
        assert dict(tree.scan()) == expected


def test_compaction_that_fails_in_the_background_warns_and_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = new_world()
    with (
        caplog.at_level(logging.WARNING, "streambus_storage"),
        open_tree(world, level0_trigger=2, cache_bytes=0) as tree,
    ):
        fault = world.disk.fail("read", path=".sst", times=None)
        expected = runs(tree, 3)
        world.scheduler.run_until_idle()
        assert fault.hits >= 1
        assert "compaction failed, its inputs are kept" in caplog.text
        assert tree.stats().background_error is not None
        assert tree.stats().merges == 0
        world.disk.heal()
        world.clock.advance(120.0)
        world.scheduler.run_until_idle()
        assert tree.stats().background_error is None
        assert tree.stats().merges >= 1
        assert dict(tree.scan()) == expected


def test_compaction_keeps_to_its_rate_unless_writers_wait() -> None:
    world = new_world()
    rate = 10_000
    with open_tree(
        world, automatic_compaction=False, compaction_bytes_per_second=rate, slice_seconds=0.0
    ) as tree:
        runs(tree, 4, keys=200)
        begin = world.clock.now()
        tree.compact()
        merged_bytes = 200 * (3 + 60)
        assert world.clock.now() - begin >= merged_bytes / rate
        tree._store.pace = STANDING  # as if writers stood still
        begin = world.clock.now()
        runs(tree, 1, keys=200)
        tree.delete(b"000")
        tree._store.pace = STANDING
        tree.compact()
        assert dict(tree.scan()).keys() == {b"%03d" % number for number in range(1, 200)}


@pytest.mark.parametrize("eagerness", [0.0, 1.0])
def test_writer_that_waits_for_a_flush_is_told_that_the_disk_is_full(eagerness: float) -> None:
    world = new_world(eagerness=eagerness)
    tree = open_tree(world, memtable_bytes=2048, memtables_max=1)
    world.disk.fail("append", path=".sst", times=None, error=errno.ENOSPC)
    accepted: dict[bytes, bytes] = {}
    with pytest.raises(DiskFullError):
        for number in range(1_000):
            tree.put(b"%03d" % number, b"v" * 100)
            accepted[b"%03d" % number] = b"v" * 100
    with pytest.raises(DiskFullError):  # at once, without waiting again
        tree.put(b"more", b"v")
    assert dict(tree.scan()) == accepted
    world.disk.heal()
    tree.flush()
    tree.put(b"room", b"again")
    tree.close()
    assert contents(world) == {**accepted, b"room": b"again"}


def test_flush_that_ends_after_the_tree_failed_installs_nothing() -> None:
    world = new_world()
    trees: list[LSMTree] = []

    def fail_meanwhile(key: bytes) -> bytes:
        if trees:
            world.disk.fail("append", path=".wal")
            with pytest.raises(TreeFailedError):
                trees.pop().put(b"lost", b"1")
        return b""

    tree = open_tree(world, key_partitioner=fail_meanwhile)
    tree.put(b"k", b"v", sync=True)
    trees.append(tree)
    with pytest.raises(TreeFailedError):
        tree.flush()
    assert dict(tree.scan()) == {b"k": b"v"}
    assert contents(rebuilt(world)) == {b"k": b"v"}
    tree.close()
    assert contents(world) == {b"k": b"v"}


def test_merge_that_is_running_when_the_tree_fails_ends_without_a_result() -> None:
    world = new_world()
    trees: list[LSMTree] = []

    def fail_meanwhile(key: bytes, value: bytes) -> FilterVerdict:
        if trees:
            world.disk.fail("append", path=".wal")
            with pytest.raises(TreeFailedError):
                trees.pop().put(b"lost", b"1")
        return FilterVerdict.KEEP

    tree = open_tree(world, compaction_filter=fail_meanwhile, automatic_compaction=False)
    expected = runs(tree)
    trees.append(tree)
    with pytest.raises(TreeFailedError):
        tree.compact()
    assert dict(tree.scan()) == expected
    tree.close()
    assert contents(world) == expected


def test_background_of_a_failed_tree_does_nothing_and_the_first_failure_is_told() -> None:
    world = new_world(eagerness=0.0)
    tree = open_tree(world)
    tree.put(b"k", b"v")
    world.disk.fail("append", path=".wal")
    with pytest.raises(TreeFailedError) as first:
        tree.put(b"l", b"w")
    calls = world.disk.call_count
    assert world.scheduler.pending
    world.scheduler.run_until_idle()
    assert world.disk.call_count == calls
    world.disk.fail("sync", path=".wal")
    with pytest.raises(TreeFailedError):
        tree.sync()
    assert tree.stats().failure == str(first.value.cause)
    tree.close()


def test_durability_callback_may_ask_for_another() -> None:
    world = new_world()
    called: list[str] = []
    with open_tree(world) as tree:
        sequence = tree.put(b"k", b"v")

        def first(error: StorageError | None) -> None:
            called.append("first")
            tree.on_durable(sequence, lambda _: called.append("second"))

        tree.on_durable(sequence, first)
        world.scheduler.run_until_idle()
        assert called == ["first", "second"]


def test_failed_cleaning_up_of_a_failed_flush_is_left_to_the_next_open() -> None:
    world = new_world()
    tree = open_tree(world)
    expected = {b"%03d" % number: b"v" * 100 for number in range(60)}
    for key, value in expected.items():
        tree.put(key, value)
    tree.sync()
    world.disk.fail("append", 3, path=".sst", times=None)
    world.disk.fail("unlink", path=".sst", times=None)
    with pytest.raises(StorageError):
        tree.flush()
    assert tables(world.disk), "nothing was left behind"
    killed = rebuilt(world)
    with open_tree(killed) as again:
        assert dict(again.scan()) == expected
        assert any(name.endswith(".sst") for name in again.recovery.removed)
    world.disk.heal()
    tree.close()


def loads() -> list[Callable[[LSMTree], int]]:
    """A load into an empty tree, and one above what was written."""

    def above(tree: LSMTree) -> int:
        tree.put(b"a", b"old")
        return tree.ingest([(b"a", b"1"), (b"b", b"2")])

    return [lambda tree: tree.ingest([(b"a", b"1"), (b"b", b"2")]), above]


@pytest.mark.parametrize("load", loads())
def test_load_whose_manifest_sync_fails_is_there_whole_or_not_at_all(
    load: Callable[[LSMTree], int],
) -> None:
    for nth in range(1, 5):
        world = new_world()
        tree = open_tree(world)
        fault = world.disk.fail("sync", nth, path="MANIFEST")
        with contextlib.suppress(TreeFailedError):
            load(tree)
        whole = {b"a": b"1", b"b": b"2"}
        for mode in ("drop", "keep"):
            after = world.power_cut(mode)
            found = contents(after)
            assert found in ({}, {b"a": b"old"}, whole), (nth, mode)
        world.disk.heal()
        tree.close()
        if not fault.hits:
            assert contents(world) == whole
            return
    raise AssertionError("the load never ended without a failure")


def test_batch_of_thousands_is_sorted_at_once_and_scanned_in_order() -> None:
    world = SimulatedWorld()
    world.disk.make_directory("/data")
    with open_tree(world) as tree:
        batch = WriteBatch()
        expected = {b"%05d" % (number * 7919 % 3000): b"%d" % number for number in range(3000)}
        for key, value in expected.items():
            batch.put(bytearray(key), memoryview(value))
        tree.write(batch)
        assert list(tree.scan()) == sorted(expected.items())
        batch.clear()
        assert len(batch) == 0
        batch.put_many([b"x", b"y"], [b"1", b"2"])
        tree.write(batch)
        assert list(tree.scan(b"x")) == [(b"x", b"1"), (b"y", b"2")]


def test_flush_error_is_not_forgotten_when_another_worker_has_success() -> None:
    world = new_world()

    def broken(key: bytes) -> bytes:
        raise RuntimeError("the partitioner's own bug")

    tree = open_tree(world, key_partitioner=broken)
    tree.put(b"k", b"v")
    with pytest.raises(StorageError, match="own bug"):
        tree.flush()
    tree.resume_compaction()  # it has nothing to do, and does that well
    assert "own bug" in str(tree.stats().background_error)
    tree.close()


def test_flush_of_large_values_writes_about_a_mebibyte_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []
    append_parts = SimulatedAppendFile.append_parts

    def noted(file: SimulatedAppendFile, parts: Sequence[Buffer]) -> None:
        if file.path.endswith(".sst"):
            sizes.append(sum(map(len, parts)))
        append_parts(file, parts)

    monkeypatch.setattr(SimulatedAppendFile, "append_parts", noted)
    world = new_world()
    expected = {b"%03d" % number: bytes([number]) * 65_536 for number in range(80)}
    with open_tree(world, memtable_bytes=1 << 30, table_bytes=1 << 30) as tree:
        for key, value in expected.items():
            tree.put(key, value)
        tree.flush()
        assert dict(tree.scan()) == expected
    assert sum(sizes) > 80 * 65_536
    assert max(sizes) < 2_200_000  # up to a block more, and a block has up to a mebibyte
