"""The import contracts hold, and each of them notices a breach."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.repository.conftest import ROOT

BREACHES = [
    ("streambus_storage", "import streambus_protocol", "streambus_protocol"),
    ("streambus_raft", "import streambus_client", "streambus_client"),
    ("streambus_client", "from streambus_broker import __version__", "streambus_broker"),
    ("streambus_migrate", "import streambus_storage", "streambus_storage"),
    (
        "streambus_broker",
        "from streambus_storage._version import __version__",
        "streambus_storage._version",
    ),
    (
        "streambus_broker",
        "def late() -> None:\n    import streambus_raft._version",
        "streambus_raft._version",
    ),
    (
        "streambus_client",
        "import streambus_protocol._version as version",
        "streambus_protocol._version",
    ),
    ("streambus_migrate", "from streambus_client import _version", "streambus_client._version"),
    ("streambus_protocol", "from time import monotonic", "time"),
]
"""Who breaks a rule, how, and what is imported against it."""

CONTRACTS = [
    "Distributions depend downwards only",
    "The client and migrate know neither engine nor consensus",
    *(
        f"Nobody reaches past the front door of streambus_{name}"
        for name in ("storage", "raft", "protocol", "client")
    ),
    "Decisions have no I/O, clock, thread or dice of their own",
]
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


def test_contracts_notice_every_breach(copied: Path) -> None:
    expected = []
    for number, (package, content, imported) in enumerate(BREACHES):
        folder = f"packages/{package.replace('_', '-')}/src/{package}"
        (copied / folder / f"breach_{number}.py").write_text(content + "\n", encoding="utf-8")
        expected.append(f"{package}.breach_{number} -> {imported}")
    done = lint_imports(copied)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [name for name in CONTRACTS if f"{name} BROKEN" not in done.stdout] == []
    assert [breach for breach in expected if breach not in done.stdout] == []


def test_errors_are_open_to_all(copied: Path) -> None:
    path = copied / "packages/streambus-client/src/streambus_client/_allowed.py"
    path.write_text("import streambus_protocol.errors\n", encoding="utf-8")
    done = lint_imports(copied)
    assert done.returncode == 0, done.stdout
