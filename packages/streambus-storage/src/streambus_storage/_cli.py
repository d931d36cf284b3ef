"""The command line: ``python -m streambus_storage verify|dump|stats DIRECTORY``.

Needs nothing but the standard library. Where ``streambus`` is installed, the same is
``streambus storage …``. The tree is opened read-only, so a running program is not disturbed.
Data goes to stdout, messages to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 5 not a tree,
8 damage was found.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from streambus_storage._tree import LSMTree
from streambus_storage.errors import CorruptionError, NotATreeError, StorageError

if TYPE_CHECKING:
    from collections.abc import Sequence

OK, FAILED, NOT_FOUND, CHECK_FAILED = 0, 1, 5, 8


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m streambus_storage", description="Look into a tree, without changing it."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name, text in (
        ("verify", "read and check every block; exit code 8 if one is damaged"),
        ("dump", "print entries in order of their keys"),
        ("stats", "print levels and sizes"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("directory", help="the tree's directory")
        action.add_argument("-o", "--output", choices=("text", "json"), default="text")
        if name == "dump":
            action.add_argument("--prefix", default="", help="only keys that begin with it")
            action.add_argument("-n", "--limit", type=int, default=0, help="at most so many")
            action.add_argument("--reverse", action="store_true", help="the greatest key first")
            action.add_argument("--keys", action="store_true", help="without values")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = build_parser().parse_args(arguments)
    return _run(**vars(given))


def storage(
    action: str,
    directory: str,
    output: str = "text",
    prefix: str = "",
    limit: int = 0,
    reverse: bool = False,
    keys: bool = False,
) -> None:
    """Look into a storage directory, without changing it: verify, dump or stats."""
    arguments = [action, directory, "--output", output]
    if action == "dump":
        arguments += ["--prefix", prefix, "--limit", str(limit)]
        arguments += ["--reverse"] * reverse + ["--keys"] * keys
    raise SystemExit(main(arguments))


def _run(action: str, directory: str, output: str, **options: object) -> int:
    try:
        with LSMTree.open(directory, create=False, read_only=True) as tree:
            if action == "verify":
                return _verify(tree, output)
            if action == "dump":
                return _dump(tree, output, **options)  # type: ignore[arg-type]  # by the parser
            return _stats(tree, output)
    except NotATreeError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return NOT_FOUND
    except CorruptionError as exc:
        print(f"damaged: {exc}", file=sys.stderr)
        return CHECK_FAILED
    except StorageError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        return OK


def _verify(tree: LSMTree, output: str) -> int:
    report = tree.verify()
    torn = [tail._asdict() for tail in tree.recovery.torn]
    problems = [problem._asdict() for problem in report.problems]
    if output == "json":
        shown = {
            "tables": report.tables,
            "blocks": report.blocks,
            "entries": report.entries,
            "bytes": report.bytes,
            "log_records": tree.recovery.records,
            "torn": torn,
            "problems": problems,
        }
        print(json.dumps(shown))
    else:
        print(
            f"{report.tables} tables, {report.blocks} blocks, {report.entries} entries, "
            f"{report.bytes} bytes; {tree.recovery.records} records in the log"
        )
        for tail in tree.recovery.torn:
            print(
                f"{tail.path} at byte {tail.offset}: {tail.dropped_bytes} bytes were never "
                f"durable: {tail.reason}"
            )
        for problem in report.problems:
            print(f"damaged: {problem.path} at byte {problem.offset}: {problem.reason}")
        print("damage was found" if report.problems else "all is well")
    return CHECK_FAILED if report.problems else OK


def _dump(tree: LSMTree, output: str, *, prefix: str, limit: int, reverse: bool, keys: bool) -> int:
    wanted = prefix.encode("utf-8", "surrogateescape")
    for number, (key, value) in enumerate(tree.scan(prefix=wanted, reverse=reverse), 1):
        if output == "json":
            row = {"key": key.hex()} if keys else {"key": key.hex(), "value": value.hex()}
            print(json.dumps(row))
        else:
            print(_shown(key) if keys else f"{_shown(key)}\t{_shown(value)}")
        if number == limit:
            break
    return OK


def _shown(data: bytes) -> str:
    """Return bytes as text with escapes, as in a Python literal without its quotes."""
    return repr(data)[2:-1]


def _stats(tree: LSMTree, output: str) -> int:
    stats = tree.stats()
    if output == "json":
        print(json.dumps(dataclasses.asdict(stats)))
        return OK
    print(f"{'level':>5} {'tables':>7} {'bytes':>15} {'entries':>12} {'deletes':>10}")
    for row in stats.levels:
        print(
            f"{row.level:>5} {row.tables:>7} {row.bytes:>15} {row.entries:>12} {row.tombstones:>10}"
        )
    print(f"last sequence {stats.last_sequence}, {stats.range_deletes} range deletes in force,")
    print(f"{tree.recovery.records} records ({tree.recovery.bytes} bytes) in the log")
    return OK
