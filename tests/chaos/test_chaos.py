"""A few seconds of chaos: a fault of processes, and of links and disks where those can be had."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from array import array
from contextlib import suppress
from pathlib import Path

import pytest

from tests.chaos import disk, network, tools
from tests.chaos.load import UNKNOWN, Sender, judge, number_of

ROOT = Path(__file__).parents[2]


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.chaos", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)  # what takes seconds may take minutes on a busy machine
def test_nothing_is_lost_in_a_few_seconds_of_chaos(tmp_path: Path) -> None:
    faults = ["kill"]
    faults += [] if network.missing() else ["partition"]
    faults += [] if disk.missing() else ["disk_full"]
    result = tmp_path / "result.json"
    done = chaos(
        "--minutes", "0.08", "--every", "1", "--pause-max", "2", "--rate", "300", "--patience", "4",
        "--seed", "4", "--faults", ",".join(faults), "--json", str(result),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(result.read_text())
    assert sum(told["faults"].values()) >= 1
    assert told["acknowledged"] > 0
    assert told["problems"] == []


@pytest.mark.timeout(600)  # as above
def test_a_run_that_is_interrupted_judges_what_it_has(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    command = [sys.executable, "-m", "tests.chaos", "--minutes", "60", "--every", "0.5", "--rate",
               "200", "--pause-max", "300", "--patience", "4", "--seed", "2", "--faults", "pause",
               "--json", str(result)]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr is not None
        assert any(line.startswith("seed") for line in iter(run.stderr.readline, ""))
        with suppress(subprocess.TimeoutExpired):
            run.wait(12)  # until it is in the middle of a fault; judged it is at any time
        run.send_signal(signal.SIGTERM)
        said, complained = run.communicate(timeout=300)
    assert run.returncode == 0, said + complained
    assert "interrupted" in said
    told = json.loads(result.read_text())
    assert (told["interrupted"], told["judged"], told["problems"]) == (True, True, [])


def test_an_unknown_fault_is_refused() -> None:
    done = chaos("--faults", "kill,flood")
    assert done.returncode == 2
    assert "no such fault: flood" in done.stderr


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ([0, 1, 2], None),
        ([0, 2, 1], "1 of producer 0 was acknowledged at 1: 2 is there"),
        ([0, 1, 1, 2], "1 of producer 0 are doubled"),
        ([0, 1], "1 acknowledged of producer 0 are lost"),
        ([0, UNKNOWN, 2], "holds records of others"),
        ([0, 1, 2, 4, 3], "changed their order"),
    ],
)
def test_the_judgement_notices_what_is_wrong(log: list[int], problem: str | None) -> None:
    sender = Sender(0, 0.0, offsets=array("q", [0, 1, 2, UNKNOWN, UNKNOWN]))
    found = judge(sender, array("q", log))
    if problem is None:
        assert found == []
    else:
        assert any(problem in each for each in found), found


@pytest.mark.parametrize(
    ("value", "number"), [(b"1-23", 23), (b"11-23", UNKNOWN), (b"", UNKNOWN), (None, UNKNOWN)]
)
def test_a_record_tells_its_number(value: bytes | None, number: int) -> None:
    assert number_of(value, b"1-") == number


@pytest.mark.skipif(bool(disk.missing()), reason=disk.missing() or "there are small disks")
def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    small = disk.SmallDisk(tmp_path / "disk", 16 << 20)
    try:
        with (tmp_path / "disk" / "synced").open("wb") as file:
            file.write(b"kept")
            file.flush()
            os.fsync(file.fileno())
        small.cut_power()
        assert small.mount_again()
        assert (tmp_path / "disk" / "synced").read_bytes() == b"kept"
        small.fill()
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "disk" / "more").write_bytes(bytes(8192))
        small.empty()
        (tmp_path / "disk" / "more").write_bytes(bytes(8192))
    finally:
        small.close()


@pytest.mark.skipif(bool(tools.no_strace()), reason=tools.no_strace() or "there is strace")
def test_system_calls_of_a_process_fail_while_asked_for(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "f = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)\n"
        "print(f, flush=True)\n"
        "for line in sys.stdin:\n"
        "    try: os.fdatasync(f)\n"
        "    except OSError as error: print(error.errno, flush=True)\n"
        "    else: print('fine', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "file")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def sync() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("again\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        process.stdout.readline()
        calls = tools.FailingCalls(process.pid, "fdatasync", 2, tmp_path / "strace")
        with calls:
            assert [sync(), sync(), sync()] == ["fine", "5", "5"]
        assert calls.failed() == 2
        assert sync() == "fine"
        process.stdin.close()
