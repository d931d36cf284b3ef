"""The ``streambus`` command against a real broker: data, messages and exit codes.

Most of it runs in this process, with files for the standard streams; what is about processes
(signals, pipes, imports) runs as one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import IO, NamedTuple

import pytest

from streambus_client._cli import BUILT_IN, run
from streambus_client._cli._running import ExitCode, exit_code_for
from streambus_client.errors import error_for
from streambus_protocol import ErrorCode

NewTopic = Callable[..., str]

TIMEOUT_S = 60


class Done(NamedTuple):
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


def streambus(*arguments: str, address: str = "", data: bytes = b"") -> Done:
    """Run the command in this process."""
    with (
        tempfile.TemporaryFile("w+b") as stdin,
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
        pytest.MonkeyPatch.context() as patch,
    ):
        stdin.write(data)
        stdin.seek(0)
        patch.setenv("STREAMBUS_BROKERS", address)
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        code = run(list(arguments))
        return Done(code, _written(stdout), _written(stderr))


def _written(stream: IO[str]) -> bytes:
    stream.flush()
    with open(os.dup(stream.fileno()), "rb") as raw:
        raw.seek(0)
        return raw.read()


def start(*arguments: str, address: str) -> subprocess.Popen[bytes]:
    """Start the command as a process, its streams being pipes."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "streambus_client", "-b", address, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end(process: subprocess.Popen[bytes], data: bytes = b"") -> Done:
    """Give it the rest of its input, and wait."""
    stdout, stderr = process.communicate(data, timeout=TIMEOUT_S)
    return Done(process.returncode, stdout, stderr)


LINES = [
    b"",
    b"\n",
    b"one\n",
    b"no newline at the end",
    b"one\r\ntwo\r\n\r\nthree",
    b"\n\n\nempty lines\n\n",
    b"\xff\xfe\x00 not utf-8 \x80\n\r\xc3\n",
    b"x" * 300_000 + b"\n" + b"y\n",
]


@pytest.mark.parametrize("data", LINES, ids=range(len(LINES)))
def test_lines_come_back_to_the_byte(data: bytes, address: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    sent = streambus("produce", topic, address=address, data=data)
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout == b""
    read = streambus("consume", topic, "-e", address=address)
    assert (read.returncode, read.stdout) == (0, data)


def test_keys_headers_and_format(address: str, new_topic: NewTopic) -> None:
    topic = new_topic(partitions=2)
    sent = streambus(
        *("produce", topic, "-k", r"\t", "-H", "a=1", "-H", "b", "-p", "1", "--acks", "1"),
        address=address,
        data=b"k\tv\tw\nplain\n\t\n",
    )
    assert sent.returncode == 0, sent.stderr
    read = streambus("consume", topic, "-e", "-f", r"%t %p %o [%k] [%v] %h\n", address=address)
    assert read.stdout.decode().splitlines() == [
        f"{topic} 1 0 [k] [v\tw] a=1,b",
        f"{topic} 1 1 [] [plain] a=1,b",
        f"{topic} 1 2 [] [] a=1,b",
    ]
    read = streambus("consume", topic, "-e", "--output", "jsonl", address=address)
    rows = [json.loads(line) for line in read.stdout.splitlines()]
    assert [row["key"] for row in rows] == ["k", None, ""]
    assert rows[0]["headers"] == [["a", "1"], ["b", None]]


@pytest.mark.parametrize("output", ["lines", "jsonl"])
def test_an_offset_beyond_the_end_is_told_and_nothing_is_read(
    address: str, new_topic: NewTopic, output: str
) -> None:
    topic = new_topic(partitions=2)
    assert streambus("produce", topic, "-p", "0", address=address, data=b"a\nb\n").returncode == 0
    read = streambus("consume", topic, "-o", "2", "-e", "--output", output, address=address)
    assert (read.returncode, read.stdout) == (0, b"")
    said = [f"{topic}[1] ends at offset 0; there is no record at 2 yet"]
    assert read.stderr.decode().splitlines() == [f"streambus: {each}" for each in said]
    read = streambus("consume", topic, "-o", "7", "-e", "--output", output, address=address)
    assert (read.returncode, read.stdout) == (0, b"")
    assert len(read.stderr.splitlines()) == 2


def test_places_to_start_and_to_stop(address: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    streambus("produce", topic, address=address, data=b"".join(b"%d\n" % n for n in range(10)))
    for arguments, expected in [
        (["-o", "start", "-n", "2"], [0, 1]),
        (["-o", "7", "-e"], [7, 8, 9]),
        (["-o", "3", "-n", "2"], [3, 4]),
        (["-o", "end", "-e"], []),
        (["-o", "@0", "-n", "1"], [0]),
        (["-o", "@2100-01-01", "-e"], []),
        (["-n", "0"], []),
        (["-p", "0", "-e", "-o", "9"], [9]),
    ]:
        read = streambus("consume", topic, *arguments, address=address)
        assert read.returncode == 0, read.stderr
        assert [int(line) for line in read.stdout.split()] == expected, arguments


def test_topic_commands(address: str, new_topic: NewTopic) -> None:
    topic = new_topic() + "-cli"

    def run_here(*arguments: str) -> Done:
        return streambus("topic", *arguments, address=address)

    assert run_here("create", topic, "--dry-run").returncode == 0
    assert run_here("describe", topic).returncode == 5
    created = run_here("create", topic, "-p", "3", "-c", "retention_ms=60000")
    assert (created.returncode, created.stdout) == (0, b"")
    assert run_here("create", topic).returncode == 6
    assert run_here("create", topic, "--if-not-exists").returncode == 0
    described = json.loads(run_here("describe", topic, "-o", "json").stdout)
    assert len(described["partitions"]) == 3
    assert described["config"]["retention_ms"] == "60000"
    for_people = run_here("describe", topic).stdout.decode()
    assert "-1 (a majority)" in for_people, "what a -1 means is said"
    assert run_here("alter", topic, "-p", "4", "--unset", "retention_ms").returncode == 0
    assert run_here("alter", topic, "-p", "2").returncode == 2
    assert run_here("alter", topic).returncode == 2
    assert run_here("alter", topic, "-c", "bogus=1").returncode == 2
    rows = [json.loads(line) for line in run_here("list", "-o", "jsonl").stdout.splitlines()]
    assert {"topic": topic, "partitions": 4, "replication_factor": 1} in rows
    offsets = json.loads(run_here("offsets", topic, "--at", "0", "-o", "json").stdout)
    assert offsets[3] == {
        "partition": 3,
        "earliest": 0,
        "latest": 0,
        "records": 0,
        "at_time": 0,
    }
    table = run_here("list").stdout.decode()
    assert "\x1b" not in table, "no colour where there is no terminal"
    assert any(line.split() == [topic, "4", "1"] for line in table.splitlines())
    assert run_here("delete", topic, "--dry-run").returncode == 0
    refused = run_here("delete", topic)
    assert refused.returncode == 2
    assert b"--yes" in refused.stderr
    assert run_here("delete", topic, "--yes").returncode == 0
    assert run_here("delete", topic, "--yes").returncode == 5


def test_cluster_commands(address: str) -> None:
    info = json.loads(streambus("cluster", "info", "-o", "json", address=address).stdout)
    assert info["brokers"][0]["controller"]
    healthy = streambus("cluster", "health", address=address)
    assert healthy.returncode == 0, healthy.stderr
    assert b"healthy" in healthy.stderr


def test_bench_measures_and_cleans_up(address: str) -> None:
    done = streambus("bench", "-n", "2000", "--sends", "20", "-o", "json", address=address)
    assert done.returncode == 0, done.stderr
    assert [row["what"] for row in json.loads(done.stdout)] == [
        "send p50",
        "send p99",
        "produce, batched",
        "consume, batches",
    ]
    listed = streambus("topic", "list", address=address)
    assert b"bench-" not in listed.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["bogus"], 2),
        (["--bogus"], 2),
        ([], 2),
        (["topic"], 2),
        (["topic", "bogus"], 2),
        (["topic", "create"], 2),
        (["topic", "create", "t", "-c", "x"], 2),
        (["produce", "t", "--acks", "7"], 2),
        (["produce", "t", "-k", ""], 2),
        (["consume", "t", "-o", "middle"], 2),
        (["consume", "t", "-f", "%z"], 2),
        (["--brokers", "a:b", "topic", "list"], 2),
        (["-b", "127.0.0.1:1", "topic", "list", "--timeout", "0.3"], 3),
        (["-b", "127.0.0.1:1", "consume", "t", "--timeout", "0.3"], 3),
        (["-b", "127.0.0.1:1", "produce", "t", "--timeout", "0.3"], 3),
        (["--help"], 0),
        (["--version"], 0),
        (["topic", "--help"], 0),
        (["consume", "--help"], 0),
    ],
)
def test_exit_codes_without_a_broker(arguments: list[str], code: int) -> None:
    done = streambus(*arguments)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    if code:
        assert done.stderr or not arguments


def test_a_broker_that_is_not_there_is_not_found() -> None:
    assert exit_code_for(error_for(ErrorCode.UNKNOWN_BROKER)) is ExitCode.NOT_FOUND
    assert exit_code_for(error_for(ErrorCode.INVALID_REQUEST)) is ExitCode.FAILED


def test_unknown_topics_are_not_found(address: str) -> None:
    for command in (["consume", "nowhere", "-e"], ["produce", "nowhere"]):
        done = streambus(*command, address=address, data=b"x\n")
        assert done.returncode == 5
        assert b"nowhere" in done.stderr


def test_records_that_are_too_large_are_counted_as_partly_done(
    address: str, new_topic: NewTopic
) -> None:
    topic = new_topic(max_message_bytes=2000)
    failed = streambus("produce", topic, "-H", "a=1", address=address, data=b"x" * 5000 + b"\n")
    assert failed.returncode == 1
    sender = start("produce", topic, address=address)
    assert sender.stdin is not None
    sender.stdin.write(b"fine\n")
    sender.stdin.flush()
    assert streambus("consume", topic, "-n", "1", address=address).stdout == b"fine\n", (
        "a line that was written is sent while the input is still open"
    )
    assert end(sender, b"x" * 5000 + b"\n").returncode == 7


def test_interruption_ends_with_130(address: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    streambus("produce", topic, address=address, data=b"there\n")
    reader = start("consume", topic, address=address)
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"there\n"
    reader.send_signal(signal.SIGINT)
    assert end(reader) == (130, b"", b"")


@pytest.mark.parametrize(
    "arguments", [["consume", "{topic}"], ["consume", "{topic}", "-f", "%v\n"]]
)
def test_reader_that_goes_away_is_met_quietly(
    arguments: list[str], address: str, new_topic: NewTopic
) -> None:
    topic = new_topic()
    streambus("produce", topic, address=address, data=b"line\n" * 100_000)
    reader = start(*(argument.format(topic=topic) for argument in arguments), address=address)
    assert reader.stdout is not None
    assert reader.stdout.readline() == b"line\n"
    reader.stdout.close()
    assert reader.stdin is not None
    assert reader.stderr is not None
    assert reader.stderr.read() == b""
    reader.stderr.close()
    reader.stdin.close()
    assert reader.wait(TIMEOUT_S) == 0


def test_help_imports_neither_typer_nor_commands() -> None:
    program = (
        "import sys; from streambus_client._cli import run; run(['--help']); "
        "heavy = {'typer', 'rich', 'anyio', 'streambus_broker', 'streambus_client.errors'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=TIMEOUT_S, check=True
    )
    assert done.stderr.strip() == b"[]"
    for name in (*BUILT_IN, "serve"):
        assert f"  {name} ".encode() in done.stdout


def test_help_of_every_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    for name in BUILT_IN:
        assert run([name, "--help"]) == 0
        assert f"streambus {name}" in capsys.readouterr().out
