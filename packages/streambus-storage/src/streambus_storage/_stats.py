"""Typed statistics of a tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streambus_storage._compaction_choice import depth

if TYPE_CHECKING:
    from streambus_storage._store import Store


@dataclass(slots=True)
class Counters:
    """What a tree counts while it runs. Plain additions under the locks of those who count."""

    user_bytes: int = 0
    log_bytes: int = 0
    flush_bytes: int = 0
    compaction_bytes: int = 0
    compaction_read_bytes: int = 0
    flushes: int = 0
    merges: int = 0
    moves: int = 0
    dropped_tables: int = 0
    stalls: int = 0
    stall_seconds: float = 0.0
    stall_seconds_longest: float = 0.0
    slowdowns: int = 0
    slowdown_seconds: float = 0.0
    filtered_entries: int = 0


@dataclass(frozen=True, slots=True)
class LevelStats:
    """One level.

    Attributes:
        level: Its number.
        tables: Number of table files.
        bytes: Their size.
        entries: Number of entries, deletes included.
        tombstones: Number of deletes among them.
    """

    level: int
    tables: int
    bytes: int
    entries: int
    tombstones: int


@dataclass(frozen=True, slots=True)
class TreeStats:
    """A moment in the life of a tree; counters begin when it is opened.

    Attributes:
        levels: Level by level, empty ones left out.
        tables: Number of table files.
        table_bytes: Their size.
        memtable_bytes: Memory of the active memtable.
        frozen_memtables: Memtables that wait for their flush.
        log_segments: Live segments of the write-ahead log.
        range_deletes: Range deletes that still hide something in tables.
        level0_depth: How many tables of level 0 overlap where most do.
        last_sequence: Sequence number of the last write.
        durable_sequence: Everything up to it is durable.
        snapshots: Live snapshots and scans.
        user_bytes: Keys and values written.
        log_bytes: Bytes appended to the log.
        flush_bytes: Bytes of flushed tables.
        compaction_bytes: Bytes that compaction wrote.
        compaction_read_bytes: Bytes of the tables that it read.
        write_amplification: All bytes written for each byte of the user's; 0 without writes.
        flushes: Memtables flushed.
        merges: Compactions that read and wrote.
        moves: Tables that changed level without being read.
        dropped_tables: Tables that were dropped unread under range deletes.
        filtered_entries: Entries that the compaction filter removed.
        syncs: Syncs of the log.
        stalls: Writes that had to wait for flush or compaction, or were refused instead.
        stall_seconds: How long in all.
        stall_seconds_longest: The longest of them.
        slowdowns: Writes that were delayed because writers were held to a rate, or were refused
            instead (`stall_seconds_max` 0).
        slowdown_seconds: How long in all.
        cache_bytes: Decoded blocks in the cache.
        cache_hits: Blocks found there.
        cache_misses: Blocks read from the disk.
        background_error: What flush or compaction failed with last; None if it went on since.
        failure: Why the tree refuses writes for good; None if it does not.
    """

    levels: list[LevelStats]
    tables: int
    table_bytes: int
    memtable_bytes: int
    frozen_memtables: int
    log_segments: int
    range_deletes: int
    level0_depth: int
    last_sequence: int
    durable_sequence: int
    snapshots: int
    user_bytes: int
    log_bytes: int
    flush_bytes: int
    compaction_bytes: int
    compaction_read_bytes: int
    write_amplification: float
    flushes: int
    merges: int
    moves: int
    dropped_tables: int
    filtered_entries: int
    syncs: int
    stalls: int
    stall_seconds: float
    stall_seconds_longest: float
    slowdowns: int
    slowdown_seconds: float
    cache_bytes: int
    cache_hits: int
    cache_misses: int
    background_error: str | None = field(default=None)
    failure: str | None = field(default=None)


def collect(store: Store) -> TreeStats:
    """Return the statistics of a tree's present moment.

    Raises:
        ClosedError: The tree is closed.
    """
    state = store.present()
    version = state.tables.version
    counters = store.counters
    levels = [
        LevelStats(
            level,
            len(tables),
            sum(table.size for table in tables),
            sum(table.entries for table in tables),
            sum(table.tombstones for table in tables),
        )
        for level, tables in enumerate(version.levels)
        if tables
    ]
    with store.write_lock:
        store.forget_released()
        snapshots = len(store.snapshots)
        log_now = store.segment.file.size if store.segment is not None else 0
    user_bytes = counters.user_bytes + state.active.user_bytes
    log_bytes = counters.log_bytes + log_now
    written = log_bytes + counters.flush_bytes + counters.compaction_bytes
    return TreeStats(
        levels=levels,
        tables=sum(level.tables for level in levels),
        table_bytes=sum(level.bytes for level in levels),
        memtable_bytes=state.active.bytes,
        frozen_memtables=len(state.frozen),
        log_segments=1 + len(state.frozen),
        range_deletes=len(version.holes) + len(state.active.intervals),
        level0_depth=depth(version.levels[0])[0],
        last_sequence=store.last_sequence,
        durable_sequence=store.commit.durable,
        snapshots=snapshots,
        user_bytes=user_bytes,
        log_bytes=log_bytes,
        flush_bytes=counters.flush_bytes,
        compaction_bytes=counters.compaction_bytes,
        compaction_read_bytes=counters.compaction_read_bytes,
        write_amplification=written / user_bytes if user_bytes else 0.0,
        flushes=counters.flushes,
        merges=counters.merges,
        moves=counters.moves,
        dropped_tables=counters.dropped_tables,
        filtered_entries=counters.filtered_entries,
        syncs=store.commit.syncs,
        stalls=counters.stalls,
        stall_seconds=counters.stall_seconds,
        stall_seconds_longest=counters.stall_seconds_longest,
        slowdowns=counters.slowdowns,
        slowdown_seconds=counters.slowdown_seconds,
        cache_bytes=store.cache.bytes,
        cache_hits=store.cache.hits(),
        cache_misses=store.cache.misses,
        background_error=str(store.background_error) if store.background_error else None,
        failure=str(store.failure) if store.failure else None,
    )
