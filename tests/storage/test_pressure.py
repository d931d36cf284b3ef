"""How writers are slowed down: a pure measure, and a tree whose compaction is far behind."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import pytest

from streambus_storage import LSMTree, Options, Pressure, WriteBatch, WriteStallError
from streambus_storage._pressure import (
    BYTES_PER_SECOND_MAX,
    HALVINGS,
    LUMP_SECONDS,
    STANDING,
    WAIT_SECONDS_MAX,
    WRITE_BYTES,
    Dues,
    Pace,
    measure,
)
from tests.storage.scenarios.disk import new_world, open_tree

if TYPE_CHECKING:
    from streambus_storage.testing import SimulatedWorld

SLOW: dict[str, Any] = {"level0_trigger": 4, "level0_slow": 4, "level0_stop": 12}


def deepen(tree: LSMTree, count: int, value: bytes = b"v") -> None:
    """Put so many tables on top of each other, which nothing merges meanwhile."""
    for _ in range(count):
        tree.put(b"a", value)
        tree.put(b"z", value)
        tree.flush()


def behind(world: SimulatedWorld, depth: int, **options: Any) -> LSMTree:
    """A tree with a level 0 so deep."""
    tree = open_tree(world, **{**SLOW, **options})
    tree.pause_compaction()
    deepen(tree, 1 + depth)  # the first one lies over nothing: it goes to the deepest level
    return tree


def pressure(tree: LSMTree) -> Pressure:
    """What the tree says now."""
    return tree.pressure


def test_rate_halves_from_slow_to_stop() -> None:
    rates: list[float] = []
    with behind(new_world(), 3) as tree:
        assert pressure(tree) is Pressure.NONE
        for _ in range(SLOW["level0_slow"], SLOW["level0_stop"]):
            deepen(tree, 1)
            assert pressure(tree) is Pressure.SLOW
            store = tree._store
            pace = measure(store.state, store.options, prepared=True)
            assert pace == store.pace
            rates.append(pace.bytes_per_second)
        deepen(tree, 1)
        assert pressure(tree) is Pressure.STOP
        tree.resume_compaction()
        tree.compact()
        assert pressure(tree) is Pressure.NONE
        assert tree._store.pace.bytes_per_second == math.inf
    assert rates[0] == BYTES_PER_SECOND_MAX
    steps = len(rates)
    for faster, slower in itertools.pairwise(rates):
        assert math.isclose(faster / slower, 2 ** (HALVINGS / steps))


def test_dues_add_up_to_the_rate_and_are_waited_for_in_lumps() -> None:
    pace, now, waited = Pace(Pressure.SLOW, 1e6), 100.0, 0.0
    dues = Dues()
    for _ in range(1_000):
        seconds = dues.seconds(now)
        assert seconds == 0.0 or LUMP_SECONDS <= seconds <= WAIT_SECONDS_MAX
        now += seconds
        waited += seconds
        dues.add(1_000 - WRITE_BYTES, pace, now)
    assert math.isclose(waited, 1.0, abs_tol=0.01)  # a megabyte at a megabyte a second
    dues.add(1 << 30, pace, now)
    assert dues.seconds(now) == WAIT_SECONDS_MAX
    assert dues.seconds(now + 2) == 0.0, "time that passed unused is no debt, and no credit"


def test_load_at_full_speed_is_slowed_down_and_never_refused() -> None:
    """Compaction stands still for a while, and then goes on: nobody saw an error."""
    world = new_world()
    value = b"v" * 100_000
    with behind(world, 11, memtable_bytes=64 << 20) as tree:
        begin = world.clock.now()
        for number in range(30):
            tree.put(b"%03d" % number, value)
        stats = tree.stats()
        assert pressure(tree) is Pressure.SLOW
        taken = world.clock.now() - begin
        expected = 29 * (3 + len(value) + WRITE_BYTES) / tree._store.pace.bytes_per_second
        assert math.isclose(taken, expected, rel_tol=0.01)
        assert math.isclose(stats.slowdown_seconds, taken, rel_tol=0.01)
        assert stats.slowdowns > 0
        assert stats.stalls == 0
        tree.resume_compaction()
        world.scheduler.run_until_idle()
        begin = world.clock.now()
        for number in range(30):
            tree.put(b"%03d" % number, value)
        assert pressure(tree) is Pressure.NONE
        assert tree.stats().slowdowns == stats.slowdowns


def test_tree_that_never_waits_refuses_what_is_not_its_turn() -> None:
    world = new_world()
    with behind(world, 11, memtable_bytes=64 << 20, stall_seconds_max=0) as tree:
        batch = WriteBatch()
        batch.put(b"large", b"v" * 1_000_000)
        tree.write(batch)
        written = tree.last_sequence
        begin = world.clock.now()
        with pytest.raises(WriteStallError, match="slowed down"):
            tree.put(b"k", b"v")
        with pytest.raises(WriteStallError, match="slowed down"):
            tree.write(batch)
        assert world.clock.now() == begin
        assert (tree.stats().slowdowns, tree.stats().slowdown_seconds) == (2, 0)
        assert tree.last_sequence == written
        assert tree.get(b"k") is None
        world.clock.advance(2 * WAIT_SECONDS_MAX)
        tree.put(b"k", b"v")
        assert tree.get(b"k") == b"v"


def test_memtable_that_outgrew_itself_is_frozen_by_the_next_write() -> None:
    """No segment was prepared in time; then one was, and the gate was still closed."""
    world = new_world(eagerness=0.0)
    with open_tree(world, memtable_bytes=4096) as tree:
        store = tree._store
        number = 0
        while not store.is_overfull():
            tree.put(b"%06d" % number, b"v" * 100)
            number += 1
        assert (pressure(tree), store.rotations, store.prepared) == (Pressure.NONE, 0, None)
        assert store.gate
        store.prepared = store.create_segment()  # as the housekeeper does
        tree.put(b"one more", b"v")
        assert store.rotations == 1
        assert not store.is_overfull()
        assert len(list(tree.scan())) == number + 1


def test_writer_that_finds_less_pressure_than_was_remembered_goes_on_at_once() -> None:
    world = new_world()
    with behind(world, 5) as tree:
        tree._store.pace = STANDING  # what was true before another thread's merge ended
        begin = world.clock.now()
        tree.put(b"k", b"v")
        assert world.clock.now() == begin
        assert pressure(tree) is Pressure.SLOW


def test_closed_tree_does_not_slow_down() -> None:
    assert measure(None, Options(), prepared=False) == Pace(Pressure.NONE, math.inf)
