"""The benchmark table: ratios, verdicts, medians and the JSON that others read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.report import (
    Report,
    Row,
    Sample,
    Target,
    at_least,
    at_most,
    compare,
    interleave,
    machine,
    number,
    percentile,
    ratio_at_least,
    ratio_at_most,
)


@pytest.mark.parametrize(
    ("target", "figure", "baseline", "met"),
    [
        (at_most(10), 10, None, True),
        (at_most(10), 10.1, None, False),
        (at_least(10), 9.9, None, False),
        (ratio_at_most(1), 2, 2, True),
        (ratio_at_most(1), 3, 2, False),
        (ratio_at_least(0.6), 0.5, 1, False),
        (ratio_at_most(1), 3, None, None),
        (ratio_at_most(1), 3, 0, None),
        (None, 3, 1, None),
    ],
)
def test_row_verdict(
    target: Target | None, figure: float, baseline: float | None, met: bool | None
) -> None:
    assert Row("x", figure, "µs", "b", baseline, target).met is met


def test_interleave_takes_turns_and_keeps_every_repeat() -> None:
    order: list[str] = []

    def contender(name: str, value: float) -> Callable[[], float]:
        def measure() -> float:
            order.append(name)
            return value + order.count(name)

        return measure

    samples = interleave({"a": contender("a", 0), "b": contender("b", 10)}, repeats=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert samples["a"].values == (1, 2, 3)
    row = compare("x", samples, "µs", ours="a", baseline="b", target=ratio_at_most(0.2))
    assert (row.figure, row.baseline, row.met) == (2, 12, True)


def test_percentile_is_a_value_that_occurred() -> None:
    values = list(range(1, 101))
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.999) == 100
    assert percentile([7], 0.01) == 7


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (1234567, "1,234,567"),
        (1.5, "1.5"),
        (0.06549, "0.0655"),
        (100, "100"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_report_saves_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("demo", "A demo", {"entries": 10}, seed=7)
    report.add(
        Row("put", 2.0, "µs", "RocksDB", 4.0, ratio_at_most(1), sample=Sample((1.0, 2.0, 3.0))),
        Row("stall", 11.0, "ms", target=at_most(10)),
    )
    assert report.finish(save=False) == 0
    assert report.finish(save=False, strict=True) == 1
    shown = capsys.readouterr().out
    assert "RocksDB 4" in shown
    assert "0.5 ×" in shown
    assert "missed" in shown
    saved = json.loads(report.save(tmp_path).read_text(encoding="utf-8"))
    assert [(row["what"], row["ratio"], row["met"]) for row in saved["rows"]] == [
        ("put", 0.5, True),
        ("stall", None, False),
    ]
    assert saved["rows"][0]["repeats"] == [1.0, 2.0, 3.0]
    assert saved["seed"] == 7
    assert not list(tmp_path.glob("*.tmp"))


def test_parts_of_a_suite_can_be_measured_alone(tmp_path: Path) -> None:
    def rows(figure: float, *parts: str) -> list[Row]:
        return [Row(f"{part} {kind}", figure, "µs", part=part) for part in parts for kind in "ab"]

    first = Report("demo", options={"entries": 10})
    first.add(*rows(1.0, "points", "log"))
    first.save(tmp_path)
    second = Report("demo", options={"entries": 20})
    second.add(*rows(2.0, "growth", "points"))
    saved = json.loads(second.save(tmp_path).read_text(encoding="utf-8"))
    assert [(row["what"], row["figure"]) for row in saved["rows"]] == [
        *(("points a", 2.0), ("points b", 2.0)),
        *(("log a", 1.0), ("log b", 1.0)),
        *(("growth a", 2.0), ("growth b", 2.0)),
    ]
    options = {part: run["options"]["entries"] for part, run in saved["parts"].items()}
    assert options == {"points": 20, "log": 10, "growth": 20}


def test_machine_names_no_host_and_no_path() -> None:
    facts = machine()
    assert facts["cores"] >= 1
    assert not any("/" in str(value) for name, value in facts.items() if name != "cpu")
