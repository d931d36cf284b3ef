"""Find the suite for a subject: the command ``simulate raft`` runs ``tests.raft.simulate``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent


def subjects(command: str) -> list[str]:
    """Name the packages that have a suite for ``command``, in alphabetical order."""
    return sorted(
        path.parent.name for path in TESTS.glob(f"*/{command}.py") if path.parent.name != "commands"
    )


def dispatch(command: str, arguments: list[str]) -> int:
    """Run ``tests.<subject>.<command>.main`` with the remaining arguments; return 2 on misuse."""
    known = subjects(command)
    if not arguments or arguments[0] not in known:
        print(f"usage: {command} {{{'|'.join(known)}}} [OPTION ...]", file=sys.stderr)
        return 2
    module = importlib.import_module(f"tests.{arguments[0]}.{command}")
    result: int = module.main(arguments[1:])
    return result
