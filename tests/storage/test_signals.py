"""Signals whose handlers raise in the middle of a write: Ctrl-C, and the program goes on."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from streambus_storage import LSMTree, Options, StorageIOError, TreeFailedError, WriteBatch
from tests.storage.scenarios.disk import contents, new_world, open_tree, rebuilt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INTERRUPTIONS = 400
LIMIT_S = 60.0


class Interrupted(BaseException):
    """What the handler raises; like a KeyboardInterrupt it is no Exception."""


class Storm:
    """Signals to the main thread, some thousand a second, that raise while `armed`."""

    def __init__(self, seed: int) -> None:
        self.armed = False
        self.raised = 0
        self._random = random.Random(seed)
        self._main = threading.main_thread().ident or 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._blow)

    def _handle(self, number: int, frame: object) -> None:
        if self.armed:
            self.armed = False
            self.raised += 1
            raise Interrupted

    def _blow(self) -> None:
        while not self._over.wait(self._random.random() * 0.0005):
            signal.pthread_kill(self._main, signal.SIGUSR1)

    def __enter__(self) -> Storm:
        self._before = signal.signal(signal.SIGUSR1, self._handle)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.armed = False
        self._over.set()
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._before)


def writes(source: random.Random) -> Iterator[dict[bytes, bytes]]:
    """Endless writes of one to forty keys, none of them twice."""
    number = 0
    while True:
        count = 1 if source.random() < 0.8 else source.randrange(2, 40)
        value = source.randbytes(source.choice((5, 50, 9_000)))
        # Both orders: keys that ascend extend one run, others make many.
        names = range(number, number + count)
        yield {(b"%08d" if number % 2 else b"%08x") % (n * 7919 % 10**7): value for n in names}
        number += count


# A signal during a callback of the garbage collector (hypothesis has one) raises there, and the
# interpreter ignores that: the write goes on as if there had been none.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("memtable_bytes", [1 << 20, 1 << 30])
def test_interrupted_writes_are_done_or_not_and_harm_no_other(
    tmp_path: Path, memtable_bytes: int
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    source = random.Random(seed)
    options = Options(memtable_bytes=memtable_bytes, helper_processes=False)
    copies = ["tree"]
    done: dict[bytes, bytes] = {}
    doubtful: list[dict[bytes, bytes]] = []
    with LSMTree.open(tmp_path / "tree", options) as tree:
        with Storm(seed) as storm:
            end = time.monotonic() + LIMIT_S
            for pairs in writes(source):
                if storm.raised >= INTERRUPTIONS or time.monotonic() > end:
                    break
                fresh = {key: value for key, value in pairs.items() if key not in done}
                if not fresh or any(fresh.keys() & each.keys() for each in doubtful):
                    continue
                batch = WriteBatch()
                for key, value in fresh.items():
                    batch.put(key, value)
                try:
                    storm.armed = True
                    if len(fresh) == 1:
                        [(key, value)] = fresh.items()
                        tree.put(key, value)
                    else:
                        tree.write(batch)
                    storm.armed = False
                    done.update(fresh)
                except Interrupted:
                    doubtful.append(fresh)
        assert storm.raised > 50, "too slow: nothing was tested"
        tree.put(b"the last", b"")
        done[b"the last"] = b""
        found = dict(tree.scan())
        assert {key: tree.get(key) for key in found} == found
        if tree.stats().flushes == 0:  # nothing changes by itself: this is what a kill leaves
            shutil.copytree(tmp_path / "tree", tmp_path / "killed")
            copies.append("killed")
        tree.flush()
        assert dict(tree.scan()) == found
        assert tree.verify()
    assert {key: found.get(key) for key in done} == done
    for pairs in doubtful:
        there = {key: found.pop(key) for key in pairs if key in found}
        assert there in ({}, pairs), "a batch was torn"
        done.update(there)
    assert found.keys() <= done.keys()
    assert ("killed" in copies) == (memtable_bytes == 1 << 30)
    for copy in copies:
        with LSMTree.open(tmp_path / copy, options) as tree:
            assert dict(tree.scan()) == done


@contextlib.contextmanager
def interrupted_after_append(tree: LSMTree, times: int) -> Iterator[None]:
    """Raise as soon as the record is in the log, and when the write is then finished."""
    segment, active = tree._store.target
    put, left = type(active).put, [times]

    def raising(self: object, *arguments: object) -> None:
        if left[0]:
            left[0] -= 1
            raise Interrupted
        put(self, *arguments)  # type: ignore[arg-type]  # handed on as they came

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(active), "put", raising)
        yield
    assert tree._store.target[0] is segment


@pytest.mark.parametrize("write", ["put", "batch", "batch with a range"])
def test_write_whose_record_is_in_the_log_is_finished(write: str) -> None:
    world = new_world()
    with open_tree(world) as tree:
        tree.put(b"a", b"1")
        batch = WriteBatch()
        batch.put(b"b", b"2")
        batch.put(b"b" if write == "batch" else b"c", b"3")
        if write == "batch with a range":
            batch.delete_range(b"a", b"b")
        calls: dict[str, Callable[[], int]] = {
            "put": lambda: tree.put(b"b", b"3"),
            "batch": lambda: tree.write(batch),
            "batch with a range": lambda: tree.write(batch),
        }
        with interrupted_after_append(tree, 2), pytest.raises(Interrupted):
            calls[write]()
        tree.put(b"d", b"4")
        expected = {
            "put": {b"a": b"1", b"b": b"3", b"d": b"4"},
            "batch": {b"a": b"1", b"b": b"3", b"d": b"4"},
            "batch with a range": {b"b": b"2", b"c": b"3", b"d": b"4"},
        }[write]
        assert dict(tree.scan()) == expected
        assert contents(rebuilt(world)) == expected


def test_write_that_cannot_be_finished_ends_the_tree_and_not_its_log() -> None:
    world = new_world()
    tree = open_tree(world)
    tree.put(b"a", b"1")
    with interrupted_after_append(tree, 100), pytest.raises(Interrupted):
        tree.put(b"b", b"2")
    with pytest.raises(TreeFailedError, match="could not be finished"):
        tree.put(b"c", b"3")
    assert tree.get(b"a") == b"1"
    tree.close()
    assert contents(world) == {b"a": b"1", b"b": b"2"}


def test_failure_that_comes_during_an_interrupted_write_is_not_forgotten() -> None:
    world = new_world()
    tree = open_tree(world)
    store = tree._store
    memtable = type(store.target[1])
    put = memtable.put

    def failing(self: object, *arguments: object) -> None:
        if store.failure is None:  # as the sync thread does, in the worst of moments
            store.fail(StorageIOError("/data/tree/1.wal", "sync", OSError(5, "I/O error")))
            raise Interrupted
        put(self, *arguments)  # type: ignore[arg-type]  # handed on as they came

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(memtable, "put", failing)
        tree.put(b"a", b"1")
    with pytest.raises(TreeFailedError, match="sync failed"):
        tree.put(b"b", b"2")
    assert dict(tree.scan()) == {b"a": b"1"}
    tree.close()
