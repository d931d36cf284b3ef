"""Writers that are overtaken between the gate and the write lock, and waits that a close ends."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from streambus_storage import ClosedError, FilterVerdict, LSMTree, Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE_SECONDS = 30.0


class LateLock:
    """A lock before which one thread stands still until it is let go: a scheduler's bad day."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.late: threading.Thread | None = None
        self.arrived = threading.Event()
        self.go = threading.Event()

    def acquire(self) -> bool:
        if threading.current_thread() is self.late and not self.arrived.is_set():
            self.arrived.set()
            assert self.go.wait(PATIENCE_SECONDS)
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *exc: object) -> None:
        self.release()


class Outcome(threading.Thread):
    """Calls something in a thread of its own, and keeps what came of it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.value: Any = None

    def run(self) -> None:
        try:
            self.value = self._call()
        except Exception as exc:  # noqa: BLE001 - whatever came of it
            self.value = exc

    def finish(self) -> Any:
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()
        return self.value


def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread to come somewhere."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def make_late(tree: LSMTree, call: Callable[[], Any]) -> tuple[LateLock, Outcome]:
    """Start a writer that has passed the gate and stands before the write lock."""
    lock = LateLock(tree._store.write_lock)
    tree._store.write_lock = lock  # type: ignore[assignment]  # it does all that a lock does
    writer = lock.late = Outcome(call)
    writer.start()
    assert lock.arrived.wait(PATIENCE_SECONDS)
    return lock, writer


@pytest.mark.parametrize("kind", ["put", "delete", "delete_range"])
def test_writer_overtaken_by_a_close_is_refused(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "tree")
    tree = LSMTree.open(path)
    tree.put(b"before", b"1")
    writes = {
        "put": lambda: tree.put(b"late", b"1"),
        "delete": lambda: tree.delete(b"before"),
        "delete_range": lambda: tree.delete_range(b"a", b"z"),
    }
    lock, writer = make_late(tree, writes[kind])
    tree.close()
    lock.go.set()
    assert isinstance(writer.finish(), ClosedError)
    with LSMTree.open(path) as again:
        assert dict(again.scan()) == {b"before": b"1"}


def test_writers_overtaken_by_a_load_wait_and_come_after_it(tmp_path: Path) -> None:
    flushing, go = threading.Event(), threading.Event()

    def partitioner(key: bytes) -> bytes:
        if key == b"old":  # the memtable's flush, in the midst of the load
            flushing.set()
            assert go.wait(PATIENCE_SECONDS)
        return b""

    with LSMTree.open(str(tmp_path / "tree"), Options(key_partitioner=partitioner)) as tree:
        scheduler: Any = tree._store.scheduler
        tree.put(b"old", b"1")
        lock, late = make_late(tree, lambda: tree.put(b"loaded", b"late writer"))
        load = Outcome(lambda: tree.ingest([(b"loaded", b"by the load")]))
        load.start()
        assert flushing.wait(PATIENCE_SECONDS)
        next_one = Outcome(lambda: tree.put(b"next", b"1"))
        next_one.start()
        lock.go.set()
        until(lambda: scheduler._waiters == 3)  # the load, and both writers
        assert tree.get(b"loaded") is None
        go.set()
        loaded = load.finish()
        assert {late.finish(), next_one.finish()} == {loaded + 1, loaded + 2}
        assert dict(tree.scan()) == {b"loaded": b"late writer", b"next": b"1", b"old": b"1"}


def test_compaction_that_is_waited_for_ends_with_an_error_when_the_tree_closes(
    tmp_path: Path,
) -> None:
    merging, go = threading.Event(), threading.Event()

    def slow(key: bytes, value: bytes) -> FilterVerdict:
        merging.set()
        assert go.wait(PATIENCE_SECONDS)
        return FilterVerdict.KEEP

    path = str(tmp_path / "tree")
    tree = LSMTree.open(path, Options(compaction_filter=slow))
    for value in (b"1", b"2"):
        tree.put(b"k", value)
        tree.flush()
    compaction = Outcome(tree.compact)
    compaction.start()
    assert merging.wait(PATIENCE_SECONDS)
    closing = Outcome(tree.close)
    closing.start()
    until(lambda: tree._store.closing)
    with pytest.raises(ClosedError, match="being closed"):
        tree.put(b"k", b"3")
    go.set()
    assert isinstance(compaction.finish(), ClosedError)
    assert closing.finish() is None
    with LSMTree.open(path) as again:
        assert dict(again.scan()) == {b"k": b"2"}
