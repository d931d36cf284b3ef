"""Writes and reads of single entries, batches, scans and prefixes: µs an entry, per contender."""

from __future__ import annotations

import random
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from bench.report import Row, Sample, compare, interleave, ratio_at_most
from bench.storage import contenders as engines
from bench.storage.arena import BATCH_ENTRIES, Arena, fill, now

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.report import Target
    from bench.storage.contenders import Contender

OURS = "StreamBus"
WRITERS = (OURS, "RocksDB", "LevelDB")
READERS = (OURS, "RocksDB", "LevelDB", "LMDB", "SQLite")

WARM_GETS = 20_000
COLD_GETS = 1_000
MULTI_GET_KEYS = 100
PREFIX_BYTES = 2

Samples = dict[str, Sample]


def rows(
    what: str, samples: Samples, unit: str, targets: dict[str, Target], note: str = ""
) -> list[Row]:
    """One row per baseline that took part; alone, our figure without one."""
    if list(samples) == [OURS]:
        return [Row(what, samples[OURS].median, unit, note=note, sample=samples[OURS])]
    return [
        compare(what, samples, unit, ours=OURS, baseline=name, target=targets.get(name), note=note)
        for name in samples
        if name != OURS
    ]


def writes(arena: Arena) -> list[Row]:
    """Put and batch put into an empty database, flushes and compactions included."""
    pairs = arena.pairs[: max(BATCH_ENTRIES, arena.entries // 2)]
    names = [name for name in WRITERS if name in arena.makers]

    def put_each(name: str) -> float:
        with arena.fresh(name, "put") as contender:
            put = contender.put
            start = now()
            for key, value in pairs:
                put(key, value)
            return (now() - start) / len(pairs) * 1e6

    def put_batches(name: str) -> float:
        with arena.fresh(name, "batch") as contender:
            start = now()
            fill(contender, pairs)
            return (now() - start) / len(pairs) * 1e6

    note = f"{len(pairs):,} random keys, memtable {arena.memtable_bytes >> 20} MiB"
    singles = interleave({n: partial(put_each, n) for n in names}, repeats=arena.repeats)
    batches = interleave({n: partial(put_batches, n) for n in names}, repeats=arena.repeats)
    return [
        *rows("put", singles, "µs", {"RocksDB": ratio_at_most(1.0)}, note),
        *rows("batch put of 1,000", batches, "µs", {"LevelDB": ratio_at_most(0.7)}, note),
    ]


def memtable_gets(arena: Arena) -> list[Row]:
    """Get of keys that have not been flushed yet."""
    pairs = arena.pairs[: min(arena.entries, 20_000)]
    wanted = random.Random(arena.seed).sample([key for key, _ in pairs], len(pairs))

    def measure(name: str) -> float:
        with arena.fresh(name, "memtable", memtable_bytes=64 << 20) as contender:
            fill(contender, pairs)
            return _gets(contender, wanted)

    names = [name for name in WRITERS if name in arena.makers]
    samples = interleave({n: partial(measure, n) for n in names}, repeats=arena.repeats)
    return rows("get, in the memtable", samples, "µs", {})


def _gets(contender: Contender, keys: list[bytes]) -> float:
    get = contender.get
    start = now()
    for key in keys:
        get(key)
    return (now() - start) / len(keys) * 1e6


def reads(arena: Arena) -> list[Row]:
    """Every read on a loaded, settled database: warm, cold, missing, many, scans, prefixes."""
    names = [name for name in READERS if name in arena.makers]
    for name in names:
        arena.load(name, "read")
    try:
        return [*_warm_reads(arena, names), *_cold_gets(arena, names)]
    finally:
        for name in names:
            engines.wipe(arena.path(name, "read"))


def _warm_reads(arena: Arena, names: list[str]) -> list[Row]:
    source = random.Random(arena.seed)
    present = [key for key, _ in source.sample(arena.pairs, min(WARM_GETS, arena.entries))]
    # Another stream than the keys': an aligned part of the same one would be keys that exist.
    stranger = random.Random(arena.seed + 1_000_003)
    missing = [stranger.randbytes(16) for _ in present]
    prefixes = [key[:PREFIX_BYTES] for key in present if key[0] != 0xFF][:2_000]
    opened = {name: arena.open(name, "read") for name in names}
    repeats = arena.repeats

    def each(work: Callable[[Contender], float]) -> Samples:
        turns = {n: partial(work, opened[n]) for n in names}
        return interleave(turns, repeats=repeats, warm_up=True)

    def many(contender: Contender) -> float:
        start = now()
        for at in range(0, len(present), MULTI_GET_KEYS):
            contender.multi_get(present[at : at + MULTI_GET_KEYS])
        return (now() - start) / len(present) * 1e6

    def scan(contender: Contender) -> float:
        start = now()
        deque(contender.scan(), maxlen=0)
        return (now() - start) / arena.entries * 1e6

    def scan_backward(contender: Contender) -> float:
        start = now()
        deque(contender.scan_backward(), maxlen=0)
        return (now() - start) / arena.entries * 1e6

    def first(contender: Contender) -> float:
        start = now()
        for prefix in prefixes:
            contender.first(prefix)
        return (now() - start) / len(prefixes) * 1e6

    def last(contender: Contender) -> float:
        start = now()
        for prefix in prefixes:
            contender.last(prefix)
        return (now() - start) / len(prefixes) * 1e6

    rocks = {"RocksDB": ratio_at_most(1.0)}
    level = {"LevelDB": ratio_at_most(0.3)}
    try:
        check_agreement(opened, present[:200], missing[:200], prefixes[:50])
        return [
            *rows("get, warm cache", each(lambda c: _gets(c, present)), "µs", rocks),
            *rows("get, missing key", each(lambda c: _gets(c, missing)), "µs", {}),
            *rows("multi_get of 100, a key", each(many), "µs", {}),
            *rows("scan forward, an entry", each(scan), "µs", level),
            *rows("scan backward, an entry", each(scan_backward), "µs", {}),
            *rows("first by prefix", each(first), "µs", {}),
            *rows("last by prefix", each(last), "µs", {}),
        ]
    finally:
        for contender in opened.values():
            contender.close()


def check_agreement(
    opened: dict[str, Contender],
    present: list[bytes],
    missing: list[bytes],
    prefixes: list[bytes],
) -> None:
    """Every contender must give the same answers, or its times mean nothing."""
    names = list(opened)
    for name in names[1:]:
        one, two = opened[names[0]], opened[name]
        assert [one.get(k) for k in present] == [two.get(k) for k in present], name
        assert not any(two.get(k) for k in missing), name
        assert list(one.multi_get(present)) == list(two.multi_get(present)), name
        assert [one.first(p) for p in prefixes] == [two.first(p) for p in prefixes], name
        assert [one.last(p) for p in prefixes] == [two.last(p) for p in prefixes], name


def _cold_gets(arena: Arena, names: list[str]) -> list[Row]:
    """Reopen with an empty block cache and an empty page cache; the first gets pay for both."""
    keys = [key for key, _ in random.Random(arena.seed + 1).sample(arena.pairs, COLD_GETS)]

    def measure(name: str) -> float:
        engines.drop_page_cache(arena.path(name, "read"))
        contender = arena.open(name, "read")
        try:
            return _gets(contender, keys)
        finally:
            contender.close()

    samples = interleave({n: partial(measure, n) for n in names}, repeats=arena.repeats)
    note = f"first {COLD_GETS:,} after reopening; page cache dropped by posix_fadvise(DONTNEED)"
    return rows("get, cold", samples, "µs", {}, note)


def range_deletes(arena: Arena) -> list[Row]:
    """Delete the middle 80 % of a settled database by one range, then scan what is left."""
    count = max(BATCH_ENTRIES, arena.entries // 10)
    pairs = arena.pairs[:count]
    ranked = sorted(key for key, _ in pairs)
    start_key, stop_key = ranked[count // 10], ranked[count * 9 // 10]
    left = count - (count * 9 // 10 - count // 10)
    names = [name for name in WRITERS if name in arena.makers]

    def measure(name: str) -> float:
        arena.load(name, "range", pairs)
        contender = arena.open(name, "range")
        try:
            start = now()
            contender.delete_range(start_key, stop_key)
            seen = sum(1 for _ in contender.scan())
            taken = now() - start
            assert seen == left, (name, seen, left)
            return taken * 1e3
        finally:
            contender.close()
            engines.wipe(arena.path(name, "range"))

    samples = interleave({n: partial(measure, n) for n in names}, repeats=arena.repeats)
    return rows("delete_range of 80 %, then scan", samples, "ms", {}, f"{count:,} entries")


def amplification(arena: Arena) -> list[Row]:
    """Bytes written and bytes kept for the bytes given, after a random load that is settled."""
    given = arena.entries * (len(arena.pairs[0][0]) + len(arena.pairs[0][1]))
    names = [name for name in WRITERS if name in arena.makers]
    written: dict[str, float] = {}
    kept: dict[str, float] = {}
    for name in names:
        before = bytes_written()
        arena.load(name, "space")
        written[name] = (bytes_written() - before) / given
        kept[name] = engines.bytes_on_disk(arena.path(name, "space")) / given
        engines.wipe(arena.path(name, "space"))
    note = f"{arena.entries:,} random entries loaded, flushed, fully compacted"
    mine_written, mine_kept = written.pop(OURS), kept.pop(OURS)
    return [
        *(Row("write amplification", mine_written, "×", n, written[n], note=note) for n in written),
        *(Row("space amplification", mine_kept, "×", n, kept[n], note=note) for n in kept),
    ]


def bytes_written() -> int:
    """Bytes this process has handed to write calls since it began (Linux, /proc/self/io)."""
    with open("/proc/self/io", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("wchar"))
