"""A full disk: puts are refused, range deletes go through, their space comes back, writes go on."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import time
import traceback
from typing import TYPE_CHECKING, Literal

import pytest

from streambus_storage import DiskFullError, LSMTree, Options, RealFileSystem, TreeFailedError
from streambus_storage.testing import SimulatedWorld
from tests.storage.scenarios.disk import (
    PATH,
    contents,
    cut,
    new_world,
    open_tree,
    rebuilt,
    record_cuts,
    tables,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def fill(tree: LSMTree, count: int = 120, prefix: bytes = b"a") -> dict[bytes, bytes]:
    """Write so many entries, and flush them: tables of two kilobytes each."""
    written = {prefix + b"%04d" % number: b"v" * 100 for number in range(count)}
    for key, value in written.items():
        tree.put(key, value)
    tree.flush()
    return written


def settle(world: SimulatedWorld) -> None:
    """Let the background do what it has to do, timers included."""
    world.clock.advance(10.0)
    world.scheduler.run_until_idle()


def test_space_comes_back_without_a_write_or_a_flush() -> None:
    world = new_world()
    with open_tree(world) as tree:
        fill(tree)
        kept = fill(tree, prefix=b"b")
        used, flushes = world.disk.used_bytes, tree.stats().flushes
        tree.delete_range(b"a", b"b")
        assert len(tables(world.disk)) > 10
        settle(world)
        assert world.disk.used_bytes < used - 100 * 100
        assert tree.stats().flushes == flushes
        assert tree.stats().dropped_tables > 4
        assert dict(tree.scan()) == kept
        dropped = tree.stats().dropped_tables
        tree.delete_range(b"c", b"d")  # nothing there: no sync, no edit
        syncs = tree.stats().syncs
        settle(world)
        assert (tree.stats().dropped_tables, tree.stats().syncs) == (dropped, syncs)
        tree.put(b"a0001", b"again")
        tree.flush()
        assert tree.get(b"a0001") == b"again"
    assert contents(world) == {**kept, b"a0001": b"again"}


def test_sweep_spares_what_was_written_after_the_delete_and_what_a_snapshot_reads() -> None:
    world = new_world()
    with open_tree(world) as tree:
        old = fill(tree)
        tree.delete_range(b"a0000", b"a0100")
        tree.put(b"a0050", b"new")
        with tree.snapshot() as moment:
            tree.delete_range(b"a", b"b")
            tree.put(b"a0051", b"newer")
            settle(world)
            seen = {**{k: v for k, v in old.items() if k >= b"a0100"}, b"a0050": b"new"}
            assert dict(moment.scan()) == seen
        tree.flush()  # the memtable that holds the deletes becomes a table
        tree.put(b"z", b"")
        settle(world)
        assert dict(tree.scan()) == {b"a0051": b"newer", b"z": b""}
    assert contents(world) == {b"a0051": b"newer", b"z": b""}


def test_sweep_that_is_cut_at_any_call_leaves_a_state_that_was() -> None:
    for seed in range(3):
        world = new_world(seed)
        tree = open_tree(world)
        before = fill(tree, 40)
        before.update(fill(tree, 40, b"b"))
        disks = record_cuts(world)
        tree.delete_range(b"a", b"b")
        settle(world)
        world.disk.on_call = None
        after = {key: value for key, value in before.items() if key >= b"b"}
        for disk in disks:
            assert contents(SimulatedWorld(disk=disk)) in (before, after)
        assert contents(cut(world)) == after
        tree.close()


def put_until_full(world: SimulatedWorld, tree: LSMTree) -> None:
    """Let the disk be full to the last byte, what was set aside for the log included."""
    world.disk.capacity_bytes = world.disk.used_bytes
    for size in (100_000, 1_000, 0):
        with pytest.raises(DiskFullError):
            for number in range(100_000):
                tree.put(b"a%05d.%d" % (number, size), bytes(size))


def test_full_disk_gives_space_back_by_its_reserve_and_writes_go_on() -> None:
    world = new_world()
    options = {"reserve_bytes": 20_000}
    tree = open_tree(world, **options)
    fill(tree)
    kept = fill(tree, prefix=b"b")
    assert any(path.endswith("/RESERVE") for path in world.disk.files())
    put_until_full(world, tree)
    with pytest.raises(DiskFullError), tree.batch() as batch:
        batch.delete_range(b"a", b"b")
        batch.put(b"c", bytes(20_000))  # small ones are let through
    world.scheduler.eagerness = 0.0  # the background waits until it is asked for
    sequence = tree.delete_range(b"a", b"b")
    assert not any(path.endswith("/RESERVE") for path in world.disk.files())
    with pytest.raises(DiskFullError):
        tree.put(b"c", b"")  # there is room, but not for puts
    tree.delete_range(b"a", b"a1")  # goes on, on what is left of the reserve
    settle(world)
    tree.put(b"c", b"v", sync=True)
    assert any(path.endswith("/RESERVE") for path in world.disk.files())
    assert tree.durable_sequence > sequence
    assert dict(tree.scan()) == {**kept, b"c": b"v"}
    world.disk.capacity_bytes = None
    tree.flush()
    assert contents(cut(world)) == {**kept, b"c": b"v"}
    tree.close()


def test_full_disk_without_a_reserve_refuses_range_deletes_too() -> None:
    world = new_world()
    with open_tree(world, reserve_bytes=0) as tree:
        fill(tree)
        put_until_full(world, tree)
        with pytest.raises(DiskFullError):
            tree.delete_range(b"a", b"b")
        world.disk.capacity_bytes = None
        tree.delete_range(b"a", b"b")
        assert list(tree.scan()) == []


def test_reserve_that_is_not_enough_is_an_error_and_loses_nothing() -> None:
    world = new_world()
    with open_tree(world, reserve_bytes=10) as tree:
        fill(tree)
        put_until_full(world, tree)
        written = dict(tree.scan())
        for _ in range(2):
            with pytest.raises(DiskFullError):
                tree.delete_range(b"a" * 30, b"b")
        assert dict(tree.scan()) == written
        world.disk.capacity_bytes = None
        tree.put(b"room", b"again")  # takes the reserve back first
        assert tree.get(b"room") == b"again"


def test_opening_on_a_full_disk_uses_the_reserve() -> None:
    world = new_world()
    with open_tree(world, reserve_bytes=20_000) as tree:
        written = fill(tree)
        world.scheduler.run_until_idle()
    world.disk.capacity_bytes = world.disk.used_bytes
    with pytest.raises(DiskFullError):
        open_tree(without_reserve(world), reserve_bytes=20_000)
    with open_tree(world, reserve_bytes=20_000) as tree:
        assert dict(tree.scan()) == written
        put_until_full(world, tree)
        tree.delete_range(b"a", b"b")
        settle(world)
        tree.put(b"c", b"v")
    world.disk.capacity_bytes = None
    assert contents(world) == {b"c": b"v"}
    with open_tree(world, reserve_bytes=0):
        assert not any(path.endswith("/RESERVE") for path in world.disk.files())


def without_reserve(world: SimulatedWorld) -> SimulatedWorld:
    """The same world after its process was killed and somebody has removed the reserve."""
    other = rebuilt(world)
    before = other.disk.used_bytes
    other.disk.unlink(f"{PATH}/RESERVE")
    other.disk.capacity_bytes = other.disk.used_bytes
    assert other.disk.used_bytes < before
    return other


def test_manifest_that_finds_no_room_for_the_sweep_uses_the_reserve() -> None:
    world = new_world()
    with open_tree(world, reserve_bytes=20_000) as tree:
        fill(tree)
        world.scheduler.run_until_idle()
        tree.delete_range(b"a", b"b")
        world.disk.capacity_bytes = world.disk.used_bytes
        settle(world)
        assert tables(world.disk) == []
        world.disk.capacity_bytes = None
    with open_tree(world, reserve_bytes=0) as tree:
        fill(tree)
        tree.delete_range(b"a", b"b")
        world.disk.capacity_bytes = world.disk.used_bytes
        settle(world)
        assert tree.stats().background_error is not None
        world.disk.capacity_bytes = None
        settle(world)
        assert tree.stats().background_error is None
        assert tables(world.disk) == []


def test_closing_on_a_full_disk_uses_the_reserve_or_says_so() -> None:
    for reserve_bytes in (20_000, 0):
        world = new_world()
        tree = open_tree(world, reserve_bytes=reserve_bytes)
        put_until_full(world, tree)
        written = dict(tree.scan())
        if reserve_bytes:
            tree.close()
        else:
            with pytest.raises(DiskFullError):
                tree.close()
        world.disk.capacity_bytes = None
        assert contents(world) == written


def test_reserve_whose_file_could_not_be_removed_is_made_anew() -> None:
    world = new_world()
    with open_tree(world, reserve_bytes=20_000) as tree:
        fill(tree)
        put_until_full(world, tree)
        world.disk.fail("unlink", path="RESERVE")
        with pytest.raises(DiskFullError):
            tree.delete_range(b"a", b"b")
        world.disk.capacity_bytes = None
        tree.put(b"k", b"v")
        assert tree.get(b"k") == b"v"


def test_range_deletes_go_on_until_the_reserve_is_used_up() -> None:
    world = new_world()
    with open_tree(world, reserve_bytes=50_000, memtable_bytes=20_000) as tree:
        put_until_full(world, tree)
        world.scheduler.eagerness = 0.0
        with pytest.raises(DiskFullError):
            for number in range(10_000):  # each counts 16 KiB in the memtable: flushes go on
                tree.delete_range(b"z%05d" % number, b"z%05d" % (number + 1))
        assert number > 5
        world.disk.capacity_bytes = None
        settle(world)
        tree.delete_range(b"a", b"b")
        assert list(tree.scan()) == []


@pytest.mark.parametrize("effect", ["none", "done"])
@pytest.mark.parametrize("kind", ["create", "reserve", "unlink", "exists"])
def test_failing_reserve_is_no_harm(kind: str, effect: Literal["none", "done"]) -> None:
    world = new_world()
    world.disk.fail(kind, times=None, path="RESERVE", effect=effect)
    with open_tree(world) as tree:
        written = fill(tree)
    world.disk.heal()
    assert contents(world) == written


def test_write_that_fails_otherwise_does_not_touch_the_reserve() -> None:
    world = new_world()
    with open_tree(world) as tree:
        world.scheduler.run_until_idle()
        world.disk.fail("append", path=".wal")
        with pytest.raises(TreeFailedError):
            tree.delete_range(b"a", b"b")
        assert any(path.endswith("/RESERVE") for path in world.disk.files())


def test_table_that_was_read_as_its_range_was_deleted_goes_though_nothing_can_be_written() -> None:
    world = new_world()
    with open_tree(world) as tree:
        fill(tree)
        settle(world)
        scan = iter(tree.scan())
        next(scan)
        world.disk.fail("create", times=None, error=errno.ENOSPC)
        tree.delete_range(b"a", b"b")
        tree.put(b"b", b"v")
        with pytest.raises(DiskFullError):
            tree.flush()
        settle(world)
        assert len(tables(world.disk)) > 5
        del scan
        settle(world)
        assert tables(world.disk) == []
        world.disk.heal()


def test_merge_that_found_no_room_does_not_hold_what_is_deleted_then() -> None:
    world = new_world()
    with open_tree(world) as tree:
        for number in range(2):
            fill(tree, 60)
            world.disk.fail("create", times=None, error=errno.ENOSPC, path=".sst")
            if number:
                with pytest.raises(DiskFullError):
                    tree.compact()
            else:
                world.disk.heal()
        tree.delete_range(b"a", b"b")
        world.clock.advance(1.5)  # less than it takes until the merge is tried again
        world.scheduler.run_until_idle()
        assert tables(world.disk) == []


def test_error_that_is_raised_again_and_again_gathers_no_frames() -> None:
    world = new_world()
    with open_tree(world, memtable_bytes=20_000, memtables_max=1) as tree:
        world.disk.fail("create", times=None, error=errno.ENOSPC, path=".sst")
        depths = []
        for number in range(200):
            try:
                tree.put(b"k%05d" % number, bytes(1_000))
            except DiskFullError as error:
                depths.append(len(traceback.extract_tb(error.__traceback__)))
                world.scheduler.eagerness = 0.0  # no flush is tried meanwhile: the error stays
        assert len(depths) > 50
        assert depths[-1] == depths[1]
        world.disk.heal()
        settle(world)
        assert len(list(tree.scan())) == 200 - len(depths)


def test_range_delete_that_waits_for_a_flush_goes_through_when_that_finds_no_room() -> None:
    world = new_world(eagerness=0.0)
    with open_tree(world, memtable_bytes=20_000, memtables_max=1) as tree:
        tree.put(b"a", b"v")
        tree.flush()
        number = 0
        while tree.stats().frozen_memtables < 2:
            number += 1
            assert number < 1000
            tree.put(b"b%05d" % number, bytes(1_000))
        world.disk.fail("create", times=None, error=errno.ENOSPC, path=".sst")
        assert tree.stats().background_error is None
        tree.delete_range(b"b", b"c")
        assert tree.stats().background_error is not None
        with pytest.raises(DiskFullError):
            tree.put(b"c", b"v")
        assert list(tree.scan()) == [(b"a", b"v")]
        world.disk.heal()


# -- the real thing ---------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB in a file, mounted by a loop device: for root on Linux only."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4, to mount a small file system")
    image, mounted = tmp_path / "image", tmp_path / "disk"
    mounted.mkdir()
    with open(image, "wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-b", "1024", str(image)], check=True)
    loop = subprocess.run(
        ["mount", "-o", "loop", str(image), str(mounted)], capture_output=True, text=True
    )
    if loop.returncode:
        pytest.skip(f"no loop device can be mounted here: {loop.stderr.strip()}")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_real_file_system_that_is_full(small_disk: Path) -> None:
    path = str(small_disk / "tree")
    options = Options(memtable_bytes=1 << 20, table_bytes=1 << 20, stall_seconds_max=60)
    reserve = os.path.join(path, "RESERVE")
    with LSMTree.open(path, options) as tree:
        for number in range(300):
            tree.put(b"kept%06d" % number, os.urandom(4000))
        tree.flush()
        with pytest.raises(DiskFullError):
            for number in range(100_000):
                tree.put(b"log%06d" % number, os.urandom(4000))
        # Somebody takes the very last block.
        with contextlib.suppress(OSError), open(small_disk / "other", "wb", 0) as other:
            while True:
                other.write(bytes(512))
        assert os.statvfs(small_disk).f_bavail < 100  # the file system may give some back late
        assert os.path.exists(reserve)
        with pytest.raises(DiskFullError):
            for _ in range(100):
                tree.put(b"more", b"x" * 4000)
        for number in range(0, 20_000, 100):  # as a retention does it, piece by piece
            tree.delete_range(b"log%06d" % number, b"log%06d" % (number + 100))
        wait_for(lambda: _has_room(lambda: tree.put(b"again", b"v")))
        # What the file system shows as free it may still refuse, until its journal is written.
        wait_for(lambda: _has_room(tree.flush))
        wait_for(lambda: os.statvfs(small_disk).f_bavail > 20_000)
        tree.sync()
        assert os.path.exists(reserve)
        assert len(list(tree.scan(prefix=b"kept"))) == 300
        assert list(tree.scan(prefix=b"log")) == []
        for number in range(1000):
            tree.put(b"new%06d" % number, os.urandom(4000))
        tree.flush()
        assert tree.verify()
    with LSMTree.open(path, options) as tree:
        assert len(list(tree.scan(prefix=b"new"))) == 1000
        assert tree.get(b"again") == b"v"


def _has_room(action: Callable[[], object]) -> bool:
    try:
        action()
    except DiskFullError:
        return False
    return True


def test_real_room_is_set_aside_and_given_back(tmp_path: Path) -> None:
    file = RealFileSystem().create(str(tmp_path / "file"))
    try:
        file.append(b"x" * 100)
        file.reserve(1 << 20)
        status = os.stat(tmp_path / "file")
        assert status.st_size == 100
        if status.st_blocks * 512 < 1 << 20:
            pytest.skip("this file system does not set room aside")
        file.append(b"y" * 100)
        file.reserve(50)
        assert os.stat(tmp_path / "file").st_blocks * 512 < 1 << 20
        assert (tmp_path / "file").read_bytes() == b"x" * 100 + b"y" * 100
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is looked at
            file.reserve(1 << 60)
        assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    finally:
        file.close()
