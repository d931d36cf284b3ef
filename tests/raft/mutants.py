"""``hatch run mutants raft [NAME ...] [--table FILE]``: is every seeded bug found?

Each mutant is the core with one change, made to a module's source while it is imported, in a
process of its own. The simulator, or where it cannot get there the named test, has to notice within
60 CPU seconds. The list is in ``mutant_list``; the table goes to ``docs/raft-mutants.md``.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.raft.mutant_list import MUTANTS, Mutant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import ModuleType

CPU_SECONDS_MAX = 60
PACKAGE = "streambus_raft"
TABLE = Path(__file__).resolve().parents[2] / "docs" / "raft-mutants.md"


class _PatchingLoader(importlib.machinery.SourceFileLoader):
    """Loads one module with its source changed, never from or to the byte-code cache."""

    def __init__(self, name: str, path: str, mutant: Mutant) -> None:
        super().__init__(name, path)
        self._mutant = mutant

    def get_code(self, fullname: str) -> Any:
        source = Path(self.path).read_text(encoding="utf-8")
        return compile(patched(source, self._mutant), self.path, "exec")


class _PatchingFinder(importlib.abc.MetaPathFinder):
    """Finds the mutant's module before anybody else does."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != f"{PACKAGE}.{self._mutant.module}" or not path:
            return None
        file = str(Path(next(iter(path))) / f"{self._mutant.module}.py")
        loader = _PatchingLoader(fullname, file, self._mutant)
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


def patched(source: str, mutant: Mutant) -> str:
    """The source with the mutant's one change; the place must be found exactly once."""
    if source.count(mutant.old) != 1:
        raise LookupError(f"{mutant.name}: {source.count(mutant.old)} places in {mutant.module}")
    return source.replace(mutant.old, mutant.new)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mutant."""

    mutant: Mutant
    found: bool
    cpu_seconds: float
    how: str


def hunt(mutant: Mutant) -> int:
    """In a process of its own: 1 if the mutant is noticed, 0 if not."""
    sys.meta_path.insert(0, _PatchingFinder(mutant))
    if mutant.test is not None:
        import pytest

        code = pytest.main(["-q", "-x", "--no-header", "-p", "no:cacheprovider", mutant.test])
        print(f"\n{mutant.test.partition('::')[2]} fails" if code == 1 else f"pytest: {code}")
        return 1 if code == 1 else 0
    from streambus_raft.testing import Simulation, plan_of

    seed = 0
    while time.process_time() < CPU_SECONDS_MAX:
        try:
            Simulation(plan_of(seed)).run()
        except Exception as exc:  # noqa: BLE001  # whatever goes wrong is what is looked for
            print(f"seed {seed}: {type(exc).__name__}: {str(exc).splitlines()[0][:110]}")
            return 1
        seed += 1
    print(f"{seed} seeds hold")
    return 0


def run(mutant: Mutant) -> Outcome:
    """Hunt a mutant in a fresh process, and tell how it went."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.run(
        [sys.executable, "-m", "tests.raft.mutants", "--hunt", mutant.name],
        capture_output=True,
        text=True,
        check=False,
        timeout=CPU_SECONDS_MAX * 20,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    lines = (child.stdout.strip() or child.stderr.strip() or "nothing said").splitlines()
    return Outcome(
        mutant, child.returncode == 1 and "LookupError" not in child.stderr, used, lines[-1]
    )


def table(outcomes: Iterable[Outcome], earlier: str) -> str:
    """The record as a document; rows of mutants that were not hunted now are kept as they were."""
    rows = {name: line for line in earlier.splitlines() if (name := _row_name(line))}
    for outcome in outcomes:
        mutant = outcome.mutant
        how = outcome.how.replace("|", "\\|")
        rows[mutant.name] = (
            f"| {mutant.name} (`{mutant.module}`) | {mutant.effect} |"
            f" {'yes' if outcome.found else '**no**'} | {outcome.cpu_seconds:.1f} | {how} |"
        )
    lines = [rows[mutant.name] for mutant in MUTANTS if mutant.name in rows]
    found = sum(1 for line in lines if "| yes |" in line)
    head = [
        "# Seeded bugs of the Raft core",
        "",
        "Made by `hatch run mutants raft --table`. Each row is the core with one change to its",
        "source; the simulator, running seed after seed from 0, or the named test has to notice it",
        f"within {CPU_SECONDS_MAX} CPU seconds. Found: {found} of {len(lines)}.",
        "",
        "| change | what it breaks | found | CPU s | by |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *lines]) + "\n"


def _row_name(line: str) -> str | None:
    """Which mutant a line of the table is about."""
    name = line.removeprefix("| ").partition(" (`")[0]
    return name if line.startswith("| ") and any(name == each.name for each in MUTANTS) else None


def main(arguments: list[str]) -> int:
    """Hunt them all, or those named; 0 if every one is found, else 1."""
    parser = argparse.ArgumentParser(prog="mutants raft", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--hunt", help=argparse.SUPPRESS)
    parser.add_argument("--table", action="store_true", help=f"write them into {TABLE.name}")
    options = parser.parse_args(arguments)
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    if options.hunt:
        return hunt(by_name[options.hunt])
    outcomes = []
    for name in options.names or by_name:
        outcome = run(by_name[name])
        outcomes.append(outcome)
        verdict = "found " if outcome.found else "MISSED"
        print(f"{verdict} {outcome.cpu_seconds:6.1f} s  {name}: {outcome.how}", flush=True)
        if options.table:
            earlier = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
            TABLE.write_text(table([outcome], earlier), encoding="utf-8")
    found = sum(1 for outcome in outcomes if outcome.found)
    print(f"{found} of {len(outcomes)} found")
    return 0 if found == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
