"""The house style as a test: what a reviewer would otherwise have to say again and again.

Every message names the file, the line and what to do about it.
"""

from __future__ import annotations

import ast
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 550  # about 500: the last function may be finished
FUNCTION_LINES_MAX = 70
LINE_COLUMNS_MAX = 100
VAGUE_MODULES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}

# A suppression says what is suppressed, and why: ``
# ``# type: ignore[code]  # reason``.
BARE_SUPPRESSION = re.compile(
    r"#\s*(?:noqa(?P<codes>:\s*[A-Z]+[0-9]+(?:\s*,\s*[A-Z]+[0-9]+)*)?"
    r"|type:\s*ignore(?P<code>\[[\w,\s-]+\])?"
    r"|pragma:\s*no\s*(?:cover|branch))"
    r"(?P<rest>.*)$"
)
PRAGMA = re.compile(r"\s*#\s*(?:noqa|type: ignore|pragma).*$")  # may hang over, as in ruff
UNFINISHED = re.compile(r"#.*\b(?:TODO|FIXME|XXX|HACK)\b")


def sources() -> list[Path]:
    """Every Python file of the project, in a stable order."""
    return sorted(
        path
        for folder in ("packages", "tests", "bench")
        for path in (ROOT / folder).rglob("*.py")
        if not {"build", "dist", "__pycache__"} & set(path.relative_to(ROOT).parts)
    )


def findings(path: Path, text: str) -> Iterator[str]:
    """Yield what is wrong with one file, each with its remedy."""
    lines = text.splitlines()
    if len(lines) > FILE_LINES_MAX:
        yield (
            f"{path}: {len(lines)} lines, at most {FILE_LINES_MAX}; "
            "one file, one concept: move one into a module of its own"
        )
    if path.stem.strip("_") in VAGUE_MODULES:
        yield f"{path}: a vague name; name the module after the concept it holds"
    for number, line in enumerate(lines, 1):
        columns = len(PRAGMA.sub("", line))
        if columns > LINE_COLUMNS_MAX:
            yield f"{path}:{number}: {columns} columns, at most {LINE_COLUMNS_MAX}; wrap it"
    yield from _function_findings(path, text)
    yield from _comment_findings(path, text)


def _function_findings(path: Path, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body_start = node.body[0]
            docstring = ast.get_docstring(node, clean=False)
            start = (body_start.end_lineno or node.lineno) if docstring else node.lineno
            length = (node.end_lineno or start) - start
            if length > FUNCTION_LINES_MAX and not _is_list(node):
                yield (
                    f"{path}:{node.lineno}: {node.name} has {length} lines without its docstring, "
                    f"at most {FUNCTION_LINES_MAX}; name its parts and call them"
                )


def _is_list(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function only names its parts, as the ``__init__`` of a state does."""
    return all(isinstance(part, ast.Assign | ast.AnnAssign | ast.Expr) for part in node.body)


def _comment_findings(path: Path, text: str) -> Iterator[str]:
    lines = iter(text.splitlines(keepends=True))
    for token in tokenize.generate_tokens(lambda: next(lines, "")):
        if token.type != tokenize.COMMENT:
            continue
        where = f"{path}:{token.start[0]}"
        if UNFINISHED.search(token.string):
            yield f"{where}: unfinished work in a comment; do it, or describe it in an issue"
        match = BARE_SUPPRESSION.search(token.string)
        if match and not re.search(r"\w{3}", match["rest"]):
            yield f"{where}: a suppression without its reason; add it behind the code: '# why'"
        if match and "pragma" not in match[0] and not (match["codes"] or match["code"]):
            yield f"{where}: a suppression of everything; name the code it suppresses"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_source_is_tidy(path: Path) -> None:
    found = list(findings(path.relative_to(ROOT), path.read_text(encoding="utf-8")))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1\n" * 551, "551 lines"),
        ("def f():\n" + "    if x: y = 1\n" * 71, "f has 71 lines"),
        ("x = 1" + " " * 96 + "\n", "101 columns"),
        ("x = 1  # noqa: S101\n", "without its reason"),
        ("x = 1  # noqa - because it is so\n", "of everything"),
        ("x = 1  # type: ignore[attr-defined]\n", "without its reason"),
        ("x = 1  # type: ignore  # the stubs lag behind\n", "of everything"),
        ("x = 1  # TO" + "DO: more\n", "unfinished"),
    ],
)
def test_tidy_names_the_fault(text: str, complaint: str) -> None:
    assert any(complaint in finding for finding in findings(Path("packages/x.py"), text))


@pytest.mark.parametrize(
    "text",
    [
        'def f():\n    """' + "Doc.\n" * 80 + '"""\n    return 1\n',
        "def __init__(self):\n" + "    self.x = 1\n" * 90,
        "x = 1  # noqa: S101 - our own invariant\n",
        "x = 1  # noqa: S101, B008  # typer reads the default\n",
        "x = 1  # type: ignore[attr-defined]  # the stubs lag behind\n",
        "x = '# noqa'\n",
        "x = 1  # type: ignore[attr-defined]  # " + "a long reason " * 8 + "\n",
    ],
)
def test_tidy_lets_good_code_pass(text: str) -> None:
    assert list(findings(Path("packages/x.py"), text)) == []


def test_tidy_refuses_vague_module_names() -> None:
    for name in ("utils.py", "_helpers.py", "manager.py", "common.py"):
        assert any("vague" in finding for finding in findings(Path("packages") / name, ""))
