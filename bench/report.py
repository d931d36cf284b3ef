"""The table that every benchmark prints, and the JSON that it leaves behind.

A *row* is one figure, the baseline that was measured beside it in the same run, and the target
that the design sets. A *target* bounds either the figure itself or the ratio figure ÷ baseline:
ratios survive a change of machine, figures do not. A *sample* is every repeat of one measurement;
what is reported is its median, and the spread is kept so that a reader can judge the noise.

    report = Report("storage", title="Storage engine", options={"entries": 1_000_000}, seed=1)
    times = interleave({"ours": put_ours, "RocksDB": put_rocks}, repeats=5)
    report.add(
        compare("put", times, "µs", ours="ours", baseline="RocksDB", target=ratio_at_most(1))
    )
    return report.finish()

Interleaving matters more than repeating: contenders that take turns meet the same neighbours on
the machine, so a slow minute falls on all of them.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import statistics
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "results"
PLOTS = BENCH / "plots"

JSON_VERSION = 1


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on the figure (in its unit) or on the ratio figure ÷ baseline (a plain number)."""

    of: Literal["figure", "ratio"]
    sense: Literal["≤", "≥"]
    limit: float

    def met_by(self, value: float) -> bool:
        """Tell whether ``value`` lies on the right side of the bound; the bound itself does."""
        return value <= self.limit if self.sense == "≤" else value >= self.limit

    def __str__(self) -> str:
        return f"{self.sense} {number(self.limit)}{' ×' if self.of == 'ratio' else ''}"


def at_most(limit: float) -> Target:
    """Bound the figure from above, in the unit of its row."""
    return Target("figure", "≤", limit)


def at_least(limit: float) -> Target:
    """Bound the figure from below, in the unit of its row."""
    return Target("figure", "≥", limit)


def ratio_at_most(limit: float) -> Target:
    """Bound figure ÷ baseline from above: right for times, sizes and amplifications."""
    return Target("ratio", "≤", limit)


def ratio_at_least(limit: float) -> Target:
    """Bound figure ÷ baseline from below: right for throughputs."""
    return Target("ratio", "≥", limit)


@dataclass(frozen=True, slots=True)
class Sample:
    """All repeats of one measurement, in the order in which they were taken."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value; of an even number, the mean of the two in the middle."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest repeat."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest repeat."""
        return max(self.values)

    def scaled(self, factor: float) -> Sample:
        """Convert the unit: every repeat times ``factor``."""
        return Sample(tuple(value * factor for value in self.values))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a figure, its baseline from the same run, and the target."""

    what: str
    figure: float
    unit: str
    baseline_name: str = ""
    baseline: float | None = None
    target: Target | None = None
    note: str = ""
    sample: Sample | None = None
    baseline_sample: Sample | None = None
    part: str = ""
    """The part of its suite, where parts can be measured alone; see `Report.save`."""

    @property
    def ratio(self) -> float | None:
        """Figure ÷ baseline, or None where there is no baseline (or it is zero)."""
        return self.figure / self.baseline if self.baseline else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target, or where its ratio is missing."""
        if self.target is None:
            return None
        value = self.figure if self.target.of == "figure" else self.ratio
        return None if value is None else self.target.met_by(value)

    def as_json(self) -> dict[str, Any]:
        """The row as it is written to the results file."""
        return {
            "what": self.what,
            "figure": self.figure,
            "unit": self.unit,
            "baseline_name": self.baseline_name,
            "baseline": self.baseline,
            "ratio": self.ratio,
            "target": None if self.target is None else str(self.target),
            "met": self.met,
            "note": self.note,
            "repeats": list(self.sample.values) if self.sample else [],
            "baseline_repeats": list(self.baseline_sample.values) if self.baseline_sample else [],
            **({"part": self.part} if self.part else {}),
        }


def compare(
    what: str,
    samples: Mapping[str, Sample],
    unit: str,
    *,
    ours: str,
    baseline: str,
    target: Target | None = None,
    note: str = "",
) -> Row:
    """Make a row from two contenders of one interleaved measurement, by their medians."""
    mine, theirs = samples[ours], samples[baseline]
    return Row(what, mine.median, unit, baseline, theirs.median, target, note, mine, theirs)


def interleave(
    contenders: Mapping[str, Callable[[], float]], *, repeats: int, warm_up: bool = False
) -> dict[str, Sample]:
    """Measure the contenders in turns: A B C, B C A, C A B, ...

    Args:
        contenders: name to measurement; each call measures once and returns the figure.
        repeats: rounds, at least 1; each contender is measured once a round.
        warm_up: measure every contender once more beforehand, and forget the result.

    Returns:
        Each contender's repeats, in the order of the rounds.
    """
    names = list(contenders)
    taken: dict[str, list[float]] = {name: [] for name in names}
    if warm_up:
        for name in names:
            contenders[name]()
    for turn in range(repeats):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            gc.collect()
            taken[name].append(contenders[name]())
    return {name: Sample(tuple(values)) for name, values in taken.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of ``values`` do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-share * len(ranked) // 1) - 1))]


def _merged(before: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the new rows of each part where its old ones stood; new parts come last."""
    fresh: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        fresh.setdefault(row["part"], []).append(row)
    merged: list[dict[str, Any]] = []
    for row in before:
        part = row.get("part", "")
        if part not in {new["part"] for new in rows}:
            merged.append(row)
        else:
            merged.extend(fresh.pop(part, []))
    return merged + [row for new in fresh.values() for row in new]


def machine() -> dict[str, Any]:
    """The facts that a figure depends on. No host name and no path: results are published."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
    }
    if hasattr(os, "sched_getaffinity"):
        facts["cores_usable"] = len(os.sched_getaffinity(0))
    if hasattr(os, "getloadavg"):
        facts["load_average_1_min"] = round(os.getloadavg()[0], 2)
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["memory_gib"] = round(memory_bytes / 2**30, 1)
    return facts


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def number(value: float | None) -> str:
    """Three significant digits, thousands separated; "–" for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 4
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


@dataclass(slots=True)
class Report:
    """Collects the rows of one suite, prints them, and keeps them as JSON."""

    suite: str
    title: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    rows: list[Row] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=machine)

    def add(self, *rows: Row) -> None:
        """Append rows, in the order of the table."""
        self.rows.extend(rows)

    def table(self) -> Table:
        """The rows as a rich table; the last column says met or missed."""
        table = Table(title=self.title or self.suite, caption=self._caption(), title_justify="left")
        table.add_column("what")
        for heading in ("figure", "unit", "baseline", "ratio", "target"):
            table.add_column(heading, justify="left" if heading == "unit" else "right")
        table.add_column("")
        for row in self.rows:
            baseline = f"{row.baseline_name} {number(row.baseline)}" if row.baseline_name else ""
            verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[row.met]
            what = f"{row.what}\n[dim]{row.note}[/]" if row.note else row.what
            ratio = "" if row.ratio is None else f"{number(row.ratio)} ×"
            target = "" if row.target is None else str(row.target)
            table.add_row(what, number(row.figure), row.unit, baseline, ratio, target, verdict)
        return table

    def _caption(self) -> str:
        facts = self.machine
        given = ", ".join(f"{name}={value}" for name, value in self.options.items())
        seed = "" if self.seed is None else f"; seed {self.seed}"
        load = facts.get("load_average_1_min", "?")
        return (
            f"medians; {facts['implementation']} {facts['python']}, {facts['cpu']}, "
            f"{facts['cores']} cores, load {load} at the start; {given}{seed}"
        )

    def save(self, directory: Path = RESULTS) -> Path:
        """Write ``<suite>.json``, replacing the last run's file in one step.

        Rows that name their part replace the rows of the same part only: what other parts left in
        the file stays, with the time, the machine and the options of its own run.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.suite}.json"
        run = {
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": self.machine,
            "options": self.options,
            "seed": self.seed,
        }
        rows = [row.as_json() for row in self.rows]
        parts = {row.part: run for row in self.rows if row.part}
        if parts and path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            rows = _merged(before["rows"], rows)
            parts = {**before.get("parts", {}), **parts}
        content = {
            "version": JSON_VERSION,
            "suite": self.suite,
            "title": self.title,
            **run,
            **({"parts": parts} if parts else {}),
            "rows": rows,
        }
        scratch = path.with_suffix(".json.tmp")
        scratch.write_text(
            json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        scratch.replace(path)
        return path

    def finish(self, *, save: bool = True, strict: bool = False) -> int:
        """Print the table, save the JSON, and return an exit code.

        Args:
            save: write the results file; a partial run (a smoke test) leaves it alone.
            strict: return 1 where a target is missed, for a pipeline that guards a figure.
        """
        width = None if sys.stdout.isatty() else 140
        Console(width=width).print(self.table())
        if save:
            self.save()
        missed = [row.what for row in self.rows if row.met is False]
        if missed:
            print(f"{len(missed)} of {len(self.rows)} rows miss their target", file=sys.stderr)
        return 1 if strict and missed else 0
