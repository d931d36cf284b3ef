"""Scenarios 1, 6, 9 and 21: the power goes at any call, and the tree is what it was.

The long run of the same is ``hatch run simulate storage``.
"""

from __future__ import annotations

import pytest

from streambus_storage import LSMTree
from streambus_storage.testing import CUT_MODES, SimulatedFileSystem, random_source
from tests.storage.cuts import Run
from tests.storage.scenarios.disk import (
    PATH,
    SMALL,
    contents,
    cut,
    logs,
    new_world,
    open_tree,
    rebuilt,
    record_cuts,
    tables,
)

SEEDS = range(1, 7)


@pytest.mark.parametrize("seed", SEEDS)
def test_01_cut_at_every_call_leaves_a_prefix_with_every_acknowledgement(seed: int) -> None:
    assert Run(seed, operations=16).execute() > 50


def test_01_the_same_seed_gives_the_same_trace() -> None:
    def trace() -> tuple[int, list[str]]:
        run = Run(5, operations=8, log=[])
        cuts = run.execute()
        return cuts, run.log or []

    assert trace() == trace()


@pytest.mark.parametrize("mode", CUT_MODES)
def test_06_what_recovery_served_is_still_there_after_a_cut_before_any_write(mode: str) -> None:
    world = new_world()
    tree = open_tree(world)
    tree.put(b"synced", b"1", sync=True)
    tree.put(b"unsynced", b"2")
    after = world.process_kill()
    assert world.power_cut("drop").disk.used_bytes < after.disk.used_bytes
    served = contents_without_closing(after)
    for seed in range(10):
        again = after.disk.power_cut(random_source(seed), mode)  # type: ignore[arg-type] # a mode
        assert served == {b"synced": b"1", b"unsynced": b"2"}
        second = type(after)(seed, disk=again)
        assert contents(second) == served
    tree.close()


def contents_without_closing(world: object) -> dict[bytes, bytes]:
    """Open and read; the process then vanishes without a word."""
    return dict(open_tree(world).scan())  # type: ignore[arg-type] # a SimulatedWorld


@pytest.mark.parametrize("mode", CUT_MODES)
def test_09_cut_at_each_step_of_a_flush_and_a_compaction_leaves_no_dangling_file(mode: str) -> None:
    """Table created, written, synced, directory synced, manifest, switch, unlink: each is cut."""
    world = new_world()
    tree = open_tree(world, level0_trigger=64, level0_slow=64, level0_stop=64)
    expected = {}
    for run in range(3):
        for number in range(40):
            key, value = b"%03d" % number, b"%d" % run * (600 if number % 5 == 0 else 20)
            tree.put(key, value)
            expected[key] = value
        tree.sync()
        if run < 2:
            tree.flush()
    clones: list[tuple[str, SimulatedFileSystem]] = []

    def keep(call: object) -> None:
        clones.append((str(call), world.disk.power_cut(random_source(len(clones)), mode)))  # type: ignore[arg-type] # a mode

    world.disk.on_call = keep
    tree.flush()
    tree.compact()
    world.disk.on_call = None
    tree.close()
    assert {"create", "sync", "sync_directory", "append", "unlink"} <= {
        text.split()[1] for text, _ in clones
    }
    for where, disk in clones:
        after = type(world)(1, disk=disk)
        opened = open_tree(after)
        assert dict(opened.scan()) == expected, where
        assert opened.verify()
        live = set(tables(disk))
        opened.close()
        with open_tree(after) as again:
            assert again.verify()
        assert live >= set(tables(disk)), f"{where}: a second recovery finds more to do"


def test_09_orphans_of_a_crash_are_removed_on_open() -> None:
    world = new_world()
    with open_tree(world) as tree:
        for number in range(50):
            tree.put(b"%03d" % number, b"v" * 50)
        tree.flush()
        known = set(tables(world.disk))
    stray = known.pop().replace("/00", "/99")
    file = world.disk.create(stray)
    file.append(b"half a table")
    file.close()
    with open_tree(world) as tree:
        assert len(dict(tree.scan())) == 50
    assert stray not in world.disk.files()


def test_21_values_out_of_line_never_dangle_and_are_counted() -> None:
    """Large values lie in the table itself, so table and values are installed by one step."""
    world = new_world()
    tree = open_tree(world, raw_value_bytes=64)
    for number in range(20):
        tree.put(b"%02d" % number, bytes([number]) * 3000)
    tree.sync()
    disks = record_cuts(world)
    tree.flush()
    world.disk.on_call = None
    assert sum(world.disk.files()[path] for path in tables(world.disk)) >= 60_000
    assert len(disks) > 5
    for disk in disks:
        after = type(world)(2, disk=disk)
        with open_tree(after, raw_value_bytes=64) as opened:
            for number in range(20):
                assert opened.get(b"%02d" % number) == bytes([number]) * 3000
                place = opened.locate(b"%02d" % number)
                if place is not None:
                    held = disk.content(place.path)[place.offset : place.offset + place.length]
                    assert held == bytes([number]) * 3000
    tree.close()


def test_09_killed_process_leaves_its_logs_to_be_replayed_once() -> None:
    world = new_world()
    tree = open_tree(world)
    tree.put(b"k", b"v")
    killed = rebuilt(world)
    tree.close()
    assert contents(killed) == {b"k": b"v"}
    assert contents(killed) == {b"k": b"v"}
    assert len(logs(killed.disk)) <= 2
    assert contents(cut(killed, "drop")) == {b"k": b"v"}
    assert killed.disk.exists(PATH)


def test_06_tree_in_directories_that_did_not_exist_survives_a_cut() -> None:
    world = new_world()
    options = world.options(**SMALL)
    tree = LSMTree.open("/one/two/three/tree", options)
    tree.put(b"k", b"v", sync=True)
    after = cut(world, "drop")
    with LSMTree.open("/one/two/three/tree", after.options(**SMALL), create=False) as again:
        assert dict(again.scan()) == {b"k": b"v"}
    tree.close()
