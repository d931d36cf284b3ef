"""Disks that write short, cannot link, or refuse a step: checkpoints, loads and the real doors."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from streambus_storage import (
    CodecMissingError,
    InvalidArgumentError,
    LSMTree,
    RealFileSystem,
    StorageError,
    StorageIOError,
    TreeFailedError,
)
from tests.storage.scenarios.disk import (
    PATH,
    SMALL,
    contents,
    cut,
    new_world,
    open_tree,
    rebuilt,
    tables,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COPY = "/data/copy"


def filled(tree: LSMTree, count: int = 60) -> dict[bytes, bytes]:
    expected = {b"%03d" % number: b"v" * 40 for number in range(count)}
    for key, value in expected.items():
        tree.put(key, value)
    return expected


def test_checkpoint_copies_where_it_cannot_link() -> None:
    world = new_world()
    with open_tree(world) as tree:
        expected = filled(tree)
        world.disk.fail("link", times=None, error=errno.EXDEV)
        tree.checkpoint(COPY)
    with LSMTree.open(COPY, world.options(**SMALL), create=False) as copy:
        assert dict(copy.scan()) == expected
        assert copy.verify()


@pytest.mark.parametrize("kind", ["link", "create", "append", "sync", "sync_directory", "rename"])
def test_checkpoint_that_fails_leaves_nothing_and_may_be_tried_again(kind: str) -> None:
    world = new_world()
    with open_tree(world) as tree:
        expected = filled(tree)
        tree.flush()
        fault = world.disk.fail(kind, path="copy" if kind != "link" else ".sst")
        with pytest.raises(StorageError):
            tree.checkpoint(COPY)
        assert fault.hits == 1
        assert not world.disk.exists(COPY)
        assert not world.disk.exists(f"{COPY}.tmp")
        tree.checkpoint(COPY)
    with LSMTree.open(COPY, world.options(**SMALL), create=False) as copy:
        assert dict(copy.scan()) == expected


def test_checkpoint_clears_what_a_crash_left_of_another() -> None:
    world = new_world()
    with open_tree(world) as tree:
        expected = filled(tree)
        world.disk.make_directory(f"{COPY}.tmp")
        world.disk.create(f"{COPY}.tmp/half").close()
        tree.checkpoint(COPY)
    assert not world.disk.exists(f"{COPY}.tmp")
    with LSMTree.open(COPY, world.options(**SMALL), create=False) as copy:
        assert dict(copy.scan()) == expected


@pytest.mark.parametrize("kind", ["create", "append", "sync", "rename", "sync_directory"])
@pytest.mark.parametrize("nth", [1, 2, 3, 5, 8])
def test_load_that_fails_is_not_there_and_harms_nothing(kind: str, nth: int) -> None:
    world = new_world()
    tree = open_tree(world)
    before = filled(tree, 20)
    tree.sync()
    items = [(b"%05d" % number, b"load" * 10) for number in range(2_000)]
    fault = world.disk.fail(kind, nth)
    try:
        tree.ingest(items)
    except StorageError:
        assert fault.hits == 1
        assert dict(tree.scan()) == before
    else:
        assert dict(tree.scan()) == {**before, **dict(items)}
    world.disk.heal()
    now = dict(tree.scan())
    for after in (cut(world), rebuilt(world)):
        assert contents(after) in (before, {**before, **dict(items)}, now)
        with open_tree(after) as again:
            assert len(tables(after.disk)) == again.stats().tables
    tree.close()


def test_load_must_ascend_and_may_be_empty() -> None:
    world = new_world()
    with open_tree(world) as tree:
        before = filled(tree, 5)
        assert tree.ingest([]) == tree.last_sequence
        with pytest.raises(InvalidArgumentError, match="ascend"):
            tree.ingest([(b"b", b"1"), (b"a", b"2")])
        assert dict(tree.scan()) == before
        sequence = tree.ingest([(b"000", b"loaded")])
        assert sequence == tree.last_sequence == tree.durable_sequence
        assert tree.get(b"000") == b"loaded"
        tree.put(b"000", b"newer", sync=True)
    assert contents(cut(world))[b"000"] == b"newer"


def test_load_beside_marks_in_the_log_is_replayed_without_a_gap() -> None:
    """A mark that was written before a load has an older number than the record after it."""
    world = new_world()
    tree = open_tree(world)
    tree.put(b"a", b"1", sync=True)
    for turn in range(3):
        tree.ingest([(b"load/%d" % turn, b"x")])
        tree.sync()
        tree.put(b"b", b"%d" % turn, sync=True)
        assert contents(rebuilt(world)) == dict(tree.scan())
        assert contents(cut(world)) == dict(tree.scan())
    tree.close()


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("fresh", [True, False])
def test_directory_that_cannot_be_written_is_named_and_can_be_read(
    reason: int, fresh: bool
) -> None:
    world = new_world()
    expected = {}
    if not fresh:
        with open_tree(world) as tree:
            expected = filled(tree)
    for kind in ("create", "rename", "unlink", "make_directory"):
        world.disk.fail(kind, times=None, error=reason)
    with pytest.raises(StorageIOError) as caught:
        open_tree(world)
    assert caught.value.errno == reason
    assert caught.value.path.startswith(PATH)
    if not fresh:
        options = world.options(**SMALL)
        with LSMTree.open(PATH, options, read_only=True) as tree:
            assert dict(tree.scan()) == expected
    world.disk.heal()
    assert contents(world) == expected


def test_failed_append_to_the_log_is_final_unless_the_disk_is_full() -> None:
    writes: tuple[Callable[[LSMTree], int], ...] = (
        lambda t: t.put(b"k", b"v"),
        lambda t: t.put(b"k", b"v" * 20_000),
        lambda t: t.delete(b"k"),
        lambda t: t.delete_range(b"a", b"z"),
    )
    for write in writes:
        world = new_world()
        tree = open_tree(world)
        tree.put(b"a", b"1", sync=True)
        world.disk.fail("append", path=".wal")
        with pytest.raises(TreeFailedError):
            write(tree)
        with pytest.raises(TreeFailedError):
            tree.put(b"other", b"1")
        assert dict(tree.scan()) == {b"a": b"1"}
        tree.close()
        assert contents(world) == {b"a": b"1"}


def test_real_file_finishes_a_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite, pwritev = os.pwrite, os.pwritev

    def short(fd: int, data: Any, offset: int) -> int:
        return pwrite(fd, bytes(data)[:3], offset)

    def short_vector(fd: int, parts: Any, offset: int) -> int:
        return pwritev(fd, [b"".join(parts)[:5]], offset)

    monkeypatch.setattr(os, "pwrite", short)
    monkeypatch.setattr(os, "pwritev", short_vector)
    file = RealFileSystem().create(str(tmp_path / "f"))
    file.append(b"0123456789")
    file.append_parts([b"abcdef", b"ghijkl"])
    assert file.size == 22
    file.close()
    assert (tmp_path / "f").read_bytes() == b"0123456789abcdefghijkl"


def test_real_read_finishes_a_short_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(3, length), offset))
    reader = RealFileSystem().open_read(str(tmp_path / "f"))
    assert reader.read(1, 8) == b"12345678"
    assert reader.read(8, 100) == b"89"
    reader.close()


def test_real_lock_may_be_given_back_and_abandoned_again(tmp_path: Path) -> None:
    path = str(tmp_path / "LOCK")
    fs = RealFileSystem()
    lock = fs.lock(path)
    with pytest.raises(BlockingIOError):
        fs.lock(path)
    lock.release()
    lock.release()
    lock.abandon()
    again = fs.lock(path)
    again.abandon()
    again.abandon()
    fs.lock(path).release()


def test_compression_without_its_library_loses_nothing_and_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = new_world()
    monkeypatch.setitem(sys.modules, "cramjam", None)  # an import of it fails
    with open_tree(world, compression="zstd") as tree:
        expected = filled(tree)
        with pytest.raises(CodecMissingError, match=r"streambus-storage\[compression\]"):
            tree.flush()
        assert dict(tree.scan()) == expected
    assert contents(world) == expected


def test_missing_table_is_named_when_the_tree_is_opened() -> None:
    world = new_world()
    with open_tree(world) as tree:
        filled(tree)
        tree.flush()
    gone = tables(world.disk)[0]
    world.disk.unlink(gone)
    with pytest.raises(StorageError, match=gone):
        open_tree(world)
    assert world.disk.exists(PATH)


def test_lock_of_a_process_that_is_gone_is_waited_for_and_another_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "LOCK")
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    with open(path, "w+b", 0) as held:  # as a process holds it that was just being started
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(b"%d" % gone.pid)
        letting_go = threading.Timer(0.2, lambda: fcntl.flock(held, fcntl.LOCK_UN))
        letting_go.start()
        lock = RealFileSystem().lock(path)
        letting_go.join()
        assert (tmp_path / "LOCK").read_bytes() == b"%d" % os.getpid()
        lock.release()
        for holder in (b"%d" % os.getpid(), b"1", b"", b"no number", b"9" * 19):
            fcntl.flock(held, fcntl.LOCK_EX)
            held.truncate(0)
            held.seek(0)
            held.write(holder)
            begin = time.monotonic()
            with pytest.raises(BlockingIOError):
                RealFileSystem().lock(path)
            assert time.monotonic() - begin < 4
