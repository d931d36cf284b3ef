"""The figures that are written down are those that were measured."""

from __future__ import annotations

from bench.tables import README, filled


def test_tables_of_the_benchmarks_are_those_of_the_results() -> None:
    text = README.read_text(encoding="utf-8")
    assert "<!-- table " in text
    assert filled(text) == text, "run python -m bench.tables after a benchmark"
