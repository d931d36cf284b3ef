"""Each distribution builds, says the truth about itself, and each leaf works alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest

from tests.repository.conftest import DISTRIBUTIONS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

LEAVES = ["streambus-protocol", "streambus-raft", "streambus-storage"]
UV = (sys.executable, "-m", "uv")
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def wheel_of(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def run(*command: str | Path, cwd: Path, timeout: float = 100) -> str:
    """Run a command without the variables by which this test run could leak into it."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "HATCH", "COVERAGE", "STREAMBUS"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stderr}"
    return done.stdout


def test_six_distributions_are_there() -> None:
    names = ["broker", "client", "migrate", "protocol", "raft", "storage"]
    assert [f"streambus-{name}" for name in names] == DISTRIBUTIONS


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_wheel_holds_the_package_and_its_marks(built: dict[str, Path], name: str) -> None:
    package = name.replace("-", "_")
    with zipfile.ZipFile(wheel_of(built[name])) as wheel:
        files = set(wheel.namelist())
        (metadata_path,) = [path for path in files if path.endswith(".dist-info/METADATA")]
        metadata = message_from_bytes(wheel.read(metadata_path))
    source = ROOT / "packages" / name / "src" / package
    modules = {str(path.relative_to(source.parent)) for path in source.rglob("*.py")}
    assert modules <= files, "a module is missing from the wheel"
    assert f"{package}/py.typed" in files, "without py.typed no type checker looks inside"
    strangers = {path.split("/")[0] for path in files} - {package, metadata_path.split("/")[0]}
    assert not strangers, f"the wheel would also install {strangers}"
    assert any(path.endswith("licenses/LICENSE") for path in files)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "#" in str(metadata.get_payload()), "the README is the description"


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_sdist_builds_again(built: dict[str, Path], name: str, tmp_path: Path) -> None:
    (sdist,) = built[name].glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        # Python 3.11.0 to 3.11.3 know no filters, and need none for what was built a moment ago.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(tmp_path)
    (unpacked,) = tmp_path.iterdir()
    run(
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "-t",
        "wheel",
        "-d",
        tmp_path / "again",
        cwd=unpacked,
    )
    again, before = wheel_of(tmp_path / "again"), wheel_of(built[name])
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(before) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_members_depend_on_each_other_by_ranges(name: str) -> None:
    project = tomllib.loads((ROOT / "packages" / name / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        if requirement.startswith("streambus-"):
            assert re.fullmatch(r"streambus-\w+>=0\.1,<0\.2", requirement), requirement


@pytest.mark.parametrize("name", LEAVES)
def test_leaf_alone_runs_its_readme(built: dict[str, Path], name: str, tmp_path: Path) -> None:
    example = EXAMPLE.search((ROOT / "packages" / name / "README.md").read_text(encoding="utf-8"))
    assert example, f"the README of {name} shows no example"
    environment, work = tmp_path / "venv", tmp_path / "work"
    work.mkdir()
    run(*UV, "venv", "--quiet", environment, cwd=tmp_path)
    python = environment / "bin" / "python"
    wheel = wheel_of(built[name])
    run(*UV, "pip", "install", "--quiet", "--python", python, wheel, cwd=tmp_path)
    installed = run(*UV, "pip", "list", "--format=freeze", "--python", python, cwd=tmp_path)
    ours = [line for line in installed.splitlines() if line.startswith("streambus")]
    assert ours == [f"{name}==0.1.0"], "a leaf stands alone"
    (work / "example.py").write_text(example[1], encoding="utf-8")
    run(python, "-W", "error", "example.py", cwd=work)
