"""Scenarios 7, 8, 11 and 19: calls that fail, a disk that lies or is full, bytes that rot."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

import pytest

from streambus_storage import (
    CorruptionError,
    DiskFullError,
    LSMTree,
    StorageError,
    StorageIOError,
    TreeFailedError,
)
from tests.storage.scenarios.disk import (
    PATH,
    SMALL,
    contents,
    cut,
    manifests,
    new_world,
    open_tree,
    rebuilt,
    tables,
)

if TYPE_CHECKING:
    from streambus_storage.testing import SimulatedWorld


@pytest.mark.parametrize("effect", ["none", "lost", "done"])
def test_07_failed_sync_is_final_and_nothing_is_acknowledged_after_it(effect: str) -> None:
    world = new_world()
    tree = open_tree(world)
    tree.put(b"before", b"1", sync=True)
    sequence = tree.put(b"written", b"2")
    answers: list[StorageError | None] = []
    world.disk.fail("sync", path=".wal", effect=effect)  # type: ignore[arg-type] # an Effect
    tree.on_durable(sequence, answers.append)
    assert [type(answer) for answer in answers] == [TreeFailedError]
    for attempt in (
        lambda: tree.put(b"after", b"3"),
        lambda: tree.put(b"after", b"3", sync=True),
        lambda: tree.delete(b"before"),
        lambda: tree.delete_range(b"a", b"z"),
        tree.sync,
        lambda: tree.wait_durable(sequence),
        tree.flush,
    ):
        with pytest.raises(TreeFailedError) as caught:
            attempt()
        assert caught.value.cause is not None
    tree.on_durable(sequence, answers.append)
    assert isinstance(answers[-1], TreeFailedError)
    assert tree.durable_sequence < sequence
    assert tree.get(b"before") == b"1", "reads go on"
    syncs = world.disk.calls["sync"]
    tree.close()
    after = contents(cut(world))
    assert after[b"before"] == b"1"
    assert b"after" not in after
    assert world.disk.calls["sync"] >= syncs


def test_07_a_put_that_fails_to_sync_reports_it() -> None:
    world = new_world()
    tree = open_tree(world)
    world.disk.fail("sync", path=".wal")
    with pytest.raises(TreeFailedError):
        tree.put(b"k", b"v", sync=True)
    tree.close()
    assert contents(world) in ({}, {b"k": b"v"})


@pytest.mark.parametrize("kind", ["append", "sync"])
@pytest.mark.parametrize("effect", ["none", "done"])
@pytest.mark.parametrize("during", ["flush", "compact"])
def test_08_manifest_fails_and_the_inputs_are_kept(kind: str, effect: str, during: str) -> None:
    world = new_world()
    tree = open_tree(world, automatic_compaction=False)
    expected = {}
    for run in range(3):
        for number in range(30):
            expected[b"%02d" % number] = b"%d" % run * 30
            tree.put(b"%02d" % number, expected[b"%02d" % number])
        if run < 2 or during == "compact":
            tree.flush()
    tree.sync()
    fault = world.disk.fail(kind, path="MANIFEST", effect=effect)  # type: ignore[arg-type] # an Effect
    with pytest.raises(TreeFailedError):
        tree.flush() if during == "flush" else tree.compact()
    assert fault.hits == 1
    assert dict(tree.scan()) == expected, "reads go on"
    for mode in ("drop", "keep", "random"):
        after = cut(world, mode)
        assert contents(after) == expected
        with open_tree(after) as again:
            assert again.verify()
    tree.close()
    assert contents(world) == expected


def fill_until_full(world: SimulatedWorld, tree: LSMTree) -> dict[bytes, bytes]:
    """Write until the disk is full; what was accepted."""
    accepted: dict[bytes, bytes] = {}
    for number in range(10_000):
        key, value = b"%05d" % number, b"v" * 100
        try:
            tree.put(key, value)
        except DiskFullError as error:
            assert error.errno == errno.ENOSPC
            return accepted
        accepted[key] = value
    raise AssertionError("the disk never filled up")


def test_11_full_disk_in_the_log_keeps_reads_and_takes_writes_when_there_is_room() -> None:
    world = new_world()
    tree = open_tree(world)
    world.disk.capacity_bytes = world.disk.used_bytes + 5_000
    accepted = fill_until_full(world, tree)
    assert dict(tree.scan()) == accepted
    with pytest.raises(DiskFullError):
        tree.put(b"again", b"v" * 100)
    killed = rebuilt(world)
    killed.disk.capacity_bytes = killed.disk.used_bytes
    # Opening for writing needs room for a segment and a manifest: the reserve has it.
    with open_tree(rebuilt(killed)) as opened:
        assert dict(opened.scan()) == accepted
        opened.delete_range(b"", b"9")
        assert list(opened.scan()) == []
    with LSMTree.open(PATH, killed.options(**SMALL), read_only=True) as reader:
        assert dict(reader.scan()) == accepted
    killed.disk.capacity_bytes = None
    assert contents(killed) == accepted
    world.disk.capacity_bytes = None
    tree.put(b"room", b"again", sync=True)
    assert contents(cut(world)) == {**accepted, b"room": b"again"}
    tree.close()
    assert contents(world) == {**accepted, b"room": b"again"}


@pytest.mark.parametrize("room", [0, 100, 1000, 3000])
@pytest.mark.parametrize("work", ["flush", "compact"])
def test_11_full_disk_in_flush_and_compaction_loses_nothing_and_leaves_no_orphan(
    room: int, work: str
) -> None:
    world = new_world()
    tree = open_tree(world, automatic_compaction=False)
    expected = {}
    for run in range(2):
        for number in range(60):
            expected[b"%02d" % number] = b"%d" % run * 80
            tree.put(b"%02d" % number, expected[b"%02d" % number])
        if run == 0 or work == "compact":
            tree.flush()
    tree.sync()
    world.disk.capacity_bytes = world.disk.used_bytes + room
    with pytest.raises(DiskFullError):
        tree.flush() if work == "flush" else tree.compact()
    assert dict(tree.scan()) == expected
    assert contents(cut(world)) == expected
    world.disk.capacity_bytes = None
    tree.flush()
    tree.compact()
    tree.put(b"new", b"1", sync=True)
    expected[b"new"] = b"1"
    assert dict(tree.scan()) == expected
    assert tree.verify()
    tree.close()
    assert contents(world) == expected
    with open_tree(world) as again:
        again.compact()
        assert len(tables(world.disk)) == again.stats().tables, "orphans were left"


def compactable() -> tuple[SimulatedWorld, dict[bytes, bytes]]:
    """A closed tree with overlapping tables, and what it holds."""
    world = new_world()
    expected = {}
    with open_tree(world, automatic_compaction=False) as tree:
        for run in range(3):
            for number in range(0, 60, run + 1):
                expected[b"%02d" % number] = b"%d" % run * 50
                tree.put(b"%02d" % number, expected[b"%02d" % number])
            tree.flush()
    return world, expected


def test_19_read_error_in_a_compaction_keeps_its_inputs() -> None:
    world, expected = compactable()
    for nth in range(1, 12):
        trial = rebuilt(world)
        tree = open_tree(trial, automatic_compaction=False, cache_bytes=0)
        before = set(tables(trial.disk))
        fault = trial.disk.fail("read", nth, path=".sst")
        try:
            tree.compact()
        except StorageIOError as error:
            assert ".sst" in error.path
            assert before <= set(tables(trial.disk))
        else:
            assert fault.hits == 0, "a read failed and nobody said so"
        assert dict(tree.scan()) == expected
        tree.compact()
        assert dict(tree.scan()) == expected
        tree.close()
        assert contents(trial) == expected


def test_19_rotten_block_is_an_error_and_never_the_end_of_the_range() -> None:
    world, expected = compactable()
    for path in tables(world.disk):
        for at in range(0, world.disk.files()[path], 13):
            harmed = rebuilt(world)
            harmed.disk.flip_bit(path, at, at % 8)
            try:
                with open_tree(harmed, automatic_compaction=False) as tree:
                    for reverse in (False, True):
                        found: list[tuple[bytes, bytes]] = []
                        try:
                            found.extend(tree.scan(reverse=reverse))
                        except CorruptionError as error:
                            assert error.path == path
                            whole = sorted(expected.items(), reverse=reverse)
                            assert found == whole[: len(found)]
                        else:
                            assert dict(found) == expected, at
                    assert [problem.path for problem in tree.verify().problems] == [path]
                    # What the flip hit may be the filter, which a compaction does not read.
                    with contextlib.suppress(CorruptionError):
                        tree.compact()
                        assert dict(tree.scan()) == expected
            except CorruptionError as error:
                assert error.path == path


def test_19_rotten_manifest_byte_is_an_error_or_a_torn_tail_never_another_tree() -> None:
    world, expected = compactable()
    for path in manifests(world.disk):
        for at in range(world.disk.files()[path]):
            harmed = rebuilt(world)
            harmed.disk.flip_bit(path, at, at % 8)
            try:
                assert contents(harmed) == expected, (path, at)
            except StorageError as error:
                assert path in str(error) or world.disk.files()[path] < 64


def test_torture_each_call_that_can_fail_fails_once() -> None:
    """curl's way: run the same work again and again, and let the n-th call fail."""
    for number in range(1, 2_000):
        world = new_world()
        acknowledged: dict[bytes, bytes] = {}
        written: dict[bytes, bytes] = {}
        fault = world.disk.fail("*", number, error=(errno.EIO, errno.ENOSPC)[number % 2])
        with contextlib.suppress(StorageError):
            work_through(world, written, acknowledged)
        if not fault.hits:
            return
        world.disk.heal()
        found = contents(rebuilt(world))
        for key, value in acknowledged.items():
            assert found.get(key) == value, (number, key)
        for key, value in found.items():
            assert written.get(key) == value, (number, key)
        durable = contents(cut(world))
        for key, value in acknowledged.items():
            assert durable.get(key) == value, (number, key)
    raise AssertionError("the work never ended without a failure")


def work_through(
    world: SimulatedWorld, written: dict[bytes, bytes], acknowledged: dict[bytes, bytes]
) -> None:
    """Write in all ways, flush, compact, reopen, read; remember what was acknowledged."""
    for turn in range(2):
        tree = open_tree(world, level0_trigger=2)
        try:
            for number in range(12):
                key = b"%d/%02d" % (turn, number)
                written[key] = b"v" * (number * 60)
                tree.put(key, written[key])
                if number % 4 == 3:
                    tree.sync()
                    acknowledged.update(written)
                    tree.flush()
            with tree.batch(sync=True) as batch:
                key = b"%d/batch" % turn
                written[key] = b"b"
                batch.put(key, b"b")
            acknowledged.update(written)
            tree.compact()
            assert dict(tree.scan()) == written
            for key, value in written.items():
                assert tree.get(key) == value
        finally:
            tree.close()
