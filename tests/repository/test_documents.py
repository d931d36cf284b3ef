"""Documents: every relative link leads somewhere, fragments are well-formed, the log builds."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.repository import settings_document
from tests.repository.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$", re.MULTILINE)
FRAGMENT = re.compile(r"[a-z0-9-]+\.(added|changed|fixed)\.md")
SKIPPED = {".tools", ".git", "node_modules", ".venv", "build", "dist"}


def documents() -> list[Path]:
    return sorted(
        path for path in ROOT.rglob("*.md") if not SKIPPED & set(path.relative_to(ROOT).parts)
    )


def anchors(text: str) -> set[str]:
    """Name the headings as the usual renderers do: lower case, punctuation out, dashes."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def broken_links(path: Path, text: str) -> list[str]:
    """List the links of one document that lead nowhere; the network is not asked."""
    broken = []
    for groups in LINK.findall(FENCE.sub("", text)):
        link = groups[0] or groups[1]
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target) if target else path
        if not file.exists():
            broken.append(f"{path.name}: {link}: no such file")
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text("utf-8")):
            broken.append(f"{path.name}: {link}: no such heading")
    return broken


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("[a](missing.md)", 1),
        ("# One two!\n[a](#one-two)", 0),
        ("# One\n[a](#two)", 1),
        ("![picture](missing.svg)", 1),
        ("[a](https://example.org/x)", 0),
        ("```\n[a](missing.md)\n```", 0),
        ("[a](document.md#again-1)\n# Again\n# Again", 0),
    ],
)
def test_broken_links_are_noticed(text: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "document.md"
    path.write_text(text, encoding="utf-8")
    assert len(broken_links(path, text)) == count


def test_fragments_are_named_and_say_something() -> None:
    for path in (ROOT / "changes").iterdir():
        if path.name in {"template.md.jinja", ".gitignore", "README.md"}:
            continue
        assert FRAGMENT.fullmatch(path.name), f"{path.name}: name it <slug>.added|changed|fixed.md"
        text = path.read_text(encoding="utf-8").strip()
        assert text.endswith("."), f"{path.name}: write whole sentences"


def test_change_log_builds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "0.0.0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert "## 0.0.0" in done.stdout
    entries = [line for line in done.stdout.splitlines() if line.startswith("- ")]
    assert len(entries) == len(list((ROOT / "changes").glob("*.*.md")))
    assert "towncrier release notes start" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_settings_are_described_as_they_are() -> None:
    written = settings_document.DOCUMENT.read_text(encoding="utf-8")
    remedy = "run: hatch run python -m tests.repository.settings_document"
    assert written == settings_document.render(), remedy
