"""The command: what is written where, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streambus_migrate.cli import app

FILES = Path(__file__).parent / "files"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["config", *arguments])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("topic.properties", 0),
        ("producer.properties", 7),
        ("consumer.properties", 7),
        ("zookeeper-broker.properties", 7),
        ("kraft-server.properties", 7),
    ],
)
@pytest.mark.parametrize("output_format", ["table", "json", "jsonl"])
def test_config_of_realistic_files(name: str, code: int, output_format: str) -> None:
    result = run(str(FILES / name), "-o", output_format)
    assert result.exit_code == code, result.output
    assert "not-to-be-printed" not in result.output
    keys = {
        line.partition("=")[0].strip()
        for line in (FILES / name).read_text(encoding="utf-8").splitlines()
        if "=" in line and not line.startswith("#")
    }
    flat = "".join(result.stdout.split())
    assert all(key in flat for key in keys), "a key is not accounted for"


def test_config_json_is_one_document() -> None:
    paths = [str(FILES / "topic.properties"), str(FILES / "producer.properties")]
    result = run(*paths, "-o", "json")
    topic, producer = json.loads(result.stdout)
    assert (topic["kind"], topic["complete"]) == ("topic", True)
    assert topic["settings"]["retention_ms"] == 86_400_000
    assert (producer["kind"], producer["complete"]) == ("producer", False)
    assert {item["fate"] for item in producer["findings"]} >= {"converted", "not supported"}


def test_config_json_lines_are_findings() -> None:
    result = run(str(FILES / "topic.properties"), "-o", "jsonl")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 9))
    assert all(line["file"].endswith("topic.properties") for line in lines)


def test_config_output_is_toml_that_names_what_is_missing(tmp_path: Path) -> None:
    written = tmp_path / "broker.toml"
    result = run(str(FILES / "kraft-server.properties"), "--output", str(written))
    assert result.exit_code == 7
    text = written.read_text(encoding="utf-8")
    assert tomllib.loads(text)["default_retention_ms"] == 604_800_000
    assert "# line 27: ssl.keystore.password (not supported)" in text
    assert "not-to-be-printed" not in text
    assert list(tmp_path.iterdir()) == [written]


def test_config_output_is_never_overwritten_unasked(tmp_path: Path) -> None:
    written = tmp_path / "topic.toml"
    written.write_text("mine", encoding="utf-8")
    source = str(FILES / "topic.properties")
    assert run(source, "--output", str(written)).exit_code == 6
    assert written.read_text(encoding="utf-8") == "mine"
    assert run(source, "--output", str(written), "--yes").exit_code == 0
    assert tomllib.loads(written.read_text(encoding="utf-8"))["compression"] == "zstd"


def test_config_output_holds_one_thing(tmp_path: Path) -> None:
    source = str(FILES / "topic.properties")
    result = run(source, source, "--output", str(tmp_path / "x"))
    assert result.exit_code == 2
    assert "there are 2" in result.stderr
    result = run(source, "--output", "json")
    assert result.exit_code == 2
    assert "-o json" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_config_wrong_usage_and_missing_files(tmp_path: Path) -> None:
    assert run().exit_code == 2
    assert run("--kind", "broker", "x").exit_code == 2
    missing = run(str(FILES / "topic.properties"), str(tmp_path / "missing"))
    assert missing.exit_code == 5
    assert missing.stdout == "", "nothing is shown before every file was read"
    ambiguous = tmp_path / "a.properties"
    ambiguous.write_text("bootstrap.servers=a:1\n", encoding="utf-8")
    result = run(str(ambiguous))
    assert result.exit_code == 2
    assert "--kind" in result.stderr
    assert run(str(ambiguous), "--kind", "consumer").exit_code == 0
    broken = tmp_path / "b.properties"
    broken.write_bytes(b"retention.ms=\\u1\n")
    assert run(str(broken)).exit_code == 1
    assert run(str(tmp_path)).exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_config_forbidden_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.properties"
    path.write_text("retention.ms=1", encoding="utf-8")
    path.chmod(0)
    assert run(str(path)).exit_code == 4


def test_config_hostile_names_are_no_markup(tmp_path: Path) -> None:
    path = tmp_path / "[bold]x[nope]\x1b[31m.properties"
    path.write_text("retention.ms=1\nclient.id=[red]x[/nope]\n", encoding="utf-8")
    result = run(str(path), "--kind", "topic", "--output", str(tmp_path / "o.toml"))
    assert "\x1b" not in result.output
    assert tomllib.loads((tmp_path / "o.toml").read_text(encoding="utf-8")) == {"retention_ms": 1}


def test_installed_command_runs(tmp_path: Path) -> None:
    command = Path(sysconfig.get_path("scripts")) / "streambus-migrate"
    done = subprocess.run(
        [command, "config", FILES / "topic.properties"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "retention_ms = 86400000" in done.stdout
    assert "1 same" not in done.stdout, "messages go to the other stream"
