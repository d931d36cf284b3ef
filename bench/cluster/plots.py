"""The cluster suite's figures as SVG, drawn from what the table shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "streambus"  # the same figures give the same file

from matplotlib import pyplot as plt  # noqa: E402 - the backend must be chosen first

from bench.report import PLOTS  # noqa: E402 - the same

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.cluster.failover import Kill
    from bench.cluster.partitions import Cost

_COLOURS = ("#c2410c", "#1d4ed8", "#0f766e")
_BIN_S = 0.1


def gaps(kills: Sequence[Kill], name: str = "cluster-failover") -> Path:
    """How often which gap, by whether the killed leader was the controller besides."""
    figure, axes = plt.subplots(figsize=(7, 3.6))
    series = {
        "leader": [each.gap_s for each in kills if not each.controlled],
        "leader and controller": [each.gap_s for each in kills if each.controlled],
    }
    longest = max((each.gap_s for each in kills), default=0.0)
    edges = [place * _BIN_S for place in range(max(12, int(longest / _BIN_S) + 2))]
    axes.hist(
        list(series.values()), bins=edges, stacked=True, color=_COLOURS[:2],
        label=[f"{who} ({len(values)})" for who, values in series.items()],
    )  # fmt: skip
    axes.axvline(1.0, color="#64748b", linestyle="--", linewidth=1, label="target of the median")
    axes.set_xlabel("seconds from the kill to the next acknowledged record")
    axes.set_ylabel("kills")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_title(f"Failover, acks=all, three replicas, {len(kills)} kills")
    axes.legend(fontsize=8)
    return _save(figure, name)


def many(costs: Sequence[Cost], name: str = "cluster-partitions") -> Path:
    """Seconds and memory over the number of partitions."""
    figure, (times, memory) = plt.subplots(1, 2, figsize=(9, 3.6))
    counts = [cost.partitions for cost in costs]
    curves = {
        "start to first record": [cost.started_s for cost in costs],
        "start to all in sync": [cost.whole_s for cost in costs],
        "leader killed to next record": [
            max((each.gap_s for each in cost.kills), default=0.0) for cost in costs
        ],
    }
    for (label, values), colour in zip(curves.items(), _COLOURS, strict=True):
        times.plot(counts, values, marker="o", label=label, color=colour)
    times.set_ylabel("s")
    times.legend(fontsize=8)
    memory.plot(counts, [cost.memory_mib for cost in costs], marker="o", color=_COLOURS[0])
    memory.set_ylabel("MiB resident, the largest broker")
    for axes in (times, memory):
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("partitions, three replicas each")
        axes.grid(visible=True, alpha=0.3)
    return _save(figure, name)


def _save(figure: plt.Figure, name: str) -> Path:
    PLOTS.mkdir(exist_ok=True)
    path = PLOTS / f"{name}.svg"
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return path
