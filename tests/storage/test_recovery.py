"""Opening what is no whole tree: files that are missing, too long, or somebody else's."""

from __future__ import annotations

import pytest

from streambus_storage import CorruptionError, LSMTree
from streambus_storage._manifest_format import Segment
from streambus_storage._names import segment_path
from streambus_storage._wal_format import encode_put, encode_wal_header, wal_seed
from streambus_storage._wal_reader import RecoveryReport, replay
from streambus_storage.testing import SimulatedFileSystem, SimulatedWorld
from tests.storage.scenarios.disk import (
    PATH,
    SMALL,
    contents,
    manifests,
    new_world,
    open_tree,
    rebuilt,
    written_log,
)

CURRENT = f"{PATH}/CURRENT"


def written(*, flush: bool) -> SimulatedWorld:
    """A tree after the death of its process."""
    world = new_world()
    tree = open_tree(world)
    tree.put(b"a", b"1", sync=True)
    tree.put(b"b", b"2", sync=True)
    if flush:
        tree.flush()
    return rebuilt(world)


def store_file(disk: SimulatedFileSystem, path: str, data: bytes) -> None:
    if disk.exists(path):
        disk.unlink(path)
    file = disk.create(path)
    file.append(data)
    file.close()


def test_tables_without_current_are_a_damaged_tree_and_not_a_new_one() -> None:
    world = written(flush=True)
    world.disk.unlink(CURRENT)
    before = world.disk.files()
    with pytest.raises(CorruptionError, match="tables, but no CURRENT"):
        open_tree(world)
    assert world.disk.files() == before


def test_log_records_without_current_are_a_damaged_tree_and_not_a_new_one() -> None:
    world = written(flush=False)
    world.disk.unlink(CURRENT)
    before = world.disk.files()
    with pytest.raises(CorruptionError, match="log records, but no CURRENT"):
        open_tree(world)
    assert world.disk.files() == before


def test_manifest_that_is_missing_or_current_that_is_too_long_is_damage() -> None:
    world = written(flush=True)
    [path] = manifests(world.disk)
    world.disk.unlink(path)
    with pytest.raises(CorruptionError, match="CURRENT names is missing"):
        open_tree(world)
    world = written(flush=True)
    store_file(world.disk, CURRENT, b"MANIFEST-000001 " * 300)
    for read_only in (False, True):
        with pytest.raises(CorruptionError, match="too long"):
            LSMTree.open(PATH, world.options(**SMALL), read_only=read_only)


def test_log_that_the_manifest_never_heard_of_is_damage_if_it_holds_records() -> None:
    world = written(flush=False)
    store_file(world.disk, segment_path(PATH, 50), world.disk.content(written_log(world.disk)))
    with pytest.raises(CorruptionError, match="does not know this log"):
        open_tree(world)
    store_file(world.disk, segment_path(PATH, 50), encode_wal_header(50, 7))
    assert contents(world) == {b"a": b"1", b"b": b"2"}


def test_sealed_log_that_ends_at_a_record_too_early_is_damage() -> None:
    world = new_world()
    tree = open_tree(world)
    tree.put(b"a", b"1")
    first_end = world.disk.files()[written_log(world.disk)]
    tree.put(b"b", b"2")
    path = written_log(world.disk)
    tree.close()
    world.disk.shorten(path, first_end)
    with pytest.raises(CorruptionError, match=f"the file ends at {first_end}"):
        open_tree(world)


@pytest.mark.parametrize(("sequence", "durable"), [(3, 0), (2, 9)])
def test_log_that_lacks_a_record_in_its_midst_or_knows_of_later_ones(
    sequence: int, durable: int
) -> None:
    """Valid records, of which the second should be number 2, or knows number 9 as durable."""
    disk = SimulatedFileSystem()
    header = encode_wal_header(1, 5)
    seed = wal_seed(header)
    first = encode_put(seed, 1, 0, b"a", b"1")
    store_file(disk, "/000001.wal", header + first + encode_put(seed, sequence, durable, b"b", b""))
    report = RecoveryReport()
    segments = [Segment(1)]
    if durable:
        with pytest.raises(CorruptionError, match="sequence 9 was durable, 2 is the last"):
            replay(disk, "/", segments, 0, report)
        return
    found = replay(disk, "/", segments, 0, report)
    assert found.last_sequence == 1
    [torn] = report.torn
    assert torn.offset == len(header + first)
    assert "a record has sequence 3, not 2" in torn.reason
