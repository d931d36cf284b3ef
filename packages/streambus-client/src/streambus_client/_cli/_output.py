"""Data on standard output: a table for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

from streambus_client._cli._options import Output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MEANT_BY_NONE = {
    "default_replication_factor": "up to 3, by brokers",
    "min_insync_replicas": "a majority",
    "replication_throttle_bytes_per_s": "no limit",
    "retention_bytes": "no limit",
    "retention_ms": "no limit",
}


def write_rows(rows: Sequence[Mapping[str, Any]], output: Output) -> None:
    """Write a list of like things.

    Args:
        rows: each with the same names, in the order of the columns.
        output: a table, one JSON array, or one JSON object a line.
    """
    if output is Output.json:
        sys.stdout.write(json.dumps(list(rows), indent=2) + "\n")
    elif output is Output.jsonl:
        for row in rows:
            sys.stdout.write(json.dumps(row, separators=(",", ":")) + "\n")
    elif rows:
        _table(rows)


def write_one(thing: Mapping[str, Any], output: Output) -> None:
    """Write one thing: names and values."""
    if output is Output.json:
        sys.stdout.write(json.dumps(thing, indent=2) + "\n")
    elif output is Output.jsonl:
        sys.stdout.write(json.dumps(thing, separators=(",", ":")) + "\n")
    else:
        width = max(len(name) for name in thing)
        for name, value in thing.items():
            sys.stdout.write(f"{name:{width}}  {cell(value)}\n")


def cell(value: Any) -> str:
    """Write a value for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ",".join(cell(item) for item in value) or "-"
    return str(value)


def explained(key: str, value: str) -> str:
    """Write a setting's value for people: what a -1 means is said beside it."""
    meaning = _MEANT_BY_NONE.get(key)
    return value if value != "-1" or meaning is None else f"-1 ({meaning})"


def sized(size_bytes: int) -> str:
    """Write a number of bytes for people."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def lasting(seconds: float | None) -> str:
    """Write a duration for people; None is one that nobody can tell."""
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def table_lines(rows: Sequence[Mapping[str, Any]], columns: int | None) -> list[str]:
    """Lay out rows for people: the first line has the names.

    Args:
        rows: at least one; each with the same names.
        columns: of the terminal. What does not fit is laid out as one block of lines a row, with a
            line between: a table whose words are broken cannot be read. None for no limit.
    """
    names = [name.upper() for name in rows[0]]
    texts = [[cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    if columns is not None and sum(widths) + 2 * (len(widths) - 1) > columns:
        width = max(map(len, names))
        blocks = [
            [f"{n:{width}}  {text}" for n, text in zip(names, row, strict=True)] for row in texts
        ]
        return [line for block in blocks for line in ("", *block)][1:]
    right = [all(isinstance(row[name], int) for row in rows) for name in rows[0]]
    return [
        "  ".join(
            text.rjust(width) if numbers else text.ljust(width)
            for text, width, numbers in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in (names, *texts)
    ]


def _table(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    sys.stdout.write("\n".join(table_lines(rows, columns)) + "\n")
