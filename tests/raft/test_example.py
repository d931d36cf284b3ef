"""The example with three processes does what it says: the leader is killed, writing goes on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "packages" / "streambus-raft"


def run(*arguments: str | Path) -> str:
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_three_processes_survive_the_loss_of_the_leader() -> None:
    output = run(PACKAGE / "examples" / "replicated_kv.py")
    assert re.search(r"wrote 100 keys; node [123] leads", output)
    assert "all keys are still there" in output
    assert re.search(r"node [123] is back and knows what it missed", output)


def test_the_readme_example_runs_and_is_short(tmp_path: Path) -> None:
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    match = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert match
    assert len(match[1].splitlines()) < 100
    example = tmp_path / "example.py"
    example.write_text(match[1], encoding="utf-8")
    assert "all is there" in run(example)
