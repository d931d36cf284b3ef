"""The Python of every guide runs, in the order in which it is read."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from streambus_broker import EmbeddedBroker
from streambus_client import Admin
from tests.repository.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = "# not run: "
ADDRESS = "127.0.0.1:9092"


def program(path: Path) -> str:
    """Join the blocks of a guide into one program."""
    blocks = BLOCK.findall(path.read_text(encoding="utf-8"))
    return "\n\n".join(block for block in blocks if not block.startswith(NOT_RUN))


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
GUIDES = [path for path in PAGES if program(path)]
ALONE = [path for path in GUIDES if ADDRESS not in program(path)]
WITH_BROKER = [path for path in GUIDES if ADDRESS in program(path)]


def run(source: str, folder: Path) -> None:
    script = folder / "guide.py"
    script.write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_guide_runs(path: Path, tmp_path: Path) -> None:
    run(program(path), tmp_path)


@pytest.mark.parametrize("path", WITH_BROKER, ids=lambda path: path.stem)
def test_guide_runs_against_a_broker(path: Path, tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        if path.name == "README.md":  # which has created it on the command line before
            with Admin(broker.address) as admin:
                admin.create_topic("orders", partitions=3)
        run(program(path).replace(ADDRESS, broker.address), tmp_path)


def test_blocks_that_are_not_run_say_why() -> None:
    for path in GUIDES:
        for block in BLOCK.findall(path.read_text(encoding="utf-8")):
            if block.startswith("# not run"):
                assert len(block.partition("\n")[0]) > len(NOT_RUN) + 5, path
