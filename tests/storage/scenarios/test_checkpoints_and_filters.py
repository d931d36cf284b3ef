"""Scenarios 16, 17, 18 and 20: retention, big batches, checkpoints and compaction filters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streambus_storage import FilterVerdict, LSMTree, StorageError, WriteBatch
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

if TYPE_CHECKING:
    from collections.abc import Iterator

COPY = "/data/copy"


def offset_key(partition: int, offset: int) -> bytes:
    return partition.to_bytes(4, "big") + offset.to_bytes(8, "big")


def by_partition(key: bytes) -> bytes:
    return key[:4]


def test_16_retired_leading_keys_cost_no_reads_and_their_space_comes_back_unread() -> None:
    """A range delete over whole tables drops them unread; the first key is found in O(1)."""
    world = new_world()
    tree = open_tree(world, key_partitioner=by_partition, cache_bytes=0, partition_bytes=1)
    for offset in range(3_000):
        tree.put(offset_key(1, offset), b"v" * 20)
        if offset % 300 == 299:
            tree.flush()
    tree.flush()
    held = sum(world.disk.files()[path] for path in tables(world.disk))
    reads, written = world.disk.calls["read"], world.disk.calls["create"]
    tree.delete_range(offset_key(1, 0), offset_key(1, 2_950))
    assert tree.first(offset_key(1, 0)[:4]) == (offset_key(1, 2_950), b"v" * 20)
    seek = world.disk.calls["read"] - reads
    assert seek <= 6, f"{seek} reads for the first key"
    tree.flush()
    world.scheduler.run_until_idle()
    left = sum(world.disk.files()[path] for path in tables(world.disk))
    assert left < held / 4, (left, held)
    assert world.disk.calls["create"] - written < 12, "tables were rewritten to be dropped"
    reads = world.disk.calls["read"]
    assert tree.first(offset_key(1, 0)[:4]) == (offset_key(1, 2_950), b"v" * 20)
    assert tree.last(offset_key(1, 0)[:4]) == (offset_key(1, 2_999), b"v" * 20)
    assert world.disk.calls["read"] - reads <= 8
    assert len(list(tree.scan())) == 50
    tree.close()


def test_16_last_entry_does_not_walk_what_a_truncation_deleted() -> None:
    world = new_world()
    tree = open_tree(world, key_partitioner=by_partition, cache_bytes=0, partition_bytes=1)
    for offset in range(2_000):
        tree.put(offset_key(1, offset), b"v" * 20)
    tree.flush()
    tree.delete_range(offset_key(1, 10), offset_key(2, 0))
    reads = world.disk.calls["read"]
    assert tree.last(offset_key(1, 0)[:4]) == (offset_key(1, 9), b"v" * 20)
    assert world.disk.calls["read"] - reads <= 6
    tree.close()


def test_17_batch_larger_than_the_memtable_is_atomic_and_snapshots_are_stable() -> None:
    """Bulk load: one batch over keys that the memtable and the tables hold already."""
    world = new_world()
    tree = open_tree(world, memtable_bytes=2048)
    before = {b"%03d" % n: b"old" for n in range(0, 300, 3)}
    for key, value in before.items():
        tree.put(key, value)
    tree.flush()
    tree.put(b"001", b"memtable")
    before[b"001"] = b"memtable"
    tree.sync()
    view = tree.snapshot()
    disks = record_cuts(world)
    batch = WriteBatch()
    new = {b"%03d" % n: b"new" * 5 for n in range(300)}
    for key, value in new.items():
        batch.put(key, value)
    batch.delete_range(b"200", b"250")
    new = {key: value for key, value in new.items() if not b"200" <= key < b"250"}
    tree.write(batch, sync=True)
    world.disk.on_call = None
    assert dict(view.scan()) == before
    assert dict(tree.scan()) == new
    view.close()
    tree.close()
    for disk in disks:
        assert contents(type(world)(0, disk=disk)) in (before, new)
    assert contents(cut(world)) == new


def test_17_ingest_over_a_memtable_with_a_snapshot_in_the_middle_is_atomic_under_a_crash() -> None:
    world = new_world()
    tree = open_tree(world)
    before = {b"%03d" % n: b"table" for n in range(0, 300, 3)}
    for key, value in before.items():
        tree.put(key, value)
    tree.flush()
    before.update({b"%03d" % n: b"memtable" for n in range(0, 300, 5)})
    for key in before:
        if before[key] == b"memtable":
            tree.put(key, b"memtable")
    tree.sync()
    views = [tree.snapshot()]
    loaded = {b"%03d" % n: b"loaded" * 20 for n in range(50, 250)}

    def items() -> Iterator[tuple[bytes, bytes]]:
        for at, item in enumerate(loaded.items()):
            if at == 100:
                views.append(tree.snapshot())
                tree.put(b"055", b"between")  # the load is newer than what came while it was read
            yield item

    disks = record_cuts(world)
    sequence = tree.ingest(items())
    world.disk.on_call = None
    views.append(tree.snapshot())
    assert sequence == tree.last_sequence
    after = {**before, **loaded}
    assert [dict(view.scan()) for view in views] == [before, before, after]
    for view in views:
        view.close()
    tree.put(b"055", b"newest")
    assert tree.get(b"055") == b"newest"
    tree.close()
    between = {**before, b"055": b"between"}
    for disk in disks:
        assert contents(type(world)(0, disk=disk)) in (before, between, after)
    assert contents(cut(world)) == {**after, b"055": b"newest"}


@pytest.mark.parametrize("deep", [1, 3])
def test_new_tree_and_checkpoint_sync_every_directory_that_they_make(deep: int) -> None:
    world = new_world()
    below = "/".join(f"d{n}" for n in range(deep))
    for target in ("tree", "copy"):
        path = f"/data/new-{target}/{below}"
        with LSMTree.open(path if target == "tree" else PATH, world.options(**SMALL)) as tree:
            tree.put(b"k", b"v", sync=True)
            if target == "copy":
                tree.checkpoint(path)
        after = cut(world)
        with LSMTree.open(path, after.options(**SMALL), create=False) as found:
            assert found.get(b"k") == b"v"


def test_18_checkpoint_holds_every_prior_write_and_outlives_its_source() -> None:
    world = new_world(eagerness=0.5)
    tree = open_tree(world, memtable_bytes=4096, level0_trigger=2)
    expected: dict[bytes, bytes] = {}
    for number in range(200):
        key = b"%03d" % (number % 70)
        expected[key] = b"%d" % number * 10
        tree.put(key, expected[key])
    tree.checkpoint(COPY)
    after = cut(world, "drop")
    for number in range(200):
        tree.put(b"%03d" % (number % 70), b"later")
    tree.compact()
    tree.close()
    for where in (after, cut(world, "drop"), world):
        names = [path for path in where.disk.files() if path.startswith(PATH)]
        for path in names:
            where.disk.unlink(path)
        with LSMTree.open(COPY, where.options(**SMALL), create=False) as copy:
            assert dict(copy.scan()) == expected
            assert copy.verify()
            copy.put(b"own", b"life", sync=True)


def test_18_power_cut_during_a_checkpoint_harms_neither_side() -> None:
    world = new_world()
    tree = open_tree(world, memtable_bytes=2048)
    expected = {}
    for number in range(100):
        expected[b"%03d" % number] = b"v" * 30
        tree.put(b"%03d" % number, expected[b"%03d" % number])
    tree.sync()
    disks = record_cuts(world)
    tree.checkpoint(COPY)
    world.disk.on_call = None
    tree.close()
    whole = 0
    for disk in disks:
        after = type(world)(0, disk=disk)
        assert contents(after) == expected
        if not disk.exists(COPY):
            continue
        try:
            with LSMTree.open(COPY, after.options(**SMALL), create=False) as copy:
                assert dict(copy.scan()) == expected, "an unfinished checkpoint looks finished"
                whole += 1
        except StorageError:
            pass
    assert whole < len(disks)


def test_18_checkpoint_into_a_taken_place_is_refused() -> None:
    world = new_world()
    tree = open_tree(world)
    tree.put(b"k", b"v")
    tree.checkpoint(COPY)
    before = dict(world.disk.files())
    with pytest.raises(StorageError):
        tree.checkpoint(COPY)
    with pytest.raises(StorageError):
        tree.checkpoint(PATH)
    assert world.disk.files() == before
    tree.close()


def test_20_filter_that_drops_under_a_snapshot_leaves_the_snapshot_intact() -> None:
    world = new_world()

    def drop_expired(key: bytes, value: bytes) -> FilterVerdict:
        return FilterVerdict.REMOVE if value.startswith(b"expired") else FilterVerdict.KEEP

    tree = open_tree(world, compaction_filter=drop_expired, automatic_compaction=False)
    tree.put(b"k", b"older")
    tree.put(b"keep", b"1")
    tree.flush()
    tree.put(b"k", b"expired now")
    tree.flush()
    view = tree.snapshot()
    tree.compact()
    assert view.get(b"k") == b"expired now"
    assert dict(view.scan()) == {b"k": b"expired now", b"keep": b"1"}
    view.close()
    tree.compact()
    assert tree.get(b"k") is None, "an older version must not come out"
    assert dict(tree.scan()) == {b"keep": b"1"}
    tree.close()
    assert contents(world) == {b"keep": b"1"}


def test_20_filter_that_raises_stops_its_compaction_and_loses_nothing() -> None:
    world = new_world()
    calls = 0

    def broken(key: bytes, value: bytes) -> FilterVerdict:
        nonlocal calls
        calls += 1
        if calls > 5:
            raise RuntimeError("a bug in the filter")
        return FilterVerdict.KEEP

    expected = {b"%02d" % number: b"v" * 30 for number in range(40)}
    tree = open_tree(world, compaction_filter=broken, automatic_compaction=False)
    for key, value in expected.items():
        tree.put(key, value)
        if key.endswith(b"9"):
            tree.flush()
    before = tables(world.disk)
    with pytest.raises(StorageError) as caught:
        tree.compact()
    assert "a bug in the filter" in f"{caught.value} {caught.value.__cause__}"
    assert dict(tree.scan()) == expected
    assert set(before) <= set(tables(world.disk))
    tree.put(b"more", b"1", sync=True)
    tree.close()
    with open_tree(world) as again:
        again.compact()
        assert dict(again.scan()) == {**expected, b"more": b"1"}


def test_20_raising_filter_in_the_background_does_not_stop_writers() -> None:
    world = new_world()

    def broken(key: bytes, value: bytes) -> FilterVerdict:
        raise RuntimeError("always")

    tree = open_tree(
        world,
        compaction_filter=broken,
        memtable_bytes=1024,
        level0_trigger=1,
        stall_seconds_max=0.5,
    )
    accepted = {}
    for number in range(60):
        tree.put(b"%03d" % number, b"v" * 40)
        accepted[b"%03d" % number] = b"v" * 40
    assert dict(tree.scan()) == accepted
    tree.close()
    assert contents(world) == accepted


def test_18_checkpoint_shares_tables_and_copies_no_log_that_is_still_written() -> None:
    world = new_world()
    tree = open_tree(world)
    for number in range(100):
        tree.put(b"%03d" % number, b"v" * 100)
    tree.flush()
    used = world.disk.used_bytes
    tree.checkpoint(COPY)
    assert world.disk.used_bytes - used < 2_000, "tables were copied, not linked"
    tree.put(b"later", b"1", sync=True)
    tree.close()
    kept = rebuilt(world)
    with LSMTree.open(COPY, kept.options(**SMALL)) as copy:
        assert len(list(copy.scan())) == 100
    assert contents(kept)[b"later"] == b"1"
    assert logs(kept.disk)
