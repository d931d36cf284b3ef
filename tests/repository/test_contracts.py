"""The import contracts hold, and each of them notices a breach."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.repository.conftest import ROOT

BREACHES = {
    "a leaf imports a leaf": (
        "streambus-storage/src/streambus_storage/_breach.py",
        "import streambus_protocol\n",
        "Distributions depend downwards only",
    ),
    "a leaf imports upwards": (
        "streambus-raft/src/streambus_raft/_breach.py",
        "import streambus_client\n",
        "Distributions depend downwards only",
    ),
    "the client imports the broker": (
        "streambus-client/src/streambus_client/_breach.py",
        "from streambus_broker import __version__\n",
        "Distributions depend downwards only",
    ),
    "migrate imports the engine": (
        "streambus-migrate/src/streambus_migrate/breach.py",
        "import streambus_storage\n",
        "The client and migrate know neither engine nor consensus",
    ),
    "the broker reaches into the engine": (
        "streambus-broker/src/streambus_broker/breach.py",
        "from streambus_storage._version import __version__\n",
        "Nobody reaches past the front door of streambus_storage",
    ),
    "the broker reaches into the Raft library": (
        "streambus-broker/src/streambus_broker/breach.py",
        "def late() -> None:\n    import streambus_raft._version\n",
        "Nobody reaches past the front door of streambus_raft",
    ),
    "the client reaches into the protocol": (
        "streambus-client/src/streambus_client/_breach.py",
        "import streambus_protocol._version as version\n",
        "Nobody reaches past the front door of streambus_protocol",
    ),
    "migrate reaches into the client": (
        "streambus-migrate/src/streambus_migrate/breach.py",
        "from streambus_client import _version\n",
        "Nobody reaches past the front door of streambus_client",
    ),
}
SOURCES = sorted((ROOT / "packages").glob("*/src"))


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts over the copy under ``root``, not over what is installed."""
    sources = [str(root / path.relative_to(ROOT)) for path in SOURCES]
    program = (
        f"import sys; sys.path[:0] = {sources!r}; sys.argv[1:] = ['--no-cache'];"
        "from importlinter.cli import lint_imports_command as main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Copy sources and contracts, so that a breach is never written into the real tree."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in SOURCES:
        shutil.copytree(
            path,
            tmp_path / path.relative_to(ROOT),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return tmp_path


def test_contracts_are_kept() -> None:
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    done = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("breach", BREACHES)
def test_contracts_notice(breach: str, copied: Path) -> None:
    path, content, contract = BREACHES[breach]
    (copied / "packages" / path).write_text(content, encoding="utf-8")
    done = lint_imports(copied)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{contract} BROKEN" in done.stdout, done.stdout


def test_errors_are_open_to_all(copied: Path) -> None:
    path = copied / "packages/streambus-client/src/streambus_client/_allowed.py"
    path.write_text("import streambus_protocol.errors\n", encoding="utf-8")
    done = lint_imports(copied)
    assert done.returncode == 0, done.stdout
