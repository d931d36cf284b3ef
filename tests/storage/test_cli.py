"""The command line, run as a function and once as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from streambus_storage import LSMTree
from streambus_storage._cli import main, storage


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
    table.unlink()
    assert main(["verify", directory]) != 0


def test_dump_prints_text_or_json(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dump", directory, "--prefix", "k", "--limit", "2", "--reverse"]) == 0
    assert capsys.readouterr().out == "k9\tvalue \\xff 9\nk8\tvalue \\xff 8\n"
    assert main(["dump", directory, "--keys"]) == 0
    assert capsys.readouterr().out.split() == [*(f"k{n}" for n in range(10)), "later"]
    assert main(["dump", directory, "-o", "json", "-n", "1"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert bytes.fromhex(row["value"]) == b"value \xff 0"
    assert main(["dump", directory, "-o", "json", "-n", "1", "--keys"]) == 0
    assert json.loads(capsys.readouterr().out) == {"key": b"k0".hex()}


def test_stats_prints_levels(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", directory]) == 0
    assert "last sequence 11" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        storage("stats", directory, output="json")
    assert caught.value.code == 0
    assert json.loads(capsys.readouterr().out)["last_sequence"] == 11
    with pytest.raises(SystemExit):
        storage("dump", directory, keys=True, limit=1, prefix="k")
    assert capsys.readouterr().out == "k0\n"


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
