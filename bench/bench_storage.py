"""``hatch run bench storage``: the engine against LevelDB, RocksDB, LMDB, SQLite and plain files.

All contenders store the same pairs in the same run, in turns. See `bench.storage.contenders` for
the rules of fairness, and each module there for what its figures mean.

    hatch run bench storage                         # 10⁶ entries, a quarter of an hour
    hatch run bench storage --only points log       # these rows anew, all others as they were
    hatch run bench storage --only large --open-gib 10 --engines StreamBus
    hatch run bench storage --only growth --growth 10000000
    hatch run bench storage --only points --entries 100000 --repeats 2 --no-save
"""

from __future__ import annotations

import argparse
import gc
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import Report
from bench.storage import contenders, growth, log_workload, opening, plots, points, stalls
from bench.storage.arena import Arena
from bench.storage.ours import StreamBus

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.report import Row

PARTS = ("points", "range", "space", "open", "large", "log", "stalls", "growth")


def main(arguments: list[str]) -> int:
    """Run the parts asked for, print the table, write JSON and plots."""
    parser = argparse.ArgumentParser(prog="hatch run bench storage", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engines", nargs="+", metavar="NAME", help="by default all")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--open-gib", type=float, default=1.0, help="size for 'open with much data'"
    )
    parser.add_argument("--log-mib", type=int, default=512, help="bytes of each log workload")
    parser.add_argument("--growth", type=int, default=1_000_000, help="the largest tree of growth")
    parser.add_argument("--stall-seconds", type=float, default=15.0)
    parser.add_argument("--directory", type=Path, help="on the disk that is to be measured")
    parser.add_argument("--no-save", action="store_true", help="leave results and plots alone")
    given = parser.parse_args(arguments)
    scratch = Path(tempfile.mkdtemp(prefix="bench-storage-", dir=given.directory))
    makers: dict[str, Callable[..., contenders.Contender]] = {
        "StreamBus": StreamBus,
        "RocksDB": contenders.RocksDB,
        "LevelDB": contenders.LevelDB,
        "LMDB": contenders.LMDB,
        "SQLite": contenders.SQLite,
    }
    if given.engines:
        makers = {n: makers[n] for n in makers if n in given.engines or n == StreamBus.name}
    try:
        arena = Arena(scratch, given.entries, given.repeats, given.seed, makers)
        gc.freeze()  # the pairs of all contenders are not any contender's garbage
        return run(arena, given)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run(arena: Arena, given: argparse.Namespace) -> int:
    """Run the parts in their order."""
    options = {
        "entries": arena.entries,
        "repeats": arena.repeats,
        "memtable_mib": arena.memtable_bytes >> 20,
        "open_gib": given.open_gib,
        "log_mib": given.log_mib,
        "growth": given.growth,
    }
    report = Report("storage", "The storage engine beside others", options, arena.seed)
    save = not given.no_save

    def add(part: str, rows: list[Row]) -> None:
        report.add(*(replace(row, part=part) for row in rows))
        for row in rows:
            beside = f" ({row.baseline_name} {row.baseline:.4g})" if row.baseline else ""
            print(f"{row.what}: {row.figure:.4g} {row.unit}{beside}", flush=True)

    if "points" in given.only:
        add("points", points.writes(arena))
        add("points", points.memtable_gets(arena))
        add("points", points.reads(arena))
        if save:
            title = f"{arena.entries:,} entries of 16 + 100 bytes"
            plots.bars(report.rows, "µs", "storage-points", title)
    if "range" in given.only:
        add("range", points.range_deletes(arena))
    if "space" in given.only:
        add("space", points.amplification(arena))
    if "open" in given.only:
        add("open", opening.after_crash(arena))
    if "large" in given.only:
        add("large", opening.with_much_data(arena, given.open_gib))
    if "log" in given.only:
        rows = log_workload.log_rows(arena, given.log_mib << 20)
        add("log", rows)
        if save:
            plots.bars(rows, "MB/s", "storage-log", "Log appends, synced each MiB")
    if "stalls" in given.only:
        rows, series = stalls.stalls(arena, given.stall_seconds)
        add("stalls", rows)
        if save:
            title = "Event loop pauses while flushing and compacting"
            plots.distribution(series, "storage-stalls", title, "ms")
    if "growth" in given.only:
        curves = growth.curves(arena, given.growth)
        add("growth", growth.growth_rows(curves))
        if save:
            plots.lines(curves, "storage-growth", "How the cost of an entry grows")
    return report.finish(save=save)
