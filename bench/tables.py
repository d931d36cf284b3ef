"""Put the figures of ``bench/results`` into ``bench/README.md``: ``python -m bench.tables``.

The README's words are written by hand; its tables stand between two marks and are made from the
JSON of the last run, so that no figure is ever typed.
"""

from __future__ import annotations

import json
import re
from typing import Any

from bench.report import BENCH, RESULTS, number

README = BENCH / "README.md"
_MARKED = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The README's text with every table made anew; a suite without results says so."""
    return _MARKED.sub(lambda match: f"{match[1]}{_table(match[2])}\n{match[3]}", text)


def _table(suite: str) -> str:
    path = RESULTS / f"{suite}.json"
    if not path.exists():
        return "Not measured yet."
    content = json.loads(path.read_text(encoding="utf-8"))
    runs: dict[str, list[str]] = {}  # what a run was like: its parts
    for part, run in content.get("parts", {"": content}).items():
        runs.setdefault(_run(run), []).append(part)
    lines = [
        *(f"- {', '.join(parts)}: {run}" if parts[0] else run for run, parts in runs.items()),
        "",
        "| what | figure | baseline | ratio | target | |",
        "|---|---:|---:|---:|---:|---|",
        *map(_row, content["rows"]),
    ]
    return "\n".join(lines)


def _run(run: dict[str, Any]) -> str:
    """When, where and how a run, or a part of one, was measured."""
    machine = run["machine"]
    options = ", ".join(f"{name} {value}" for name, value in run["options"].items())
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['implementation']}"
    load = machine.get("load_average_1_min", "?")
    day = run["measured_at"][:10]
    return f"Measured {day} on {where} {machine['python']}, load {load} at the start; {options}."


def _row(row: dict[str, Any]) -> str:
    what = f"{row['what']} ({row['note']})" if row["note"] else row["what"]
    baseline = f"{row['baseline_name']} {number(row['baseline'])}" if row["baseline_name"] else ""
    ratio = "" if row["ratio"] is None else f"{number(row['ratio'])} ×"
    verdict = {True: "met", False: "**missed**", None: ""}[row["met"]]
    cells = (what, f"{number(row['figure'])} {row['unit']}", baseline, ratio, row["target"] or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (*cells, verdict)) + " |"


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
