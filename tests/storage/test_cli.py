"""The command line, run as a function and once as a process."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from streambus_storage import LSMTree
from streambus_storage._cli import main, run_arguments


@pytest.fixture
def directory(tmp_path: Path) -> str:
    path = str(tmp_path / "tree")
    with LSMTree.open(path) as tree:
        for number in range(10):
            tree.put(b"k%d" % number, b"value \xff %d" % number)
        tree.flush()
        tree.put(b"later", b"")
    return path


def test_verify_counts_and_finds_damage(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", directory]) == 0
    assert "all is well" in capsys.readouterr().out
    assert main(["verify", directory, "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["entries"], report["log_records"], report["problems"]) == (10, 1, [])
    [table] = Path(directory).glob("*.sst")
    data = bytearray(table.read_bytes())
    data[5] ^= 1
    table.write_bytes(data)
    assert main(["verify", directory]) == 8
    shown = capsys.readouterr().out
    assert f"damaged: {table} at byte 0" in shown
    assert main(["dump", directory]) == 8
    assert f"damaged: {table}" in capsys.readouterr().err
    table.unlink()
    for action in ("verify", "dump", "stats"):
        assert main([action, directory]) == 8
        said = capsys.readouterr()
        assert (said.out, said.err) == ("", f"damaged: {table} at byte 0: the table is missing\n")


def test_dump_prints_text_or_json(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", directory, "--prefix", "k", "--limit", "2", "--reverse"]) == 0
    assert capsys.readouterr().out == "k9\tvalue \\xff 9\nk8\tvalue \\xff 8\n"
    assert main(["dump", directory, "--keys"]) == 0
    assert capsys.readouterr().out.split() == [*(f"k{n}" for n in range(10)), "later"]
    assert main(["dump", directory, "-o", "jsonl", "-n", "2"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [bytes.fromhex(row["value"]) for row in rows] == [b"value \xff 0", b"value \xff 1"]
    for limit, count in (("0", 0), ("1", 1), ("3", 3), ("99", 11)):
        assert main(["dump", directory, "-o", "json", "-n", limit, "--keys"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert len(shown) == count
        assert shown[:1] == [{"key": b"k0".hex()}][:count]


def test_stats_prints_levels(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", directory]) == 0
    assert "last sequence 11" in capsys.readouterr().out
    for output in ("json", "jsonl"):
        assert main(["stats", directory, "--output", output]) == 0
        assert json.loads(capsys.readouterr().out)["last_sequence"] == 11


def test_streambus_storage_takes_the_same_arguments(
    directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_arguments(["dump", directory, "--keys", "-n", "1", "--prefix", "k"]) == 0
    assert capsys.readouterr().out == "k0\n"
    with pytest.raises(SystemExit) as caught:
        run_arguments(["dump", directory, "-n", "-1"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "streambus storage dump" in said
    assert "-n/--limit" in said
    [entry] = entry_points(group="streambus.commands", name="storage")
    assert entry.load() is run_arguments


def test_what_is_not_a_tree_is_exit_code_5(tmp_path: Path) -> None:
    assert main(["stats", str(tmp_path)]) == 5
    done = subprocess.run(
        [sys.executable, "-m", "streambus_storage", "stats", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 5
    assert "not a tree" in done.stderr


def test_main_module_does_nothing_when_it_is_only_imported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    importlib.import_module("streambus_storage.__main__")
    shown = capsys.readouterr()
    assert shown.out + shown.err == ""


def test_verify_shows_a_torn_tail_and_what_cannot_be_read_is_exit_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tree"
    with LSMTree.open(str(path)) as tree:
        tree.put(b"k", b"v")
        log = max(path.glob("*.wal"), key=lambda each: each.stat().st_size)
        with log.open("ab") as file:
            file.write(b"half a record")
        assert main(["verify", str(path)]) == 0
        assert "13 bytes were never durable" in capsys.readouterr().out
    assert main(["verify", str(log)]) == 1
    assert "error: " in capsys.readouterr().err


def test_dump_ends_quietly_when_its_reader_has_seen_enough(directory: str) -> None:
    with LSMTree.open(directory) as tree:
        for number in range(5_000):
            tree.put(b"%06d" % number, b"v" * 100)
    dump = subprocess.Popen(
        [sys.executable, "-m", "streambus_storage", "dump", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert dump.stdout is not None
    assert dump.stderr is not None
    assert dump.stdout.readline().startswith(b"000000\t")
    dump.stdout.close()
    said = dump.stderr.read()
    dump.stderr.close()
    assert dump.wait(60) == 0
    assert said == b""


def test_dump_into_a_closed_pipe_is_no_failure(
    directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    said = io.StringIO()
    output = os.fdopen(writer, "w", buffering=1)
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "stderr", said)
    assert main(["dump", directory]) == 0
    assert said.closed, "the interpreter's own complaint at its end is not to be shown"
    with pytest.raises(BrokenPipeError):
        output.close()


def test_interrupted_dump_says_so_by_its_exit_code_alone(directory: str) -> None:
    with LSMTree.open(directory) as tree:
        for number in range(5_000):
            tree.put(b"%06d" % number, b"v" * 100)
    dump = subprocess.Popen(
        [sys.executable, "-m", "streambus_storage", "dump", directory],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert dump.stdout is not None
    assert dump.stdout.readline().startswith(b"000000\t")  # the pipe is full soon: it waits
    dump.send_signal(signal.SIGINT)
    _, said = dump.communicate(timeout=60)
    assert dump.returncode == 130
    assert said == b""


def test_locked_tree_can_be_looked_into(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    with LSMTree.open(directory) as tree:
        tree.put(b"unsynced", b"")
        assert main(["dump", directory, "--prefix", "un"]) == 0
    assert capsys.readouterr().out == "unsynced\t\n"


def test_interrupted_command_ends_without_a_traceback(
    directory: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            signal.raise_signal(signal.SIGINT)
            return len(text)

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Interrupted())
        assert main(["stats", directory]) == 130
    assert capsys.readouterr().err == ""
