"""Scenarios 10 and 12 to 15: flushes out of order, versions, deletes and ranges that stay right."""

from __future__ import annotations

import itertools
import random

import pytest

from streambus_storage.testing import random_source
from tests.storage.model import (
    DeleteRange,
    Model,
    Put,
    Shape,
    apply_to_tree,
    random_operation,
)
from tests.storage.scenarios.disk import (
    contents,
    cut,
    logs,
    new_world,
    open_tree,
    record_cuts,
    tables,
)


def test_10_no_log_goes_before_all_of_it_is_in_tables() -> None:
    """Several memtables wait; background work runs step by step, and the power goes after each."""
    for seed in range(12):
        world = new_world(seed, eagerness=0.0)
        tree = open_tree(
            world, memtable_bytes=1024, memtables_max=8, level0_slow=900, level0_stop=999
        )
        expected = {}
        for number in range(60):
            expected[b"%02d" % (number % 25)] = b"%d" % number * 20
            tree.put(b"%02d" % (number % 25), expected[b"%02d" % (number % 25)])
            if number % 3 == seed % 3:
                world.scheduler.run_one()
            if number % 7 == 0:
                tree.sync()
                assert contents(cut(world, "drop", number)) == expected
        tree.sync()
        oldest = logs(world.disk)[0]
        for step in range(500):
            after = cut(world, "random", step)
            assert contents(after) == expected
            assert logs(world.disk)[0] >= oldest, "the mark went back"
            oldest = logs(world.disk)[0]
            if not world.scheduler.run_one():
                break
        tree.close()
        assert contents(world) == expected


def test_12_compaction_never_splits_the_versions_of_a_key() -> None:
    world = new_world()
    tree = open_tree(world, automatic_compaction=False, table_bytes=1024, memtable_bytes=1 << 16)
    snapshots = []
    for version in range(60):
        tree.put(b"hot", b"%03d" % version * 30)
        tree.put(b"a%02d" % version, b"x" * 40)
        tree.put(b"z%02d" % version, b"x" * 40)
        snapshots.append((version, tree.snapshot()))
        if version % 15 == 14:
            tree.flush()
    for _ in range(3):
        tree.compact()
        for version, snapshot in snapshots:
            assert snapshot.get(b"hot") == b"%03d" % version * 30
            assert len(list(snapshot.scan(prefix=b"a"))) == version + 1
    assert len(tables(world.disk)) > 3
    tree.delete(b"hot")
    tree.flush()
    tree.compact()
    assert tree.get(b"hot") is None
    for version, snapshot in snapshots:
        assert snapshot.get(b"hot") == b"%03d" % version * 30
        snapshot.close()
    tree.compact()
    assert tree.get(b"hot") is None
    assert b"hot" not in dict(tree.scan())
    assert tree.verify()
    tree.close()
    assert b"hot" not in contents(world)


STEPS = ("put", "delete", "range", "flush", "compact", "snapshot", "reopen")


def test_13_deleted_key_never_comes_back_in_any_order_of_steps() -> None:
    """Every order of five steps out of seven; the oldest snapshot is of the empty tree."""
    orders = list(itertools.permutations(STEPS, 5))
    random.Random(13).shuffle(orders)
    for order in orders[:400]:
        world = new_world()
        tree = open_tree(world, automatic_compaction=False)
        model = Model()
        views = [(tree.snapshot(), model.copy())]
        tree.put(b"k", b"0")
        model.apply(Put(b"k", b"0"))
        for step in order:
            if step == "put":
                apply_to_tree(tree, Put(b"k", b"1"))
                model.apply(Put(b"k", b"1"))
            elif step == "delete":
                tree.delete(b"k")
                model.entries.pop(b"k", None)
            elif step == "range":
                tree.delete_range(b"a", b"z")
                model.entries.clear()
            elif step == "flush":
                tree.flush()
            elif step == "compact":
                tree.compact()
            elif step == "snapshot":
                views.append((tree.snapshot(), model.copy()))
            else:
                for view, _ in views:
                    view.close()
                views.clear()
                tree.close()
                tree = open_tree(world, automatic_compaction=False)
            assert tree.get(b"k") == model.entries.get(b"k"), order
            for view, then in views:
                assert dict(view.scan()) == dict(then.entries), order
        for view, _ in views:
            view.close()
        tree.flush()
        tree.compact()
        assert dict(tree.scan()) == dict(model.entries), order
        tree.close()


@pytest.mark.parametrize("seed", range(8))
def test_14_range_deletes_under_snapshots_and_flushes_equal_the_model(seed: int) -> None:
    """Tables of a few keys, so that every range ends on, before or after a table's boundary."""
    draw = random_source(seed, "ranges")
    world = new_world(seed, eagerness=draw.choice((0.0, 0.4, 1.0)))
    tree = open_tree(world, memtable_bytes=1024, table_bytes=1024, level0_trigger=2, holes_max=2)
    model = Model()
    views = []
    for serial in range(150):
        if draw.random() < 0.35:
            one, two = sorted((draw.randrange(64), draw.randrange(64)))
            operation: DeleteRange | Put = DeleteRange(b"%02d" % one, b"%02d" % two + b"\x00")
        else:
            operation = Put(b"%02d" % draw.randrange(64), b"%d." % serial * draw.randrange(1, 40))
        apply_to_tree(tree, operation)
        model.apply(operation)
        dice = draw.random()
        if dice < 0.1:
            views.append((tree.snapshot(), model.copy()))
        elif dice < 0.2:
            tree.flush()
        elif dice < 0.25:
            tree.compact()
        elif dice < 0.35:
            world.scheduler.run_one()
        if serial % 10 == 0:
            assert dict(tree.scan()) == dict(model.entries)
            for view, then in views:
                assert list(view.scan()) == list(then.scan())
                assert list(view.scan(reverse=True)) == list(then.scan(reverse=True))
    for view, then in views:
        for number in range(64):
            assert view.get(b"%02d" % number) == then.entries.get(b"%02d" % number)
        view.close()
    tree.compact()
    assert dict(tree.scan()) == dict(model.entries)
    tree.close()


@pytest.mark.parametrize("steps", list(itertools.product((False, True), repeat=3)))
def test_15_truncated_suffix_written_again_shows_only_the_new(steps: tuple[bool, ...]) -> None:
    """A follower truncates its log and appends other records at the same offsets."""
    flush_old, flush_between, compact = steps
    world = new_world()
    tree = open_tree(world, automatic_compaction=False)

    def key(offset: int) -> bytes:
        return b"p" + offset.to_bytes(4, "big")

    for offset in range(40):
        tree.put(key(offset), b"old%02d" % offset * 8)
    if flush_old:
        tree.flush()
    tree.sync()
    disks = record_cuts(world)
    with tree.batch(sync=True) as batch:
        batch.delete_range(key(20), b"q")
        for offset in range(20, 25):
            batch.put(key(offset), b"new%02d" % offset)
    if flush_between:
        tree.flush()
    for offset in range(25, 30):
        tree.put(key(offset), b"new%02d" % offset)
    tree.sync()
    if compact:
        tree.flush()
        tree.compact()
    world.disk.on_call = None
    new = {key(o): b"old%02d" % o * 8 for o in range(20)}
    new |= {key(o): b"new%02d" % o for o in range(20, 30)}
    assert dict(tree.scan()) == new
    assert tree.last(b"p") == (key(29), b"new29")
    tree.close()
    assert contents(cut(world)) == new
    for disk in disks:
        found = contents(type(world)(0, disk=disk))
        values = [found[k] for k in sorted(found)]
        kept = [value for value in values if value.startswith(b"old")]
        fresh = [value for value in values if value.startswith(b"new")]
        assert len(kept) in (20, 40)
        assert not fresh or (len(kept) == 20 and values == kept + fresh and len(fresh) >= 5)


def test_13_random_deletes_with_the_oldest_snapshot_held_throughout() -> None:
    draw = random_source(13, "held")
    world = new_world(13, eagerness=0.5)
    tree = open_tree(world, memtable_bytes=1024, level0_trigger=1)
    empty = tree.snapshot()
    model = Model()
    for serial in range(400):
        operation = random_operation(draw, Shape(keys=12), serial)
        apply_to_tree(tree, operation)
        model.apply(operation)
        if serial % 40 == 0:
            assert list(empty.scan()) == []
            assert dict(tree.scan()) == dict(model.entries)
    empty.close()
    tree.compact()
    assert dict(tree.scan()) == dict(model.entries)
    tree.close()
