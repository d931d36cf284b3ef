"""Another thread closes, or the tree fails, in the middle of a write: the answer is certain."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from streambus_storage import ClosedError, LSMTree, Options, StorageError, TreeFailedError
from tests.storage.scenarios.disk import new_world, open_tree

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", range(5))
def test_write_whose_rotation_meets_a_close_is_done_and_says_so(tmp_path: Path, seed: int) -> None:
    path = str(tmp_path / str(seed))
    tree = LSMTree.open(path, Options(memtable_bytes=2_000))
    accepted: list[bytes] = []
    outcome: list[BaseException] = []
    writing = threading.Event()

    def write() -> None:
        try:
            for number in range(1_000_000):
                key = b"%08d" % number
                tree.put(key, b"v" * 300, sync=number % 50 == seed)
                accepted.append(key)
                if number == 100 + seed:
                    writing.set()
        except BaseException as exc:  # noqa: BLE001 - looked at below
            outcome.append(exc)

    thread = threading.Thread(target=write)
    thread.start()
    assert writing.wait(60)
    tree.close()
    thread.join(60)
    assert [type(error) for error in outcome] == [ClosedError]
    with LSMTree.open(path) as again:
        assert list(dict(again.scan())) == accepted  # not one more, not one less


def test_closed_tree_refuses_to_rotate() -> None:
    tree = open_tree(new_world())
    tree.put(b"k", b"v")
    writer = tree._writer
    tree.close()
    with pytest.raises(ClosedError):
        writer.rotate(force=True)
    tree._writer._rotate_if_full()  # after a write that is done: silently nothing


def test_nothing_is_called_durable_that_a_failed_tree_did_not_sync() -> None:
    world = new_world()
    tree = open_tree(world)
    sequence = tree.put(b"k", b"v")
    world.disk.fail("append", path=".wal")
    with pytest.raises(TreeFailedError):
        tree.put(b"k", b"w")
    commit, errors = tree._store.commit, list[StorageError | None]()
    world.scheduler.eagerness = 0.0
    tree.on_durable(sequence, errors.append)
    tree.close()
    with pytest.raises(TreeFailedError):
        commit.wait(sequence)
    assert [type(error) for error in errors] == [TreeFailedError] or errors == [tree._store.failure]
    assert commit.durable < sequence


def test_wait_after_an_orderly_close_knows_what_is_durable() -> None:
    tree = open_tree(new_world())
    sequence = tree.put(b"k", b"v")
    commit = tree._store.commit
    tree.close()
    commit.wait(sequence)
    with pytest.raises(ClosedError):
        commit.wait(sequence + 1)
