"""The command line: ``python -m streambus_storage verify|dump|stats DIRECTORY``.

Needs nothing but the standard library. Where ``streambus`` is installed, the same is
``streambus storage …``. The tree is opened read-only, so a running program is not disturbed.
Data goes to stdout, messages to stderr. Exit codes: 0 ok, 1 failed, 2 usage, 5 not a tree,
8 damage was found, 130 interrupted.
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
    from collections.abc import Iterator, Sequence

OK, FAILED, NOT_FOUND, CHECK_FAILED, INTERRUPTED = 0, 1, 5, 8, 130

ALONE = "python -m streambus_storage"


def build_parser(program: str = ALONE) -> argparse.ArgumentParser:
    """Return the parser of the command line; ``program`` is what the user typed for it."""
    parser = argparse.ArgumentParser(
        prog=program, description="Look into a tree, without changing it."
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name, text in (
        ("verify", "read and check every block; exit code 8 if one is damaged"),
        ("dump", "print entries in order of their keys"),
        ("stats", "print levels and sizes"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("directory", help="the tree's directory")
        action.add_argument(
            "-o",
            "--output",
            choices=("table", "json", "jsonl"),
            default="table",
            help="how to write it: for eyes, as one JSON value, or as one JSON object a line",
        )
        if name == "dump":
            action.add_argument("--prefix", default="", help="only keys that begin with it")
            action.add_argument(
                "-n", "--limit", type=_count, default=None, help="at most so many entries"
            )
            action.add_argument("--reverse", action="store_true", help="the greatest key first")
            action.add_argument("--keys", action="store_true", help="without values")
    return parser


def _count(text: str) -> int:
    """Parse a number of entries."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of entries")
    return int(text)


def main(arguments: Sequence[str] | None = None, *, program: str = ALONE) -> int:
    """Run the command line; return the exit code."""
    given = build_parser(program).parse_args(arguments)
    return _run(**vars(given))


def run_arguments(arguments: Sequence[str]) -> int:
    """Run as ``streambus storage``; return the exit code."""
    return main(arguments, program="streambus storage")


def _run(action: str, directory: str, output: str, **options: object) -> int:
    try:
        with LSMTree.open(directory, create=False, read_only=True) as tree:
            if action == "verify":
                code = _verify(tree, output)
            elif action == "dump":
                code = _dump(tree, output, **options)  # type: ignore[arg-type]  # by the parser
            else:
                code = _stats(tree, output)
        sys.stdout.flush()  # here, where a reader that has gone is expected
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
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _verify(tree: LSMTree, output: str) -> int:
    report = tree.verify()
    torn = [tail._asdict() for tail in tree.recovery.torn]
    problems = [problem._asdict() for problem in report.problems]
    if output != "table":
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


def _dump(
    tree: LSMTree, output: str, *, prefix: str, limit: int | None, reverse: bool, keys: bool
) -> int:
    wanted = prefix.encode("utf-8", "surrogateescape")
    rows = _rows(tree, output, wanted, reverse=reverse, keys=keys)
    if limit is not None:
        rows = (row for _, row in zip(range(limit), rows, strict=False))
    if output != "json":
        for row in rows:
            print(row)
        return OK
    before = "["
    for row in rows:  # one at a time: a tree may be larger than the memory
        print(f"{before}\n {row}", end="")
        before = ","
    print("[]" if before == "[" else "\n]")
    return OK


def _rows(tree: LSMTree, output: str, prefix: bytes, *, reverse: bool, keys: bool) -> Iterator[str]:
    for key, value in tree.scan(prefix=prefix, reverse=reverse):
        if output != "table":
            yield json.dumps(
                {"key": key.hex()} if keys else {"key": key.hex(), "value": value.hex()}
            )
        else:
            yield _shown(key) if keys else f"{_shown(key)}\t{_shown(value)}"


def _shown(data: bytes) -> str:
    """Return bytes as text with escapes, as in a Python literal without its quotes."""
    return repr(data)[2:-1]


def _stats(tree: LSMTree, output: str) -> int:
    stats = tree.stats()
    if output != "table":
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
