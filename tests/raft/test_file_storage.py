"""The file log on a real disk: opening, refusing, reading back, giving space back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from streambus_raft import (
    Entry,
    EntryKind,
    FileLogStorage,
    HardState,
    LogStorage,
    MemoryLogStorage,
    NodeId,
    SnapshotMeta,
    SnapshotPiece,
    Term,
    Write,
    make_entries,
    new_membership,
)
from streambus_raft.errors import (
    CompactedError,
    ConfigError,
    ForeignStorageError,
    LogDamagedError,
    SnapshotGoneError,
    SnapshotMismatchError,
    StorageError,
    StorageLockedError,
    StorageMissingError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MEMBERS = new_membership([1, 2, 3])


def entries_from(first: int, count: int, size: int = 100) -> list[Entry]:
    return make_entries(
        first, Term(1), EntryKind.COMMAND, [b"%0*d" % (size, n) for n in range(count)]
    )


def put(storage: LogStorage, entries: list[Entry], state: HardState | None = None) -> None:
    storage.write(Write(1, state, (), None, entries, must_sync=True))
    storage.sync()


@pytest.fixture(params=["memory", "file"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LogStorage]:
    made: LogStorage
    if request.param == "memory":
        made = MemoryLogStorage(1)
    else:
        made = FileLogStorage(tmp_path / "log", node_id=1, cache_bytes=3000, segment_bytes=8192)
    yield made
    made.close()


def test_entries_come_back_within_their_byte_limit(storage: LogStorage) -> None:
    for first in range(1, 200, 20):
        put(storage, entries_from(first, 20))
    expected = [entry for first in range(1, 200, 20) for entry in entries_from(first, 20)]
    assert (storage.first_index(), storage.last_index()) == (1, 200)
    assert storage.entries(1, 201, 1 << 30) == expected
    assert storage.entries(15, 17, 1 << 30) == expected[14:16]
    assert storage.entries(150, 201, 1) == expected[149:150]
    assert storage.entries(5, 201, 116 * 60) == expected[4:64]
    assert storage.entries(195, 201, 116 * 3 + 50) == expected[194:197]


def test_indexes_outside_the_log_are_typed_errors(storage: LogStorage) -> None:
    put(storage, entries_from(1, 50))
    storage.save_snapshot(30, MEMBERS, [b"state"])
    storage.compact(20)
    assert storage.first_index() == 21
    assert storage.term(20) == 1
    for call in (lambda: storage.term(19), lambda: storage.entries(20, 22, 100)):
        with pytest.raises(CompactedError):
            call()
    for call in (lambda: storage.term(51), lambda: storage.entries(50, 52, 100)):
        with pytest.raises(UnavailableError):
            call()
    with pytest.raises(StorageError, match="no snapshot covers"):
        storage.compact(40)


def test_a_conflicting_suffix_is_replaced(storage: LogStorage) -> None:
    put(storage, entries_from(1, 30))
    put(storage, make_entries(11, Term(2), EntryKind.NOOP, [b""]))
    assert storage.last_index() == 11
    assert [storage.term(10), storage.term(11)] == [1, 2]
    put(storage, make_entries(12, Term(3), EntryKind.COMMAND, [b"x"] * 3))
    found = storage.entries(9, 15, 1 << 20)
    assert [(entry.index, entry.term) for entry in found] == [
        (9, 1), (10, 1), (11, 2), (12, 3), (13, 3), (14, 3)
    ]  # fmt: skip


def test_a_snapshot_arrives_in_pieces_and_replaces_the_log(storage: LogStorage) -> None:
    put(storage, entries_from(1, 5), HardState(Term(1), NodeId(2), 3))
    source = MemoryLogStorage(9)
    put(source, entries_from(1, 100))
    data = bytes(range(256)) * 1000
    meta = source.save_snapshot(90, MEMBERS, [data])
    for offset in range(0, len(data), 70_000):
        piece = SnapshotPiece(meta, offset, source.read_snapshot(meta, offset, 70_000))
        storage.write(Write(2, None, (piece,), None, [], must_sync=True))
        storage.sync()
    assert storage.state().partial == meta
    assert storage.state().partial_bytes == len(data)
    storage.write(Write(3, None, (), meta, entries_from(91, 2), must_sync=True))
    storage.sync()
    assert storage.snapshot() == meta
    assert (storage.first_index(), storage.last_index()) == (91, 92)
    assert storage.term(90) == 1
    assert storage.read_snapshot(meta, 1000, 5) == data[1000:1005]
    with pytest.raises(SnapshotGoneError):
        storage.read_snapshot(meta._replace(index=50), 0, 10)


def test_a_snapshot_that_does_not_match_its_facts_is_refused(storage: LogStorage) -> None:
    meta = SnapshotMeta(10, Term(1), MEMBERS, 4, 12345)
    piece = SnapshotPiece(meta, 0, b"data")

    def install() -> None:
        storage.write(Write(1, None, (piece,), meta, [], must_sync=True))
        storage.sync()

    with pytest.raises(SnapshotMismatchError):
        install()


def test_an_interrupted_transfer_goes_on_where_it_was(tmp_path: Path) -> None:
    meta = SnapshotMeta(10, Term(1), MEMBERS, 300_000, 0)
    storage = FileLogStorage(tmp_path, node_id=1)
    pieces = (SnapshotPiece(meta, 0, b"a" * 100_000), SnapshotPiece(meta, 100_000, b"b" * 50_000))
    storage.write(Write(1, None, pieces, None, [], must_sync=True))
    storage.sync()
    storage.close()
    with (tmp_path / "incoming.data").open("ab") as file:
        file.write(b"not recorded")  # written, but a crash came before its record
    with FileLog(tmp_path) as again:
        assert again.state().partial == meta
        assert again.state().partial_bytes == 150_000
        rest = SnapshotPiece(meta, 150_000, b"c" * 150_000)
        again.write(Write(1, None, (rest,), None, [], must_sync=True))
        again.sync()
        assert again.state().partial_bytes == 300_000


class FileLog:
    """Opens and surely closes."""

    def __init__(self, path: Path) -> None:
        self.storage = FileLogStorage(path, node_id=1, segment_bytes=8192)

    def __enter__(self) -> FileLogStorage:
        return self.storage

    def __exit__(self, *_: object) -> None:
        self.storage.close()


def test_reopening_finds_everything(tmp_path: Path) -> None:
    with FileLog(tmp_path) as storage:
        put(storage, entries_from(1, 300), HardState(Term(4), NodeId(2), 250))
        identity = storage.state().storage_id
    with FileLog(tmp_path) as storage:
        assert storage.torn is None
        assert storage.state().storage_id == identity
        assert storage.state().hard_state == HardState(Term(4), NodeId(2), 250)
        assert storage.entries(1, 301, 1 << 30) == entries_from(1, 300)


def test_compaction_gives_segments_back(tmp_path: Path) -> None:
    with FileLog(tmp_path) as storage:
        for first in range(1, 1000, 50):
            put(storage, entries_from(first, 50))
        before = len(list(tmp_path.glob("*.seg")))
        storage.save_snapshot(990, MEMBERS, [b"state"])
        storage.compact(980)
        storage.sync()
        assert before > 10
        assert len(list(tmp_path.glob("*.seg"))) <= 2
    with FileLog(tmp_path) as storage:
        assert (storage.first_index(), storage.last_index()) == (981, 1000)


def test_only_the_two_newest_snapshots_are_kept(tmp_path: Path) -> None:
    with FileLog(tmp_path) as storage:
        put(storage, entries_from(1, 100))
        metas = [storage.save_snapshot(index, MEMBERS, [b"s"]) for index in (10, 20, 30, 40)]
        assert len(list(tmp_path.glob("*.meta"))) == 2
        assert storage.read_snapshot(metas[2], 0, 10) == b"s"
        with pytest.raises(SnapshotGoneError):
            storage.read_snapshot(metas[0], 0, 10)


def test_a_torn_tail_is_cut_off_and_reported(tmp_path: Path) -> None:
    with FileLog(tmp_path) as storage:
        put(storage, entries_from(1, 10))
    segment = next(tmp_path.glob("*.seg"))
    size = segment.stat().st_size
    with segment.open("ab") as file:
        file.write(b"\x30\0\0\0 a beginning of a record")
    with FileLog(tmp_path) as storage:
        assert storage.torn is not None
        assert (storage.torn.path, storage.torn.offset) == (str(segment), size)
        assert "cut off" in storage.torn.problem
        assert storage.last_index() == 10
    assert segment.stat().st_size >= size


def test_damage_before_the_last_sync_names_file_and_offset(tmp_path: Path) -> None:
    with FileLog(tmp_path) as storage:
        put(storage, entries_from(1, 10))
        put(storage, entries_from(11, 10))
    segment = next(tmp_path.glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[300] ^= 1
    segment.write_bytes(data)
    with pytest.raises(LogDamagedError) as caught:
        FileLogStorage(tmp_path, node_id=1)
    assert caught.value.path == str(segment)
    assert 0 < caught.value.offset <= 300
    assert segment.read_bytes() == data


def test_a_missing_segment_is_damage(tmp_path: Path) -> None:
    with FileLog(tmp_path) as storage:
        for first in range(1, 400, 50):
            put(storage, entries_from(first, 50))
    segments = sorted(tmp_path.glob("*.seg"))
    segments[1].unlink()
    with pytest.raises(LogDamagedError, match="missing"):
        FileLogStorage(tmp_path, node_id=1)


def test_a_log_that_vanished_beside_its_identity_is_a_loss(tmp_path: Path) -> None:
    with FileLog(tmp_path) as storage:
        put(storage, entries_from(1, 10))
    for segment in tmp_path.glob("*.seg"):
        segment.unlink()
    with FileLog(tmp_path) as storage:
        assert "the log itself is gone" in str(storage.state().loss)
        with pytest.raises(StorageError, match="gone"):
            put(storage, entries_from(1, 1))


def test_a_log_without_its_identity_is_damage(tmp_path: Path) -> None:
    with FileLog(tmp_path) as storage:
        put(storage, entries_from(1, 10))
    (tmp_path / "identity").unlink()
    with pytest.raises(LogDamagedError, match="missing beside a log"):
        FileLogStorage(tmp_path, node_id=1)


def test_the_disk_of_another_node_or_cluster_is_refused(tmp_path: Path) -> None:
    FileLogStorage(tmp_path, node_id=1, cluster="a").close()
    for node_id, cluster in ((2, "a"), (1, "b")):
        with pytest.raises(ForeignStorageError, match="belongs to node 1 of 'a'"):
            FileLogStorage(tmp_path, node_id=node_id, cluster=cluster)


def test_an_emptied_disk_is_refused_where_none_is_to_be_created(tmp_path: Path) -> None:
    FileLogStorage(tmp_path / "log", node_id=1).close()
    shutil.rmtree(tmp_path / "log")
    with pytest.raises(StorageMissingError):
        FileLogStorage(tmp_path / "log", node_id=1, create=False)


def test_a_new_disk_has_another_identity(tmp_path: Path) -> None:
    found = set()
    for name in "ab":
        storage = FileLogStorage(tmp_path / name, node_id=1)
        found.add(storage.state().storage_id)
        storage.close()
    assert len(found) == 2


def test_a_second_opener_is_kept_out(tmp_path: Path) -> None:
    with FileLog(tmp_path), pytest.raises(StorageLockedError):
        FileLogStorage(tmp_path, node_id=1)
    with FileLog(tmp_path):
        pass


def test_a_closed_storage_refuses(tmp_path: Path) -> None:
    with FileLog(tmp_path) as storage:
        pass
    storage.close()
    with pytest.raises(StorageError, match="closed"):
        put(storage, entries_from(1, 1))


@pytest.mark.parametrize("arguments", [{"segment_bytes": 100}, {"cache_bytes": -1}, {"node_id": 0}])
def test_arguments_out_of_range_are_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        FileLogStorage(tmp_path, **{"node_id": 1, **arguments})  # type: ignore[arg-type]  # on purpose


def test_an_unknown_format_version_is_refused(tmp_path: Path) -> None:
    FileLogStorage(tmp_path, node_id=1).close()
    identity = tmp_path / "identity"
    data = bytearray(identity.read_bytes())
    data[8] = 9
    identity.write_bytes(data)
    with pytest.raises(LogDamagedError, match="version 9 is unknown"):
        FileLogStorage(tmp_path, node_id=1)
