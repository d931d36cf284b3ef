"""Ingesting: a bulk load that goes straight into tables, without log and memtable.

The tables are built first, while everybody goes on writing. Then, with writers held off, the
memtables are flushed (what was written before must lie below the load), the tables get their
numbers, and one edit of the manifest makes them all visible and durable.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from streambus_storage._compaction_choice import place
from streambus_storage._errors_io import translate
from streambus_storage._jobs import SLICE_KEYS
from streambus_storage._keys import as_key, as_value
from streambus_storage._levels import VersionEdit
from streambus_storage._names import TEMPORARY
from streambus_storage._pacer import Pacer
from streambus_storage._table_builder import TableBuilder
from streambus_storage._view import TreeState
from streambus_storage.errors import InvalidArgumentError, InvalidTypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streambus_storage._filesystem import Buffer
    from streambus_storage._flush import Flusher
    from streambus_storage._levels import TableMeta, Version
    from streambus_storage._store import Store
    from streambus_storage._writing import Writer


def _slices(
    items: Iterable[tuple[Buffer, Buffer]],
) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
    """Check the items and gather them.

    Raises:
        InvalidTypeError: An item is no pair, or key or value are not bytes-like.
        InvalidArgumentError: A key is not greater than the one before.
    """
    keys: list[bytes] = []
    values: list[bytes | None] = []
    newest: bytes | None = None
    for item in items:
        try:
            raw_key, raw_value = item
        except (TypeError, ValueError) as exc:
            raise InvalidTypeError(f"an item must be a pair of key and value: {exc}") from exc
        key = as_key(raw_key)
        if newest is not None and key <= newest:
            raise InvalidArgumentError(f"keys must ascend: {key!r} comes after {newest!r}")
        newest = key
        keys.append(key)
        values.append(as_value(raw_value))
        if len(keys) >= SLICE_KEYS:
            yield keys, values
            keys, values = [], []
    if keys:
        yield keys, values


def ingest(
    store: Store, writer: Writer, flusher: Flusher, items: Iterable[tuple[Buffer, Buffer]]
) -> int:
    """See `LSMTree.ingest`."""
    store.check_writable()
    fs = store.file_system
    paths: dict[int, str] = {}

    def temporary_path() -> tuple[int, str]:
        number, path = store.new_table_path()
        paths[number] = path + TEMPORARY
        return number, paths[number]

    pacer = Pacer(
        store.scheduler, store.options.slice_seconds, None, lambda: store.closing, store.is_urgent
    )
    builder = TableBuilder(fs, store.options, temporary_path, 0, pacer.tick)
    try:
        with translate(store.directory, "ingest"):
            for keys, values in _slices(items):
                builder.add(keys, values)
            built = builder.finish()
        if not built:
            return store.last_sequence
        return _install(store, writer, flusher, built, paths)
    except BaseException:
        if store.failure is None:
            builder.abandon()
        raise


def _install(
    store: Store,
    writer: Writer,
    flusher: Flusher,
    built: list[TableMeta],
    paths: dict[int, str],
) -> int:
    """Make the tables visible, above everything that was written before.

    Writers are held off by a closed door (`Store.hold_writers`), not by the write lock: the
    flush needs that.
    """
    fs = store.file_system
    final: list[str] = []
    with store.hold_writers():
        newest = writer.rotate(force=True)
        if newest is not None:
            flusher.wait(newest)
        try:
            with translate(store.directory, "ingest"):
                renamed: list[TableMeta] = []
                for meta in built:
                    number, path = store.new_table_path()
                    fs.rename(paths[meta.number], path)
                    final.append(path)
                    renamed.append(replace(meta, number=number))
                fs.sync_directory(store.directory)
            sequence = store.last_sequence + 1

            def edit(version: Version) -> VersionEdit:
                busy = store.compacting
                hull = (busy.lower, busy.upper) if busy is not None else None
                added = [(place(version, m, hull), replace(m, clean=sequence)) for m in renamed]
                return VersionEdit(added=added, sequence=sequence)

            store.install(edit)
        except BaseException:
            if store.failure is None:
                for path in final:
                    with contextlib.suppress(OSError):
                        fs.unlink(path)
            raise
        with store.write_lock:
            store.last_sequence = sequence
            state = store.present()
            fresh = store.new_memtable(state.active.segment, sequence + 1)
            store.state = TreeState(fresh, state.frozen, state.tables)
            store.target = store.target[0], fresh
    store.commit.advance(sequence, lambda: None)
    return sequence
