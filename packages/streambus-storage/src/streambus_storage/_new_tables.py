"""New tables for the tree: made here or by a helper, durable, and gone again after a failure."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from streambus_storage._errors_io import translated
from streambus_storage._names import table_path
from streambus_storage._table_builder import TableBuilder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streambus_storage._jobs import Job
    from streambus_storage._levels import TableMeta
    from streambus_storage._pacer import Pacer
    from streambus_storage._store import Store
    from streambus_storage._worker_process import Helper


@contextlib.contextmanager
def new_tables(
    store: Store,
    operation: str,
    *,
    pacer: Pacer,
    clean: int,
    write: Callable[[TableBuilder, Callable[[int], None]], None],
    helper: Helper,
    job: Job | None,
) -> Iterator[list[TableMeta]]:
    """Make tables and yield them; within the block they are installed.

    Args:
        store: Of the tree.
        operation: For an error: flush or compaction.
        pacer: Says when the work is to end without a result, and slows it.
        clean: Of the new tables.
        write: Hands the entries to a builder, here.
        helper: Is asked first, if there is a job for it.
        job: The same work for the helper; None: it is done here.

    Raises:
        StorageError: It failed. No table is left, unless the manifest may name them.
        Cancelled: As the pacer said; no table is left.
    """
    tables: list[TableMeta] = []
    try:
        try:
            found = helper.run(job, pacer.cancelled) if job is not None else None
            tables = _make_here(store, pacer, clean, write) if found is None else found
            if tables:
                store.file_system.sync_directory(store.directory)
        except OSError as exc:
            raise translated(exc.filename or store.directory, operation, exc) from exc
        yield tables
    except BaseException:
        # After a failed manifest sync the edit may be on the disk: keep the tables then.
        if store.failure is None:
            for table in tables:
                with contextlib.suppress(OSError):  # the next open removes it
                    store.file_system.unlink(table_path(store.directory, table.number))
        raise


def _make_here(
    store: Store,
    pacer: Pacer,
    clean: int,
    write: Callable[[TableBuilder, Callable[[int], None]], None],
) -> list[TableMeta]:
    builder = TableBuilder(
        store.file_system, store.options, store.new_table_path, clean, pacer.tick
    )
    try:
        write(builder, pacer.tick)
        return builder.finish()
    except BaseException:
        builder.abandon()
        raise
