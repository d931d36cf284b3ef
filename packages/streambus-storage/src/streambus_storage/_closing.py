"""How a tree ends: orderly, or in a forked child, whose copy of it must leave everything alone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from streambus_storage._errors_io import translate
from streambus_storage._manifest_format import ManifestEdit, Segment

if TYPE_CHECKING:
    from streambus_storage._filesystem import FileLock
    from streambus_storage._store import Store


def seal(store: Store) -> None:
    """Sync the log, and note in the manifest how long it is: nothing may be missing later.

    Nothing is done for a tree that has failed: what its files hold, the next opening finds out.

    Raises:
        TreeFailedError: The sync failed.
        StorageIOError: The manifest could not be written.
    """
    if store.failure is not None:
        return
    with store.write_lock:  # from here on nothing is appended: what is synced is all
        segment, store.segment = store.segment, None
        assert segment is not None
        store.unsynced.append(segment)
    store.commit.wait(store.last_sequence)
    sealed = [Segment(writer.number, writer.synced_size) for writer in store.unsynced]
    with store.manifest_lock, translate(store.directory, "close"):
        manifest = store.manifest
        assert manifest is not None
        try:
            manifest.append(ManifestEdit(segments=sealed))
        except OSError:
            if not store.spend_reserve():
                raise
            manifest.append(ManifestEdit(segments=sealed))
        manifest.sync()


def release_files(store: Store, lock: FileLock | None) -> None:
    """Close every handle of this process; ``lock``: None if the tree was opened read-only."""
    with store.write_lock:
        store.closing = True
        store.state = None
        store.gate = True
        writers = [*store.unsynced, store.segment, store.prepared]
        store.unsynced, store.segment, store.prepared = [], None, None
    for writer in writers:
        if writer is not None:
            with contextlib.suppress(OSError):  # the room goes with the segment, then
                writer.file.reserve(0)
            writer.file.close()
    if store.manifest is not None:
        store.manifest.close()
    store.remove_unwanted()
    if lock is not None:
        lock.release()
    store.scheduler.notify()


def abandon(store: Store, lock: FileLock) -> None:  # pragma: no cover - in a forked child
    """Close every handle in a forked child: no lock is taken, nothing is written."""
    store.abandon_in_child()
    store.closing = True
    store.state = None
    store.gate = True
    for writer in filter(None, [*store.unsynced, store.segment, store.prepared]):
        writer.file.close()
    store.segment = None
    assert store.manifest is not None, "only trees that are open for writing are watched"
    store.manifest.close()
    lock.abandon()
