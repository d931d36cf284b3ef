"""A few seconds of chaos: a fault of processes, and of links and disks where those can be had."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import disk, network
from tests.chaos.load import Sender, _judge

ROOT = Path(__file__).parents[2]


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_lost_in_a_few_seconds_of_chaos(tmp_path: Path) -> None:
    faults = ["kill"]
    faults += [] if network.missing() else ["partition"]
    faults += [] if disk.missing() else ["disk_full"]
    result = tmp_path / "result.json"
    done = chaos(
        "--minutes", "0.08", "--every", "1", "--pause-max", "2", "--rate", "300",
        "--seed", "4", "--faults", ",".join(faults), "--json", str(result),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(result.read_text())
    assert sum(told["faults"].values()) >= 1
    assert told["acknowledged"] > 0
    assert told["problems"] == []


def test_an_unknown_fault_is_refused() -> None:
    done = chaos("--faults", "kill,flood")
    assert done.returncode == 2
    assert "no such fault: flood" in done.stderr


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ([b"0-0", b"0-1", b"0-2"], None),
        ([b"0-0", b"0-2", b"0-1"], "was acknowledged at 1: 2 is there"),
        ([b"0-0", b"0-1", b"0-1", b"0-2"], "1 of producer 0 are doubled"),
        ([b"0-0", b"0-1"], "1 acknowledged of producer 0 are lost"),
        ([b"0-0", b"1-1", b"0-2"], "holds records of others"),
    ],
)
def test_the_judgement_notices_what_is_wrong(log: list[bytes], problem: str | None) -> None:
    sender = Sender(0, 0.0, acknowledged={0: 0, 1: 1, 2: 2})
    found = _judge(sender, log)
    if problem is None:
        assert found == []
    else:
        assert any(problem in each for each in found), found
