"""The file log loses power at every single call to the disk, and keeps what was promised."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import pytest
from xxhash import xxh3_64_intdigest

from streambus_raft import (
    EMPTY_SNAPSHOT,
    Entry,
    EntryKind,
    FileLogStorage,
    HardState,
    NodeId,
    SnapshotMeta,
    SnapshotPiece,
    Term,
    Write,
    bootstrap_snapshot,
    make_entries,
    new_membership,
)
from streambus_raft._snapshot_files import CHECKSUM_MASK
from streambus_raft.errors import LogDamagedError, StorageFailedError
from streambus_raft.testing import PowerCut, SimulatedFileSystem

MEMBERS = new_membership([1, 2, 3])
SEGMENT_BYTES = 4096


class Log(NamedTuple):
    """What the log holds at one moment."""

    hard_state: HardState
    start: tuple[int, int]
    entries: tuple[Entry, ...]


class Workload:
    """Random operations on a storage, and the history of what it should hold."""

    def __init__(self, seed: int, files: SimulatedFileSystem) -> None:
        self.random = Random(seed)
        self.files = files
        self.logs = [Log(HardState(), (0, 0), ())]
        self.log_floor = 0
        self.snapshots = [EMPTY_SNAPSHOT]
        self.snapshot_floor = 0
        self.contents: dict[tuple[int, int], bytes] = {}
        self.sequence = 0
        self.storage: FileLogStorage | None = None

    def open(self) -> FileLogStorage:
        self.storage = FileLogStorage(
            "/log", node_id=1, segment_bytes=SEGMENT_BYTES, cache_bytes=2000, files=self.files
        )
        return self.storage

    def run(self, steps: int) -> None:
        storage = self.open()
        self.write(storage, None, bootstrap_snapshot(MEMBERS), b"", [])
        self.sync(storage)
        actions = [self.append] * 8 + [self.sync] * 5
        actions += [self.conflict, self.save, self.compact, self.install, self.vote]
        for _ in range(steps):
            self.random.choice(actions)(storage)
        storage.close()
        self.log_floor = len(self.logs) - 1

    @property
    def log(self) -> Log:
        return self.logs[-1]

    @property
    def last(self) -> int:
        return self.log.start[0] + len(self.log.entries)

    def note(self, **changes: object) -> None:
        self.logs.append(self.log._replace(**changes))  # type: ignore[arg-type]  # field by field

    def write(
        self,
        storage: FileLogStorage,
        hard_state: HardState | None,
        snapshot: SnapshotMeta | None,
        data: bytes,
        entries: list[Entry],
    ) -> None:
        self.sequence += 1
        pieces: tuple[SnapshotPiece, ...] = ()
        if snapshot is not None:
            half = len(data) // 2
            pieces = (
                SnapshotPiece(snapshot, 0, data[:half]),
                SnapshotPiece(snapshot, half, data[half:]),
            )
        if hard_state is not None:
            self.note(hard_state=hard_state)
        if snapshot is not None:
            self.contents[snapshot[:2]] = data
            self.snapshots.append(snapshot)
            self.note(start=(snapshot.index, snapshot.term), entries=())
        if entries:
            kept = self.log.entries[: entries[0].index - self.log.start[0] - 1]
            self.note(entries=(*kept, *entries))
        storage.write(Write(self.sequence, hard_state, pieces, snapshot, entries, must_sync=True))

    def make(self, first: int, term: int) -> list[Entry]:
        count = self.random.randint(1, 8)
        sizes = [self.random.choice([5, 400]) for _ in range(count)]
        payloads = [self.random.randbytes(size) for size in sizes]
        return make_entries(first, Term(term), EntryKind.COMMAND, payloads)

    def append(self, storage: FileLogStorage) -> None:
        term = max(self.log.hard_state.term, 1)
        self.write(storage, None, None, b"", self.make(self.last + 1, term))

    def conflict(self, storage: FileLogStorage) -> None:
        uncommitted = [e for e in self.log.entries if e.index > storage.snapshot().index]
        if uncommitted:
            first = self.random.choice(uncommitted).index
            state = HardState(Term(self.log.hard_state.term + 1), NodeId(2), 0)
            self.write(storage, state, None, b"", self.make(first, state.term))

    def vote(self, storage: FileLogStorage) -> None:
        state = HardState(Term(self.log.hard_state.term + 1), NodeId(1), 0)
        self.write(storage, state, None, b"", [])

    def sync(self, storage: FileLogStorage) -> None:
        log_floor, snapshot_floor = len(self.logs) - 1, len(self.snapshots) - 1
        storage.sync()
        self.log_floor, self.snapshot_floor = log_floor, snapshot_floor

    def save(self, storage: FileLogStorage) -> None:
        self.sync(storage)
        later = [e for e in self.log.entries if e.index > storage.snapshot().index]
        if not later:
            return
        entry = self.random.choice(later)
        data = self.random.randbytes(self.random.choice([0, 10, 70_000]))
        checksum = xxh3_64_intdigest(data) & CHECKSUM_MASK
        meta = SnapshotMeta(entry.index, entry.term, MEMBERS, len(data), checksum)
        self.contents[meta[:2]] = data
        self.snapshots.append(meta)
        assert storage.save_snapshot(entry.index, MEMBERS, [data[:7], data[7:]]) == meta
        self.snapshot_floor = len(self.snapshots) - 1

    def compact(self, storage: FileLogStorage) -> None:
        index = storage.snapshot().index - self.random.choice([0, 0, 3])
        if index > self.log.start[0]:
            keep = index - self.log.start[0]
            term = self.log.entries[keep - 1].term
            self.note(start=(index, term), entries=self.log.entries[keep:])
            storage.compact(index)

    def install(self, storage: FileLogStorage) -> None:
        index = self.last + self.random.randint(1, 5)
        term = Term(self.log.hard_state.term + 1)
        data = self.random.randbytes(100_000)
        meta = SnapshotMeta(
            index, term, MEMBERS, len(data), xxh3_64_intdigest(data) & CHECKSUM_MASK
        )
        self.write(storage, HardState(term, NodeId(0), 0), meta, data, [])

    def check(self) -> None:
        """Reopen after a crash: the storage holds what was promised, and nothing that never was."""
        storage = self.open()
        snapshot = storage.snapshot()
        found = read_log(storage)
        assert found in self.logs[self.log_floor :]
        assert snapshot in self.snapshots[self.snapshot_floor :]
        assert snapshot.index >= found.start[0]
        data = b"".join(
            storage.read_snapshot(snapshot, offset, 30_000)
            for offset in range(0, snapshot.size_bytes, 30_000)
        )
        assert data == self.contents.get(snapshot[:2], b"")
        first = storage.last_index() + 1  # it goes on as if nothing had happened
        more = [Entry(first, Term(99), EntryKind.COMMAND, b"more")]
        storage.write(Write(1, None, (), None, more, must_sync=True))
        storage.close()
        storage = self.open()
        assert read_log(storage).entries == (*found.entries, *more)
        assert storage.torn is None
        storage.close()


def read_log(storage: FileLogStorage) -> Log:
    first, last = storage.first_index(), storage.last_index()
    start = (first - 1, storage.term(first - 1))
    entries: list[Entry] = []
    while first <= last:
        part = storage.entries(first, last + 1, 700)
        entries += part
        first += len(part)
    assert [storage.term(entry.index) for entry in entries] == [entry.term for entry in entries]
    return Log(storage.state().hard_state, start, tuple(entries))


@pytest.mark.parametrize("seed", range(3))
def test_power_cut_at_every_call_keeps_what_was_synced(seed: int) -> None:
    undisturbed = SimulatedFileSystem(Random(seed))
    Workload(seed, undisturbed).run(60)
    assert undisturbed.calls > 100
    for cut_at in range(1, undisturbed.calls + 1):
        files = SimulatedFileSystem(Random(seed * 1_000_003 + cut_at))
        files.cut_at = cut_at
        workload = Workload(seed, files)
        with pytest.raises(PowerCut):
            workload.run(60)
        files.power_cut()
        try:
            workload.check()
        except BaseException as exc:
            exc.add_note(f"seed {seed}, power cut at call {cut_at}")
            raise


def test_power_cut_during_recovery_changes_nothing() -> None:
    seed = 11
    total = SimulatedFileSystem(Random(seed))
    Workload(seed, total).run(40)
    for cut_at in range(total.calls // 2, total.calls, 7):
        for second_cut in range(1, 12):
            files = SimulatedFileSystem(Random(cut_at * 101 + second_cut))
            files.cut_at = cut_at
            workload = Workload(seed, files)
            with pytest.raises(PowerCut):
                workload.run(40)
            files.power_cut()
            files.cut_at = files.calls + second_cut
            try:
                storage = workload.open()
                storage.close()
            except PowerCut:
                files.power_cut()
            else:
                files.process_crash()
                files.cut_at = None
            workload.check()


@pytest.mark.parametrize("seed", range(2))
def test_failed_call_is_final_and_harmless(seed: int) -> None:
    undisturbed = SimulatedFileSystem(Random(seed))
    Workload(seed, undisturbed).run(40)
    for fail_at in range(1, undisturbed.calls + 1):
        files = SimulatedFileSystem(Random(seed * 7919 + fail_at))
        files.fail_at = fail_at
        workload = Workload(seed, files)
        try:
            workload.run(40)
        except StorageFailedError:
            storage = workload.storage
            if storage is not None and storage._failure is not None:
                with pytest.raises(StorageFailedError):
                    storage.sync()
                with pytest.raises(StorageFailedError):
                    storage.write(Write(1, HardState(), (), None, [], must_sync=True))
        files.fail_at = None
        files.power_cut()
        try:
            workload.check()
        except BaseException as exc:
            exc.add_note(f"seed {seed}, failure at call {fail_at}")
            raise


def test_failed_sync_is_never_retried() -> None:
    files = SimulatedFileSystem(Random(1))
    storage = FileLogStorage("/log", node_id=1, files=files)
    entry = Entry(1, Term(1), EntryKind.COMMAND, b"x")
    storage.write(Write(1, HardState(Term(1)), (), None, [entry], must_sync=True))
    files.fail_syncs = True
    with pytest.raises(StorageFailedError, match="/log"):
        storage.sync()
    files.fail_syncs = False
    synced = files.sync_count
    with pytest.raises(StorageFailedError):
        storage.sync()
    assert files.sync_count == synced
    storage.close()


def test_every_flipped_bit_of_synced_bytes_is_noticed() -> None:
    files = SimulatedFileSystem(Random(5))
    workload = Workload(5, files)
    workload.run(25)
    good = {path: bytes(inode.data) for path, inode in files._names.items() if inode.data}
    storage = workload.open()
    expected, snapshot = read_log(storage), storage.snapshot()
    storage.close()
    files.process_crash()
    noticed = 0
    for path, data in good.items():
        step = max(1, len(data) // 150)
        for position in range(0, len(data), step):
            for other, content in good.items():
                files._names[other].data[:] = content
            files.flip_bit(path, position, bit=position % 8)
            try:
                storage = workload.open()
                try:
                    assert read_log(storage) == expected
                    assert storage.snapshot() == snapshot
                    size = snapshot.size_bytes
                    assert len(storage.read_snapshot(snapshot, 0, size + 1)) == size
                finally:
                    storage.close()
            except LogDamagedError as exc:
                noticed += f"{exc.path} is damaged at byte {exc.offset}" in str(exc)
            files.process_crash()
    assert noticed > 300
