"""The README's Python runs as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "packages" / "streambus-broker" / "README.md"


def run(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_examples_of_the_readme_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    embedded, fixture = blocks
    run("-c", embedded, cwd=tmp_path)
    test = "from streambus_client import Producer\n\n\n" + fixture
    (tmp_path / "test_mine.py").write_text(test, encoding="utf-8")
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
