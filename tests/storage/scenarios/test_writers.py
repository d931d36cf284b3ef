"""Scenarios 23 and 24: many writers on a real disk with real threads."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from streambus_storage import (
    LSMTree,
    Options,
    StorageError,
    StorageIOError,
    TreeFailedError,
    WriteBatch,
)
from tests.storage.scenarios.disk import cut, new_world, open_tree

if TYPE_CHECKING:
    from pathlib import Path

WRITERS = 8
BATCHES = 40


def test_23_batches_of_many_threads_are_atomic_and_in_one_order(tmp_path: Path) -> None:
    """Log order = sequence order = visibility: what was seen last is what recovery finds."""
    order: list[tuple[int, int, int]] = []
    with LSMTree.open(str(tmp_path / "tree"), Options(memtable_bytes=20_000)) as tree:
        torn: list[object] = []
        stop = threading.Event()

        def write(writer: int) -> None:
            for number in range(BATCHES):
                batch = WriteBatch()
                for part in range(5):
                    batch.put(b"shared/%d" % part, b"%d.%d" % (writer, number))
                batch.put(b"own/%d/%03d" % (writer, number), b"x" * 50)
                order.append((tree.write(batch, sync=number % 4 == 0), writer, number))

        def read() -> None:
            while not stop.is_set():
                values = {value for _, value in tree.scan(prefix=b"shared/")}
                if len(values) > 1:
                    torn.append(values)
                found = tree.multi_get([b"shared/%d" % part for part in range(5)])
                if len(set(found)) > 1:
                    torn.append(found)

        threads = [threading.Thread(target=write, args=(w,)) for w in range(WRITERS)]
        reader = threading.Thread(target=read)
        for thread in (*threads, reader):
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        reader.join()
        assert torn == []
        order.sort()
        sequences = [sequence for sequence, _, _ in order]
        assert sequences == [6 * (n + 1) for n in range(WRITERS * BATCHES)]
        newest = b"%d.%d" % order[-1][1:]
        assert dict(tree.scan(prefix=b"shared/")) == {b"shared/%d" % p: newest for p in range(5)}
        assert len(list(tree.scan(prefix=b"own/"))) == WRITERS * BATCHES
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        assert dict(tree.scan(prefix=b"shared/")) == {b"shared/%d" % p: newest for p in range(5)}
        assert tree.last_sequence >= order[-1][0]


def test_23_many_waiters_share_a_sync(tmp_path: Path) -> None:
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        called: dict[int, list[StorageError | None]] = {}
        done = threading.Event()
        wanted = 2_000
        before = tree.stats().syncs
        for number in range(wanted):
            sequence = tree.put(b"%d" % number, b"v" * 100)
            called[sequence] = []

            def note(error: StorageError | None, sequence: int = sequence) -> None:
                assert tree.durable_sequence >= sequence or error is not None
                called[sequence].append(error)
                if sequence == wanted:
                    done.set()

            tree.on_durable(sequence, note)
        assert done.wait(30)
        tree.sync()
        syncs = tree.stats().syncs - before
    assert all(errors == [None] for errors in called.values())
    assert syncs < wanted / 4, f"{syncs} syncs for {wanted} waiters"


def test_23_callback_is_called_once_and_truly_when_the_tree_closes_first() -> None:
    for fails in (False, True):
        world = new_world(eagerness=0.0)
        tree = open_tree(world)
        answers: list[StorageError | None] = []
        sequence = tree.put(b"k", b"v")
        tree.on_durable(sequence, answers.append)
        if fails:
            world.disk.fail("sync", path=".wal", times=None)
            with pytest.raises(TreeFailedError):
                tree.close()
            assert [type(answer) for answer in answers] == [StorageIOError]
        else:
            tree.close()
            assert answers == [None]
            assert dict(open_tree(cut(world, "drop")).scan()) == {b"k": b"v"}
        tree.close()
        assert len(answers) == 1


def test_23_batch_that_is_left_by_an_exception_writes_nothing() -> None:
    world = new_world()
    with open_tree(world) as tree:
        sequence = tree.last_sequence
        with pytest.raises(RuntimeError, match="cancelled"), tree.batch(sync=True) as batch:
            batch.put(b"half", b"1")
            raise RuntimeError("cancelled")
        assert tree.last_sequence == sequence
        assert tree.get(b"half") is None
        tree.put(b"whole", b"1", sync=True)
    with open_tree(cut(world)) as tree:
        assert dict(tree.scan()) == {b"whole": b"1"}


def test_24_thousand_disjoint_prefixes_do_not_stall_each_other(tmp_path: Path) -> None:
    """Flushes of ascending keys under 1,000 prefixes; disjoint tables are no reason to wait."""
    options = Options(
        memtable_bytes=200_000,
        level0_trigger=2,
        level0_slow=4,
        level0_stop=6,
        stall_seconds_max=5.0,
        key_partitioner=lambda key: key[:4],
    )
    longest = 0.0
    with LSMTree.open(str(tmp_path / "tree"), options) as tree:
        for offset in range(12):
            for prefix in range(1_000):
                start = time.perf_counter()
                tree.put(prefix.to_bytes(4, "big") + offset.to_bytes(8, "big"), b"v" * 100)
                longest = max(longest, time.perf_counter() - start)
        for prefix in (0, 500, 999):
            first = tree.first(prefix.to_bytes(4, "big"))
            last = tree.last(prefix.to_bytes(4, "big"))
            assert first is not None
            assert last is not None
            assert (first[0][4:], last[0][4:]) == ((0).to_bytes(8, "big"), (11).to_bytes(8, "big"))
        assert len(list(tree.scan())) == 12_000
    assert longest < 5.0, f"a put took {longest:.3f} s"
