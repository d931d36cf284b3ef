"""Show conversions: as a table for people, as JSON for programs, as TOML for StreamBus."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import tomli_w
from rich.table import Table as RichTable
from rich.text import Text

from streambus_migrate.config.conversion import DEFAULT_LINE, Conversion, Finding, printable
from streambus_migrate.config.rules import Fate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from streambus_migrate.config.values import Value

_STYLES = {
    Fate.SAME: "green",
    Fate.CONVERTED: "green",
    Fate.NOT_NEEDED: "dim",
    Fate.OVERRIDDEN: "dim",
    Fate.NOT_SUPPORTED: "yellow",
    Fate.UNKNOWN: "red",
    Fate.INVALID: "red",
}
_USAGE = {
    "server": "streambus serve --config FILE",
    "topic": "streambus topic create TOPIC --config NAME=VALUE …",
    "producer": "Producer(**settings)",
    "consumer": "Consumer(**settings)",
}


def as_object(path: str, conversion: Conversion) -> dict[str, Any]:
    """Represent one conversion as JSON does."""
    return {
        "file": path,
        "entity": conversion.name or None,
        "kind": conversion.kind,
        "complete": conversion.complete,
        "counts": dict(Counter(str(finding.fate) for finding in conversion.findings)),
        "settings": conversion.settings,
        "findings": [finding_object(finding) for finding in conversion.findings],
    }


def finding_object(finding: Finding) -> dict[str, Any]:
    """Represent one finding as JSON does; ``line`` is null for a default of Kafka."""
    return {
        "line": finding.line or None,
        "key": finding.key,
        "given": finding.given,
        "hidden": finding.given is None,
        "fate": str(finding.fate),
        "setting": finding.setting or None,
        "value": finding.value,
        "reason": finding.reason,
    }


def as_json(results: Sequence[tuple[str, Conversion]]) -> str:
    """One JSON document: a list with an object for each file or entity."""
    objects = [as_object(path, conversion) for path, conversion in results]
    return json.dumps(objects, indent=2, ensure_ascii=True)


def as_json_lines(results: Sequence[tuple[str, Conversion]]) -> Iterator[str]:
    """One JSON object for each finding, with its file, entity and kind."""
    for path, conversion in results:
        source = {"file": path, "entity": conversion.name or None, "kind": conversion.kind}
        for finding in conversion.findings:
            yield json.dumps(source | finding_object(finding), ensure_ascii=True)


def print_table(console: Console, path: str, conversion: Conversion) -> None:
    """Print one table: a row for each finding. Text of the file is never taken for markup."""
    title = printable(f"{path} {conversion.name}".strip())
    table = RichTable(title=Text(f"{title} ({conversion.kind} settings)"), title_justify="left")
    table.add_column("line", justify="right")
    table.add_column("Kafka", overflow="fold")
    table.add_column("fate", no_wrap=True)
    table.add_column("StreamBus", overflow="fold")
    table.add_column("why", overflow="fold")
    for finding in conversion.findings:
        line = "-" if finding.line == DEFAULT_LINE else str(finding.line)
        given = "(hidden)" if finding.given is None else finding.given
        setting = f"{finding.setting} = {_toml(finding.value)}" if finding.setting else ""
        table.add_row(
            Text(line),
            Text(f"{finding.key} = {given}", overflow="fold"),
            Text(str(finding.fate), style=_STYLES[finding.fate]),
            Text(setting),
            Text(finding.reason),
        )
    console.print(table)


def summary(conversion: Conversion) -> str:
    """Count the fates in one line."""
    counts = Counter(finding.fate for finding in conversion.findings)
    parts = [f"{counts[fate]} {fate}" for fate in Fate if counts[fate]]
    return ", ".join(parts) or "nothing to convert"


def as_toml(path: str, conversion: Conversion) -> str:
    """Write the settings as TOML, and as comments everything that has no counterpart."""
    source = printable(f"{path} {conversion.name}".strip())
    lines = [
        f"# StreamBus {conversion.kind} settings, converted from Kafka: {source}",
        f"# For: {_USAGE[conversion.kind]}",
        "",
    ]
    converted = {finding.setting: finding for finding in conversion.findings if finding.setting}
    for name, value in conversion.settings.items():
        finding = converted[name]
        origin = f"line {finding.line}" if finding.line else "not in the file"
        lines.append(f"# {printable(finding.key)} ({origin})" + _because(finding.reason))
        lines.append(f"{name} = {_toml(value)}")
    lost = [finding for finding in conversion.findings if finding.fate.lost]
    if lost:
        lines += ["", "# Without a counterpart:"]
        lines += [
            f"# line {item.line}: {printable(item.key)} ({item.fate})" + _because(item.reason)
            for item in lost
        ]
    return "\n".join(lines) + "\n"


def _because(reason: str) -> str:
    return f": {printable(reason)}" if reason else ""


def _toml(value: Value | None) -> str:
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
