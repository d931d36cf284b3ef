"""Scenarios 2 to 5: a torn tail of the write-ahead log is dropped, damage is an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streambus_storage import CorruptionError, DiskFullError, WriteBatch
from streambus_storage.testing import CUT_MODES
from tests.storage.scenarios.disk import contents, logs, new_world, open_tree, rebuilt, written_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_storage.testing import SimulatedWorld

BEFORE = {b"one": b"1", b"two": b"2" * 40}
LAST = {b"last/a": b"x" * 30, b"last/b": b"y" * 30}


def crashed_after_a_batch() -> tuple[SimulatedWorld, str, int, int]:
    """A killed world; the path of its log, and where the last record begins and ends."""
    world = new_world()
    tree = open_tree(world)
    for key, value in BEFORE.items():
        tree.put(key, value)
    path = written_log(world.disk)
    start = world.disk.files()[path]
    batch = WriteBatch()
    for key, value in LAST.items():
        batch.put(key, value)
    tree.write(batch)
    end = world.disk.files()[path]
    return rebuilt(world), path, start, end


def shorten(world: SimulatedWorld, path: str, at: int, end: int) -> None:
    world.disk.shorten(path, at)


def zero(world: SimulatedWorld, path: str, at: int, end: int) -> None:
    world.disk.damage(path, at, bytes(end - at))


def garble(world: SimulatedWorld, path: str, at: int, end: int) -> None:
    world.disk.damage(path, at, bytes((at * 7 + n * 13 + 5) % 256 for n in range(end - at)))


def flip(world: SimulatedWorld, path: str, at: int, end: int) -> None:
    world.disk.flip_bit(path, at, at % 8)


@pytest.mark.parametrize("harm", [shorten, zero, garble, flip])
def test_02_last_record_harmed_at_each_byte_loses_exactly_its_batch(
    harm: Callable[[SimulatedWorld, str, int, int], None],
) -> None:
    world, path, start, end = crashed_after_a_batch()
    original = world.disk.content(path)
    assert end - start > 60
    for at in range(start, end):
        harmed = rebuilt(world)
        harm(harmed, path, at, end)
        if harmed.disk.content(path) == original:
            continue  # zeros over zeros: not harmed
        assert contents(harmed) == BEFORE, at
        assert contents(harmed) == BEFORE, at
        with open_tree(harmed) as tree:
            tree.put(b"new", b"1", sync=True)
        assert contents(harmed) == {**BEFORE, b"new": b"1"}, at
    assert contents(world) == {**BEFORE, **LAST}


def test_02_garbage_or_zeros_after_the_last_record_are_dropped() -> None:
    world, path, _, end = crashed_after_a_batch()
    for tail in (b"\x00" * 4096, b"garbage", b"\xff" * 100, bytes(range(256)) * 4):
        harmed = rebuilt(world)
        harmed.disk.damage(path, end, tail)
        assert contents(harmed) == {**BEFORE, **LAST}


def test_03_bit_flipped_before_the_synced_position_is_an_error_with_its_place() -> None:
    world = new_world()
    tree = open_tree(world)
    for number in range(6):
        tree.put(b"%d" % number, b"v" * 20, sync=True)
    path = written_log(world.disk)
    end = world.disk.files()[path]
    killed = rebuilt(world)
    tree.close()
    survived = 0
    for at in range(end):
        harmed = rebuilt(killed)
        harmed.disk.flip_bit(path, at, at % 8)
        try:
            found = contents(harmed)
        except CorruptionError as error:
            assert error.path == path
            assert 0 <= error.offset <= at
            assert path in str(error)
            continue
        # No record after the last sync says that the last one was durable: only it may go.
        assert found in ({b"%d" % n: b"v" * 20 for n in range(k)} for k in (5, 6)), at
        survived += 1
    assert survived < end / 3


def test_03_open_after_damage_changes_nothing_on_the_disk() -> None:
    world = new_world()
    tree = open_tree(world)
    for number in range(4):
        tree.put(b"%d" % number, b"v", sync=True)
    killed = rebuilt(world)
    tree.close()
    path = written_log(killed.disk)
    killed.disk.flip_bit(path, killed.disk.files()[path] // 2)
    before = {name: killed.disk.content(name) for name in killed.disk.files()}
    for _ in range(2):
        with pytest.raises(CorruptionError):
            open_tree(killed)
    after = {name: killed.disk.content(name) for name in killed.disk.files()}
    assert {k: v for k, v in after.items() if v} == {k: v for k, v in before.items() if v}


def two_logs(*, synced: bool) -> tuple[SimulatedWorld, list[str]]:
    """A killed world with at least three log segments, nothing of them in tables."""
    world = new_world(eagerness=0.0)
    tree = open_tree(
        world, memtable_bytes=1024, memtables_max=16, level0_stop=1000, level0_slow=900
    )
    number = 0
    while len(logs(world.disk)) < 3:
        tree.put(b"%03d" % number, b"v" * 50)
        number += 1
    tree.put(b"end", b"v")
    if synced:
        tree.sync()
    return rebuilt(world), logs(world.disk)


@pytest.mark.parametrize("segment", [0, 1])
@pytest.mark.parametrize("synced", [False, True])
def test_04_tail_of_an_older_log_damaged_while_a_newer_lives_leaves_no_hole(
    segment: int, synced: bool
) -> None:
    world, segments = two_logs(synced=synced)
    whole = contents(rebuilt(world))
    path = segments[segment]
    size = world.disk.files()[path]
    for at in range(size - 60, size, 7):
        for harm in (shorten, zero, flip):
            harmed = rebuilt(world)
            harm(harmed, path, at, size)
            try:
                found = contents(harmed)
            except CorruptionError as error:
                assert error.path in segments
                continue
            assert not synced or found == whole, "synced, and lost without a word"
            keys = sorted(whole)
            assert found == whole or sorted(found) == keys[: len(found)], "a hole in the order"
            assert b"end" not in found or found == whole


@pytest.mark.parametrize("segment", [0, 1])
def test_05_older_log_deleted_or_shortened_fails_the_open(segment: int) -> None:
    world, segments = two_logs(synced=True)
    missing = rebuilt(world)
    missing.disk.unlink(segments[segment])
    with pytest.raises(CorruptionError):
        open_tree(missing)
    shorter = rebuilt(world)
    shorter.disk.shorten(segments[segment], shorter.disk.files()[segments[segment]] // 2)
    with pytest.raises(CorruptionError):
        open_tree(shorter)


def test_04_garbage_of_a_failed_append_before_a_rotation_is_no_hole() -> None:
    """The disk fills up in the middle of a record; the next write goes to the next segment."""
    world = new_world(eagerness=0.0)
    tree = open_tree(world)
    tree.put(b"first", b"1")
    world.scheduler.run_until_idle()  # the next segment is prepared
    world.disk.capacity_bytes = world.disk.used_bytes + 50
    with pytest.raises(DiskFullError):
        tree.put(b"too large", b"v" * 500)
    world.disk.capacity_bytes = None
    tree.on_durable(tree.last_sequence, print)
    assert tree._writer.rotate(force=True) is not None
    tree.put(b"second", b"2")
    expected = {b"first": b"1", b"second": b"2"}
    assert contents(rebuilt(world)) == expected
    tree.sync()
    for mode in CUT_MODES:
        assert contents(world.power_cut(mode, seed=1)) == expected
    tree.close()
    assert contents(world) == expected


def test_02_value_that_holds_a_copy_of_a_log_is_no_evidence_of_damage() -> None:
    """Records inside a torn value look valid, but they are not records of this log."""
    other = new_world(1)
    with open_tree(other) as tree:
        for number in range(20):
            tree.put(b"%02d" % number, b"v", sync=True)
        copy = other.disk.content(written_log(other.disk))
    world = new_world()
    tree = open_tree(world)
    tree.put(b"before", b"1", sync=True)
    start = world.disk.files()[written_log(world.disk)]
    tree.put(b"backup", copy)
    killed = rebuilt(world)
    tree.close()
    killed.disk.shorten(written_log(killed.disk), start + len(copy))
    assert contents(killed) == {b"before": b"1"}
