"""Every distribution, built once for the tests that look at or install it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DISTRIBUTIONS = sorted(path.parent.name for path in ROOT.glob("packages/*/pyproject.toml"))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build a wheel from the sdist of each distribution, as an index would get them."""
    folders = {}
    for name in DISTRIBUTIONS:
        folder = tmp_path_factory.mktemp(name)
        done = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
            cwd=ROOT / "packages" / name,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{name} does not build:\n{done.stdout}{done.stderr}"
        folders[name] = folder
    return folders
