"""The broker as a process of its own: signals, exit codes, what it prints, and the demo."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from streambus_broker.demo.run import run_demo
from streambus_protocol import FetchPartition, FetchRequest
from tests.broker.raw import RawClient

if TYPE_CHECKING:
    from pathlib import Path


class Process:
    """One ``python -m streambus_broker``."""

    def __init__(self, directory: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "streambus_broker", "--data-dir", str(directory)]
        command += ["--listen", "127.0.0.1:0", "--http", "off", *flags]
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.popen.stdout is not None
        self.first_line = self.popen.stdout.readline()
        self.address = self.first_line.rpartition(" ")[2].strip()

    def end(self, number: int) -> tuple[int, str]:
        self.popen.send_signal(number)
        _, errors = self.popen.communicate(timeout=60)
        return self.popen.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_was_accepted(tmp_path: Path, number: int) -> None:
    process = Process(tmp_path)
    assert process.first_line.startswith("listening on 127.0.0.1:")
    with RawClient(process.address) as client, RawClient(process.address) as waiting:
        client.create_topic("t")
        for index in range(50):
            client.produce("t", b"%d" % index)
        wanted = (FetchPartition("t", 0, 50, -1, 1000),)
        waiting.send(FetchRequest(30_000, 1, 1000, wanted))
        client.call(FetchRequest(0, 0, 0, ()))
        code, errors = process.end(number)
        assert waiting.receive().partitions[0].high_watermark == 50
    assert code == 0
    events = [json.loads(line) for line in errors.splitlines()]
    assert [event["event"] for event in events] == [
        "broker started",
        "topic created",
        "broker stopped",
    ]
    for event in events:
        assert {"timestamp", "level", "component", "operation"} <= event.keys()
    process = Process(tmp_path)
    with RawClient(process.address) as client:
        assert client.fetch("t", 0).high_watermark == 50
    assert process.end(signal.SIGTERM)[0] == 0


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    for round_number in range(3):
        process = Process(tmp_path)
        with RawClient(process.address) as client:
            if not round_number:
                client.create_topic("t")
            for index in range(100):
                assert client.produce("t", b"v").base_offset == round_number * 100 + index
        process.end(signal.SIGKILL)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--node-id", "0"], 2, "node_id = 0 (flag --node-id): is out of range"),
        (["--listen", "0.0.0.0:0"], 2, "--insecure"),
        (["--config", "absent.toml"], 2, "absent.toml"),
        (["--no-such-flag", "1"], 2, "--no-such-flag"),
        (["--data-dir", "/dev/null/x"], 1, "/dev/null/x"),
    ],
)
def test_a_start_that_cannot_be_says_why(
    tmp_path: Path, flags: list[str], code: int, said: str
) -> None:
    process = Process(tmp_path, *flags)
    _, errors = process.popen.communicate(timeout=60)
    assert process.popen.returncode == code
    assert said in errors
    assert "Traceback" not in errors


def test_the_demo_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"".join(b"line %d\r\n" % number for number in range(20_000)) + b"\n\n\xff\xfe")
    two.write_bytes(b"\n" * 500 + b"no newline")
    assert run_demo([str(one), str(two), str(one)])
    shown = capsys.readouterr().out
    assert "40,507" in shown.replace(".", ",")
    assert "byte for byte" in shown
