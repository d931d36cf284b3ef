"""The storage suite's figures as SVG, drawn from the rows that the table shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "streambus"  # the same figures give the same file

from matplotlib import pyplot as plt  # noqa: E402 - the backend must be chosen first

from bench.report import PLOTS  # noqa: E402 - the same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bench.report import Row
    from bench.storage.growth import Curves

OURS_COLOUR = "#c2410c"
COLOURS = {
    "StreamBus": OURS_COLOUR,
    "RocksDB": "#1d4ed8",
    "LevelDB": "#0f766e",
    "LMDB": "#7c3aed",
    "SQLite": "#64748b",
    "write + fdatasync": "#64748b",
    "PySyncObj": "#1d4ed8",
}


def bars(rows: Sequence[Row], unit: str, name: str, title: str) -> Path:
    """One group of bars for each ``what``: ours and every baseline, on a logarithmic axis."""
    groups: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.unit == unit and row.baseline is not None:
            group = groups.setdefault(row.what, {"StreamBus": row.figure})
            group[row.baseline_name] = row.baseline
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.75 * len(groups)))
    labels: set[str] = set()
    for at, group in enumerate(groups.values()):
        height = 0.8 / len(group)
        for place, (engine, value) in enumerate(group.items()):
            middle = at - 0.4 + (place + 0.5) * height
            axes.barh(
                middle,
                value,
                height,
                color=COLOURS.get(engine, "#94a3b8"),
                label=None if engine in labels else engine,
            )
            axes.text(value, middle, f" {value:.3g}", va="center", fontsize=7)
            labels.add(engine)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(unit)
    axes.set_title(title)
    axes.legend(loc="best", fontsize=8)
    return _save(figure, name)


def lines(curves: Curves, name: str, title: str) -> Path:
    """One panel for each operation: µs an entry over the count of entries."""
    figure, panels = plt.subplots(1, len(curves), figsize=(4 * len(curves), 3.4))
    for axes, (operation, engines) in zip(panels, curves.items(), strict=True):
        for engine, points in engines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=engine, color=COLOURS[engine])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(operation)
        axes.set_xlabel("entries")
        axes.set_ylabel("µs an entry")
        axes.grid(visible=True, which="major", alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.suptitle(title)
    return _save(figure, name)


def distribution(series: Mapping[str, Sequence[float]], name: str, title: str, unit: str) -> Path:
    """Complementary distribution: which share of the values exceeds x, both axes logarithmic."""
    figure, axes = plt.subplots(figsize=(7, 4))
    for label, values in series.items():
        ranked = sorted(values)
        shares = [1 - at / len(ranked) for at in range(len(ranked))]
        axes.plot(ranked, shares, label=label, drawstyle="steps-post")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(unit)
    axes.set_ylabel("share that is longer")
    axes.set_title(title)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    return _save(figure, name)


def _save(figure: plt.Figure, name: str) -> Path:
    PLOTS.mkdir(parents=True, exist_ok=True)
    path = PLOTS / f"{name}.svg"
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
