"""The engines that are measured, behind one small interface.

Rules of fairness, the same for every engine:

- the same memtable and block cache sizes, 10 bloom bits a key where there are bloom filters;
- no compression anywhere: the values are random, so compression would only cost;
- a write-ahead log that is written, not synced, on each write (what ``put`` means by default in
  LevelDB, RocksDB and here); LMDB and SQLite are measured for reads alone, because their writes
  promise something else;
- methods are bound straight to the binding where the signatures allow it, so that no adapter
  costs a call in the inner loop.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any, Protocol

import lmdb
import plyvel
import rocksdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

Pair = tuple[bytes, bytes]

BLOOM_BITS = 10


class Contender(Protocol):
    """What a workload may ask of an engine; ``name`` is the column of the table."""

    name: str

    @property
    def put(self) -> Callable[[bytes, bytes], Any]:
        """Write one entry."""

    @property
    def get(self) -> Callable[[bytes], bytes | None]:
        """Look one key up."""

    @property
    def first(self) -> Callable[[bytes], Pair | None]:
        """The first entry under a prefix."""

    @property
    def last(self) -> Callable[[bytes], Pair | None]:
        """The last entry under a prefix."""

    @property
    def delete_range(self) -> Callable[[bytes, bytes], Any]:
        """Delete start ≤ key < stop, by a range tombstone where the engine has one."""

    @property
    def multi_get(self) -> Callable[[Sequence[bytes]], Sequence[bytes | None]]:
        """Look many keys up at once, in the way that is fastest in this binding."""

    def put_batch(self, pairs: Sequence[Pair]) -> None:
        """Write all pairs in one atomic batch."""

    def scan(self) -> Iterable[Pair]:
        """Iterate over everything, ascending."""

    def scan_backward(self) -> Iterable[Pair]:
        """Iterate over everything, descending."""

    def settle(self) -> None:
        """Flush the memtable and compact everything."""

    def close(self) -> None:
        """Close; a second call does nothing."""


def prefix_end(prefix: bytes) -> bytes:
    """The first key after every key that starts with ``prefix`` (which is not all 0xFF)."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,))


class LevelDB:
    """LevelDB by plyvel."""

    name = "LevelDB"

    def __init__(self, path: Path, *, memtable_bytes: int, cache_bytes: int) -> None:
        self._db = plyvel.DB(
            str(path),
            create_if_missing=True,
            write_buffer_size=memtable_bytes,
            lru_cache_size=cache_bytes,
            bloom_filter_bits=BLOOM_BITS,
            compression=None,
        )
        self.put = self._db.put
        self.get = self._db.get

    def put_batch(self, pairs: Sequence[Pair]) -> None:
        """See Contender."""
        batch = self._db.write_batch()
        for key, value in pairs:
            batch.put(key, value)
        batch.write()

    def multi_get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """See Contender; plyvel has no call for it."""
        return [*map(self._db.get, keys)]

    def scan(self) -> Iterable[Pair]:
        """See Contender."""
        iterator: Iterable[Pair] = self._db.iterator()
        return iterator

    def scan_backward(self) -> Iterable[Pair]:
        """See Contender."""
        iterator: Iterable[Pair] = self._db.iterator(reverse=True)
        return iterator

    def first(self, prefix: bytes) -> Pair | None:
        """See Contender."""
        with self._db.iterator(prefix=prefix) as iterator:
            return next(iterator, None)

    def last(self, prefix: bytes) -> Pair | None:
        """See Contender."""
        with self._db.iterator(prefix=prefix, reverse=True) as iterator:
            return next(iterator, None)

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """See Contender; LevelDB has no range tombstones, so every key gets its own."""
        with self._db.write_batch() as batch:
            for key in self._db.iterator(start=start, stop=stop, include_value=False):
                batch.delete(key)

    def settle(self) -> None:
        """See Contender."""
        self._db.compact_range()

    def close(self) -> None:
        """See Contender."""
        self._db.close()


class RocksDB:
    """RocksDB by rocksdict, in raw mode (bytes to bytes, no pickle)."""

    name = "RocksDB"

    def __init__(self, path: Path, *, memtable_bytes: int, cache_bytes: int) -> None:
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(memtable_bytes)
        options.set_compression_type(rocksdict.DBCompressionType.none())
        options.set_max_background_jobs(2)
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(rocksdict.Cache(cache_bytes))
        table.set_bloom_filter(BLOOM_BITS, False)
        options.set_block_based_table_factory(table)
        self._db = rocksdict.Rdict(str(path), options)
        self.put = self._db.put
        self.get = self._db.get

    def put_batch(self, pairs: Sequence[Pair]) -> None:
        """See Contender."""
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in pairs:
            batch.put(key, value)
        self._db.write(batch)

    def multi_get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """See Contender."""
        found: Sequence[bytes | None] = self._db.get(list(keys))
        return found

    def scan(self) -> Iterable[Pair]:
        """See Contender."""
        items: Iterable[Pair] = self._db.items()
        return items

    def scan_backward(self) -> Iterable[Pair]:
        """See Contender."""
        items: Iterable[Pair] = self._db.items(backwards=True)
        return items

    def first(self, prefix: bytes) -> Pair | None:
        """See Contender."""
        iterator = self._db.iter()
        iterator.seek(prefix)
        return self._entry(iterator, prefix)

    def last(self, prefix: bytes) -> Pair | None:
        """See Contender."""
        iterator = self._db.iter()
        iterator.seek_for_prev(prefix_end(prefix))
        return self._entry(iterator, prefix)

    @staticmethod
    def _entry(iterator: Any, prefix: bytes) -> Pair | None:
        if not iterator.valid():
            return None
        key: bytes = iterator.key()
        return (key, iterator.value()) if key.startswith(prefix) else None

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """See Contender."""
        self._db.delete_range(start, stop)

    def settle(self) -> None:
        """See Contender."""
        self._db.flush()
        self._db.compact_range(None, None)

    def close(self) -> None:
        """See Contender."""
        self._db.close()


class LMDB:
    """LMDB, for reads: a copy-on-write B+ tree in a memory map."""

    name = "LMDB"

    def __init__(self, path: Path, *, memtable_bytes: int, cache_bytes: int) -> None:
        del memtable_bytes, cache_bytes  # the operating system's page cache is its cache
        self._env = lmdb.open(str(path), map_size=64 << 30, sync=False, metasync=False)
        self._reader = self._env.begin()
        self.put: Callable[[bytes, bytes], Any] = self._put_one
        self.get = self._reader.get

    def _put_one(self, key: bytes, value: bytes) -> None:
        self.put_batch([(key, value)])

    def put_batch(self, pairs: Sequence[Pair]) -> None:
        """See Contender."""
        self._reader.abort()
        with self._env.begin(write=True) as transaction, transaction.cursor() as cursor:
            cursor.putmulti(pairs)
        self._reader = self._env.begin()
        self.get = self._reader.get

    def multi_get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """See Contender."""
        with self._reader.cursor() as cursor:
            found = dict(cursor.getmulti(keys))
        return [found.get(key) for key in keys]

    def scan(self) -> Iterable[Pair]:
        """See Contender."""
        cursor: Iterable[Pair] = self._reader.cursor()
        return cursor

    def scan_backward(self) -> Iterable[Pair]:
        """See Contender."""
        items: Iterable[Pair] = self._reader.cursor().iterprev()
        return items

    def first(self, prefix: bytes) -> Pair | None:
        """See Contender."""
        with self._reader.cursor() as cursor:
            if not cursor.set_range(prefix):
                return None
            key, value = cursor.item()
        return (key, value) if key.startswith(prefix) else None

    def last(self, prefix: bytes) -> Pair | None:
        """See Contender."""
        with self._reader.cursor() as cursor:
            if not (cursor.prev() if cursor.set_range(prefix_end(prefix)) else cursor.last()):
                return None
            key, value = cursor.item()
        return (key, value) if key.startswith(prefix) else None

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """Not measured: LMDB is here for reads."""
        raise NotImplementedError

    def settle(self) -> None:
        """See Contender; only the file's pages are written out."""
        self._env.sync(True)

    def close(self) -> None:
        """See Contender."""
        self._reader.abort()
        self._env.close()


class SQLite:
    """SQLite of the standard library, for reads: one WITHOUT ROWID table of blobs."""

    name = "SQLite"

    def __init__(self, path: Path, *, memtable_bytes: int, cache_bytes: int) -> None:
        del memtable_bytes
        path.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path / "data.sqlite", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(f"PRAGMA cache_size=-{cache_bytes // 1024}")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB NOT NULL) WITHOUT ROWID"
        )
        self.put: Callable[[bytes, bytes], Any] = self._put_one
        self.get: Callable[[bytes], bytes | None] = self._get_one

    def _put_one(self, key: bytes, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO kv VALUES (?, ?)", (key, value))

    def _get_one(self, key: bytes) -> bytes | None:
        row = self._db.execute("SELECT v FROM kv WHERE k = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def put_batch(self, pairs: Sequence[Pair]) -> None:
        """See Contender."""
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", pairs)
        self._db.execute("COMMIT")

    def multi_get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """See Contender."""
        marks = ",".join("?" * len(keys))
        query = f"SELECT k, v FROM kv WHERE k IN ({marks})"
        found = dict(self._db.execute(query, keys))
        return [found.get(key) for key in keys]

    def scan(self) -> Iterable[Pair]:
        """See Contender."""
        return self._db.execute("SELECT k, v FROM kv ORDER BY k")

    def scan_backward(self) -> Iterable[Pair]:
        """See Contender."""
        return self._db.execute("SELECT k, v FROM kv ORDER BY k DESC")

    def first(self, prefix: bytes) -> Pair | None:
        """See Contender."""
        return self._edge(prefix, "ASC")

    def last(self, prefix: bytes) -> Pair | None:
        """See Contender."""
        return self._edge(prefix, "DESC")

    def _edge(self, prefix: bytes, order: str) -> Pair | None:
        query = f"SELECT k, v FROM kv WHERE k >= ? AND k < ? ORDER BY k {order} LIMIT 1"
        row: Pair | None = self._db.execute(query, (prefix, prefix_end(prefix))).fetchone()
        return row

    def delete_range(self, start: bytes, stop: bytes) -> None:
        """See Contender."""
        self._db.execute("DELETE FROM kv WHERE k >= ? AND k < ?", (start, stop))

    def settle(self) -> None:
        """See Contender."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """See Contender."""
        self._db.close()


def bytes_on_disk(path: Path) -> int:
    """Blocks that the files of a directory occupy, in bytes (holes do not count)."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())


def drop_page_cache(path: Path) -> None:
    """Evict a closed database from the operating system's page cache.

    Each file is synced first, because ``POSIX_FADV_DONTNEED`` leaves dirty pages where they are.
    No privilege is needed, and nobody else's pages are touched.
    """
    for file in path.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def wipe(path: Path) -> None:
    """Remove a database directory, if it exists."""
    shutil.rmtree(path, ignore_errors=True)
