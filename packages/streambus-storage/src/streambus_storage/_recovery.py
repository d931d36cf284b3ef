"""Opening a directory: from what lies there to a `Store`, or a typed error.

Order of an opening for writing:

1. Lock. Read CURRENT and the manifest; read the log back (`_wal_reader`).
2. Sync every replayed segment that was not sealed, before anything read from it is served: a
   reader may act on what it saw (KAFKA-10101).
3. Create a new segment; write a new manifest that seals the old segments at their valid ends
   and leaves out the torn ones; switch to it.
4. Remove the files that belong to nothing.

A crash at any step leaves the old manifest or the new one valid, and both describe the same
data. Opening read-only does step 1 without the lock, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from streambus_storage._directories import make_durable_directory
from streambus_storage._errors_io import translate
from streambus_storage._manifest import Manifest, load, read_whole
from streambus_storage._manifest_format import ManifestState, Segment
from streambus_storage._names import (
    LOCK,
    Listing,
    manifest_path,
    segment_path,
    sort_names,
    table_path,
)
from streambus_storage._reserve import Reserve
from streambus_storage._store import Store
from streambus_storage._wal_format import WAL_HEADER_BYTES, WalRecord, decode_record, wal_seed
from streambus_storage._wal_reader import RecoveryReport, Replayed, replay
from streambus_storage._wal_writer import SegmentWriter
from streambus_storage.errors import (
    CorruptionError,
    DiskFullError,
    LockedError,
    NotATreeError,
    StorageIOError,
)

if TYPE_CHECKING:
    from streambus_storage._filesystem import FileLock, FileSystem
    from streambus_storage._options import Options

READ_ONLY_ATTEMPTS = 5
"""A reader without the lock may see files go while it opens; it starts again so many times."""


class Opened(NamedTuple):
    """A tree that was opened.

    Attributes:
        store: Its state.
        report: What recovery found.
        lock: Held until the tree is closed; None: read-only.
    """

    store: Store
    report: RecoveryReport
    lock: FileLock | None


def open_store(path: str, options: Options, *, create: bool, read_only: bool) -> Opened:
    """Open the tree in a directory.

    Raises:
        NotATreeError: There is none, and it is not to be created or something else is there.
        LockedError: It is open for writing already.
        CorruptionError: A file is damaged or missing.
        FormatVersionError: A file is of a later format.
        StorageIOError, DiskFullError: The system refused.
    """
    fs = options.file_system
    if read_only:
        return _open_read_only(path, options)
    if not fs.exists(path):
        if not create:
            raise NotATreeError(path, "there is no such directory")
        with translate(path, "create"):
            make_durable_directory(fs, path)
    with translate(path, "list"):
        listing = sort_names(fs.list_directory(path))
    if not listing.has_current:
        _check_fresh(fs, path, listing, create=create)
    lock_path = os.path.join(path, LOCK)
    try:
        with translate(lock_path, "lock"):
            lock = fs.lock(lock_path)
    except StorageIOError as exc:
        if isinstance(exc.__cause__, BlockingIOError):
            raise LockedError(lock_path) from exc
        raise
    try:
        reserve = Reserve(fs, path, options.reserve_bytes, held=listing.has_reserve)
        try:
            return _open_locked(path, options, lock, reserve, create=create)
        except DiskFullError:
            if not reserve.spend():
                raise
            return _open_locked(path, options, lock, reserve, create=create)
    except BaseException:
        lock.release()
        raise


def _check_fresh(fs: FileSystem, path: str, listing: Listing, *, create: bool) -> None:
    """Decide whether a directory without CURRENT may become a tree.

    What an interrupted creation leaves is fine. Tables or log records without CURRENT are a
    damaged tree, and other files somebody else's.
    """
    if listing.foreign:
        raise NotATreeError(path, f"it holds other files, such as {listing.foreign[0]!r}")
    if listing.tables:
        raise CorruptionError(path, 0, "there are tables, but no CURRENT")
    for number in listing.segments:
        if _has_records(fs, path, number):
            raise CorruptionError(path, 0, "there are log records, but no CURRENT")
    if not create:
        raise NotATreeError(path, "it holds no CURRENT")


def _has_records(fs: FileSystem, path: str, number: int) -> bool:
    data = read_whole(fs, segment_path(path, number))
    if len(data) < WAL_HEADER_BYTES:
        return False
    return isinstance(decode_record(data, WAL_HEADER_BYTES, wal_seed(data)), WalRecord)


def _open_read_only(path: str, options: Options) -> Opened:
    fs = options.file_system
    attempts_left = READ_ONLY_ATTEMPTS
    while True:
        attempts_left -= 1
        try:
            with translate(path, "list"):
                if not fs.exists(path):
                    raise NotATreeError(path, "there is no such directory")
                listing = sort_names(fs.list_directory(path))
            if not listing.has_current:
                raise NotATreeError(path, "it holds no CURRENT")
            state, _ = load(fs, path)
            report = RecoveryReport()
            replayed = _replay(fs, path, state, report)
            none = Reserve(fs, path, 0, held=False)
            store = Store(path, options, state, replayed, None, None, none)
            for table in store.present().tables.by_number.values():
                table.hold()
        except (CorruptionError, StorageIOError):
            # A writer may have replaced what was being read. The last attempt tells the truth.
            if not attempts_left:
                raise
        else:
            return Opened(store, report, None)


def _replay(fs: FileSystem, path: str, state: ManifestState, report: RecoveryReport) -> Replayed:
    segments = [state.segments[number] for number in sorted(state.segments)]
    return replay(fs, path, segments, state.version.sequence, report)


def _open_locked(
    path: str, options: Options, lock: FileLock, reserve: Reserve, *, create: bool
) -> Opened:
    fs = options.file_system
    with translate(path, "list"):
        listing = sort_names(fs.list_directory(path))
    if not listing.has_current:
        _check_fresh(fs, path, listing, create=create)
        state, number = ManifestState(), 0
    else:
        state, number = load(fs, path)
    state.next_segment = max(state.next_segment, 1)
    _check_unknown_segments(fs, path, listing, state)
    report = RecoveryReport()
    replayed = _replay(fs, path, state, report)
    missing = [
        table.number for _, table in state.version.tables() if table.number not in listing.tables
    ]
    if missing:
        raise CorruptionError(table_path(path, missing[0]), 0, "a table is missing")
    with translate(path, "recover"):
        for segment, end in replayed.ends.items():
            if state.segments[segment].sealed is None:
                _sync_segment(fs, path, segment)
                state.segments[segment].sealed = end
        useful = {memtable.segment for memtable in replayed.memtables}
        for segment in list(state.segments):
            if segment not in useful:
                del state.segments[segment]
        state.next_segment = max([state.next_segment - 1, *listing.segments]) + 1
        state.next_table = max([state.next_table - 1, *listing.tables]) + 1
        active = SegmentWriter.create(options, path, state.next_segment)
        state.next_segment += 1
        state.segments[active.number] = Segment(active.number)
        try:
            manifest = Manifest(fs, path, max([number, *listing.manifests]) + 1, state)
        except BaseException:
            active.file.close()
            raise
    _remove_orphans(fs, path, listing, state, manifest.number, report)
    if not reserve.bytes:
        reserve.spend()
    store = Store(path, options, state, replayed, manifest, active, reserve)
    return Opened(store, report, lock)


def _check_unknown_segments(
    fs: FileSystem, path: str, listing: Listing, state: ManifestState
) -> None:
    """A segment that the manifest never heard of holds no records: else edits were lost."""
    for number in listing.segments:
        if number >= state.next_segment and _has_records(fs, path, number):
            raise CorruptionError(
                segment_path(path, number), WAL_HEADER_BYTES, "the manifest does not know this log"
            )


def _sync_segment(fs: FileSystem, path: str, number: int) -> None:
    file = fs.open_append(segment_path(path, number))
    try:
        file.sync()
    finally:
        file.close()


def _remove_orphans(
    fs: FileSystem,
    path: str,
    listing: Listing,
    state: ManifestState,
    manifest: int,
    report: RecoveryReport,
) -> None:
    """Remove files that belong to nothing. What cannot be removed waits for the next open."""
    tables = {table.number for _, table in state.version.tables()}
    orphans = [
        *(table_path(path, number) for number in listing.tables if number not in tables),
        *(segment_path(path, n) for n in listing.segments if n not in state.segments),
        *(manifest_path(path, n) for n in listing.manifests if n != manifest),
        *(os.path.join(path, name) for name in listing.temporary),
    ]
    for orphan in orphans:
        with contextlib.suppress(OSError):
            fs.unlink(orphan)
            report.removed.append(os.path.basename(orphan))
