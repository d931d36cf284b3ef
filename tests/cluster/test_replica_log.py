"""A replica's log on a real tree: what counts as durable after records were dropped from it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from streambus_broker.cluster.replica_log import ReplicaLog
from streambus_broker.config.topics import TopicSettings
from streambus_broker.log.partition import PartitionLog
from streambus_broker.log.store import LogStore
from streambus_protocol import read_batch_header as header_at
from streambus_storage import LSMTree, Options, StorageError
from streambus_storage.testing import SimulatedClock, SimulatedFileSystem, SimulatedScheduler
from tests.cluster.batches import batch_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[ReplicaLog]:
    with LSMTree.open(str(tmp_path / "data")) as tree:
        log = PartitionLog("t", 0, 1, TopicSettings(), leads=False)
        yield ReplicaLog(log, LogStore(tree, str(tmp_path), 1 << 20))


def follow(replica: ReplicaLog, offsets: range, leader_epoch: int) -> None:
    for offset in offsets:
        replica.follow(batch_of(b"%d" % offset, base_offset=offset, leader_epoch=leader_epoch))


def test_what_was_written_counts_once_it_is_synced(replica: ReplicaLog) -> None:
    follow(replica, range(10), 1)
    written = replica.written()
    follow(replica, range(10, 15), 1)
    assert replica.synced(written)
    assert replica.durable == 10


def test_a_sync_says_nothing_of_what_came_in_the_place_of_dropped_records(
    replica: ReplicaLog,
) -> None:
    """It was under way when a new leader had the follower go back, and sent others at once."""
    follow(replica, range(10), 1)
    before = replica.written()
    replica.truncate(6)
    follow(replica, range(6, 12), 2)
    assert not replica.synced(before)
    assert replica.durable == 0
    after = replica.written()
    assert replica.synced(after)
    assert replica.durable == 12


def test_nor_after_starting_over(replica: ReplicaLog) -> None:
    follow(replica, range(10), 1)
    before = replica.written()
    replica.start_over(8)
    follow(replica, range(8, 12), 1)
    assert not replica.synced(before)
    assert replica.durable == 0


@pytest.mark.parametrize("starts_over", [False, True])
def test_what_cannot_be_dropped_keeps_the_epochs_that_tell_of_it(starts_over: bool) -> None:
    disk = SimulatedFileSystem()
    scheduler = SimulatedScheduler(1, clock=SimulatedClock())
    options = Options(file_system=disk, scheduler=scheduler, reserve_bytes=0)
    with LSMTree.open("/data", options) as tree:
        log = PartitionLog("t", 0, 1, TopicSettings(), leads=False)
        replica = ReplicaLog(log, LogStore(tree, "/data", 1 << 20))
        follow(replica, range(5), 1)
        follow(replica, range(5, 8), 2)
        before = replica.epochs.encode()
        disk.fail("append", times=None, error=errno.ENOSPC)
        with pytest.raises(StorageError):
            if starts_over:
                replica.start_over(9)
            else:
                replica.truncate(3)
        assert (replica.epochs.encode(), log.next_offset) == (before, 8)
        disk.heal()
        assert replica.truncate(3) == 3
        assert replica.epochs.latest == 1


def by_producer(sequence: int, base_offset: int, leader_epoch: int = 1) -> bytes:
    """A batch of one record, in blocks of its own."""
    return batch_of(
        b"%d" % sequence + b"." * 5_000, producer=(7, 0, sequence), base_offset=base_offset,
        leader_epoch=leader_epoch,
    )  # fmt: skip


def test_producers_that_cannot_be_read_after_a_truncation_are_learnt_later() -> None:
    """Wherever the reading fails: nothing was dropped, or nothing is forgotten."""
    refused = dropped = nth = 0
    while True:
        nth += 1
        disk = SimulatedFileSystem()
        scheduler = SimulatedScheduler(1, clock=SimulatedClock())
        options = Options(file_system=disk, scheduler=scheduler, cache_bytes=0)
        with LSMTree.open("/data", options) as tree:
            log = PartitionLog("t", 0, 1, TopicSettings(), leads=False)
            replica = ReplicaLog(log, LogStore(tree, "/data", 0))
            for sequence in range(6):
                replica.follow(by_producer(sequence, sequence))
            tree.flush()
            fault = disk.fail("read", nth, times=None)
            try:
                replica.truncate(4)
            except StorageError:
                refused += 1
                assert (log.next_offset, replica.knows_producers) == (6, True)
                assert replica.producers.last_offset == 5
                continue
            if not fault.hits:
                break
            dropped += 1
            assert (log.next_offset, replica.knows_producers) == (4, False)
            replica.checkpoint_if_moved()
            with pytest.raises(StorageError):
                replica.follow(by_producer(4, 4, leader_epoch=2))
            with pytest.raises(StorageError):
                replica.learn_producers()
            assert (log.next_offset, replica.epochs.latest) == (4, 1)
            disk.heal()
            again = ReplicaLog(PartitionLog("t", 0, 1, TopicSettings(), leads=False), replica.store)
            again.recover()  # as after a restart
            assert again.producers.last_offset == 3
            replica.follow(by_producer(4, 4, leader_epoch=2))
            assert replica.knows_producers
            for sequence in range(5):
                known = replica.producers.check(header_at(by_producer(sequence, 0)))
                assert known is not None, "a retry is recognised"
                assert known.base_offset == sequence
            assert replica.producers.check(header_at(by_producer(5, 0))) is None
    assert refused
    assert dropped


@pytest.mark.parametrize(("marked", "cut", "read"), [(40, 45, 5), (45, 45, 0), (40, 30, 30)])
def test_what_is_noted_of_producers_before_a_cut_is_not_read_again(
    replica: ReplicaLog, marked: int, cut: int, read: int
) -> None:
    """A log has gigabytes, and the event loop waits while it is read."""
    for sequence in range(marked):
        replica.follow(by_producer(sequence, sequence))
    replica.checkpoint()
    for sequence in range(marked, 50):
        replica.follow(by_producer(sequence, sequence))
    seen = _headers_read(replica)
    assert replica.truncate(cut) == cut
    assert len(seen) == read
    assert replica.producers.last_offset == cut - 1
    replica.checkpoint_if_moved()
    again = ReplicaLog(PartitionLog("t", 0, 1, TopicSettings(), leads=False), replica.store)
    again.recover()
    assert again.producers.encode(0) == replica.producers.encode(0)
    assert len(seen) == read
    replica.start_over(80)
    replica.follow(by_producer(0, 80, leader_epoch=2))
    assert replica.producers.last_offset == 80


def _headers_read(replica: ReplicaLog) -> list[bytes]:
    """Note each batch that is gone through from now on, in the order of the log."""
    seen: list[bytes] = []
    tree = replica.store.tree
    scan = tree.scan

    def noting(*bounds: Any, reverse: bool = False, **options: Any) -> Iterator[Any]:
        for key, value in scan(*bounds, reverse=reverse, **options):
            if not reverse:
                seen.append(bytes(key))
            yield key, value

    tree.scan = noting  # type: ignore[method-assign,assignment]  # of this one tree
    return seen
