"""Every example of the package's README runs as it stands, warnings being errors."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "packages" / "streambus-storage" / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
SAID = ["it works\n", r"1,000 durable writes by \d+ syncs\n"]


@pytest.mark.parametrize(("number", "said"), list(enumerate(SAID)))
def test_example_runs(number: int, said: str, tmp_path: Path) -> None:
    assert len(EXAMPLES) == len(SAID)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLES[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(said + "$", done.stdout)
