"""What the demo found, as a table: figures, and for each check whether it held."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Report:
    """Measured figures and checks; seconds and bytes unless said.

    Attributes:
        checks: What was checked, and the problem found, empty where it held.
    """

    files: int = 0
    brokers: int = 1
    records: int = 0
    sent_bytes: int = 0
    produce_s: float = 0.0
    consume_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    cold_start_s: float = 0.0
    recovery_s: float = 0.0
    memory_bytes: int | None = None
    unanswered: int = 0
    checks: list[tuple[str, str]] = field(default_factory=list)

    @property
    def held(self) -> bool:
        """Whether every check held, and there were some."""
        return bool(self.checks) and not any(problem for _, problem in self.checks)

    def check(self, what: str, holds: bool, problem: str) -> None:
        """Note a check."""
        self.checks.append((what, "" if holds else problem))

    def table(self) -> Table:
        """Write everything as a table."""
        table = Table(title="streambus demo", show_header=False)
        table.add_column("what")
        table.add_column("figure", justify="right")
        for what, figure in self._figures():
            table.add_row(what, figure)
        table.add_section()
        for what, problem in self.checks:
            table.add_row(what, problem or "yes", style="red" if problem else None)
        return table

    def _figures(self) -> list[tuple[str, str]]:
        batched = self.records - len(self.latencies_s)
        rate = batched / self.produce_s if self.produce_s else 0.0
        read = self.records / self.consume_s if self.consume_s else 0.0
        memory = "unknown" if self.memory_bytes is None else f"{self.memory_bytes / 1e6:.0f} MB"
        p50, p99 = (_percentile(self.latencies_s, share) * 1e3 for share in (0.5, 0.99))
        recovery = "recovery: restart to all under way acknowledged"
        if self.brokers > 1:
            recovery = "failover: leader killed to all under way acknowledged"
        return [
            ("brokers", f"{self.brokers:,}"),
            ("files", f"{self.files:,}"),
            ("records (lines)", f"{self.records:,}"),
            ("bytes", f"{self.sent_bytes:,}"),
            ("produced in batches, acks=all (durable)", f"{rate:,.0f} records/s" if rate else "–"),
            ("consumed", f"{read:,.0f} records/s"),
            ("single send, acks=all (durable), p50", f"{p50:.2f} ms"),
            ("single send, acks=all (durable), p99", f"{p99:.2f} ms"),
            ("cold start: exec to first acknowledged record", f"{self.cold_start_s:.2f} s"),
            (recovery, f"{self.recovery_s:.2f} s"),
            ("memory of the broker at the end", memory),
            ("under way at the kill, sent again by the producer", f"{self.unanswered:,}"),
        ]


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
