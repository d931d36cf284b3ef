"""The Raft suite's figures as SVG, drawn from what its results file holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bench.report import Row
from bench.storage.plots import bars, distribution

if TYPE_CHECKING:
    from pathlib import Path


def draw(results: Path) -> None:
    """Draw every plot whose part has been measured."""
    content = json.loads(results.read_text(encoding="utf-8"))
    rows = [
        Row(row["what"], row["figure"], row["unit"], row["baseline_name"], row["baseline"])
        for row in content["rows"]
    ]
    if any(row.unit == "/s" and row.baseline is not None for row in rows):
        bars(rows, "/s", "raft-proposals", "Proposals acknowledged in a second, 3 nodes")
    gaps = [row["repeats"] for row in content["rows"] if row.get("part") == "failover"]
    if gaps:
        title = "Leader killed: until the next acknowledged write"
        distribution({f"{len(gaps[0])} kills": gaps[0]}, "raft-failover", title, "s")
