"""``hatch run mutants cluster [NAME ...] [--tries K] | --table``: is each bug found?

Each mutant is the broker with one change to one module's source, made while scenarios run in a
process of its own. The simulator, running seed after seed, has to notice it within 60 CPU seconds:
a promise broken, a cluster that cannot settle, or an error that nobody handles. The list is in
``mutant_list``.

With ``--tries K`` there are K independent tries of each, those that are recorded already included;
a mutant is given up as soon as it cannot come to 95 % any more. Each try goes into the record,
``docs/cluster-mutants.json``, at once: whoever is interrupted gives the same command again, and
several may work at the same time, each at its ``--part``. ``--table`` makes the table in
``docs/cluster-mutants.md`` of it. Without ``--tries``, each is tried once and nothing is written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.mutant_list import MUTANTS
from tests.cluster.mutant_planting import source_of
from tests.cluster.mutant_tries import Record, Tried, attempt

if TYPE_CHECKING:
    from tests.cluster.mutant import Mutant

CPU_SECONDS_MAX = 60
SHARE_MIN = 0.95
_DOCS = Path(__file__).resolve().parents[2] / "docs"
RECORD, TABLE = _DOCS / "cluster-mutants.json", _DOCS / "cluster-mutants.md"
_BEGIN, _END = "<!-- tries -->\n", "<!-- end of tries -->\n"


def misses_max(tries: int) -> int:
    """How many of so many tries may find nothing."""
    return int(tries * (1 - SHARE_MIN) + 1e-9)


def table(record: Record) -> str:
    """What was tried, as a table with its heading."""
    rows = [(mutant, tried) for mutant in MUTANTS if (tried := record.tried[mutant.name]).tries]
    good = sum(1 for _, tried in rows if is_good(tried))
    made = sum(len(tried.tries) for _, tried in rows)
    lines = [
        f"{len(MUTANTS)} changes, {len(rows)} of them tried, {made} tries in all.",
        f"Found in at least {SHARE_MIN:.0%} of 20 tries or more: {good}.",
        "",
        "| change | module | what it breaks | found / tries | median CPU s | for example by |",
        "|---|---|---|---|---|---|",
    ]
    for mutant, tried in rows:
        share = f"{tried.found} / {len(tried.tries)}"
        example = next((each.how for each in tried.tries if each.found), "").replace("|", "\\|")
        lines.append(
            f"| {mutant.name} | `{mutant.module}` | {mutant.effect} |"
            f" {share if tried.share >= SHARE_MIN else f'**{share}**'} |"
            f" {tried.median_s:.1f} | {example} |"
        )
    return "\n".join(lines) + "\n"


def is_good(tried: Tried) -> bool:
    """Whether so many tries found it that the share is known."""
    return len(tried.tries) >= 20 and tried.share >= SHARE_MIN


def write_table(record: Record) -> None:
    """Bring the document's table up to date; the words around it are somebody's."""
    text = TABLE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    TABLE.write_text(f"{before}{_BEGIN}{table(record)}{_END}{after}", encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Try them all, or those named; 0 if each was found as often as it must be, 8 if not."""
    parser = argparse.ArgumentParser(prog="mutants cluster", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--tries", type=int, help="so many of each, recorded")
    parser.add_argument("--record", type=Path, default=RECORD, help="where")
    parser.add_argument("--again", action="store_true", help="drop what is recorded of them")
    parser.add_argument("--table", action="store_true", help="write the table, try nothing")
    parser.add_argument("--first", type=int, default=1, help="number of the first try")
    parser.add_argument("--part", default="1/1", help="2/3: every third from the second on")
    parser.add_argument("--cpu", type=float, default=CPU_SECONDS_MAX, help="CPU s of a try")
    options = parser.parse_args(arguments)
    record = Record(options.record, MUTANTS)
    if options.table:
        write_table(record)
        return 0
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    missed = []
    for mutant in MUTANTS:
        source_of(mutant.module)  # before anything changes
    part, parts = map(int, options.part.split("/"))
    for mutant in ([by_name[name] for name in options.names] or MUTANTS)[part - 1 :: parts]:
        if options.tries is None:
            tried = Tried("", [attempt(mutant, options.first, options.cpu)])
        else:
            if options.again:
                record.forget(mutant)
            tried = _try(mutant, record, options)
        how = next((each.how for each in tried.tries if each.found), "")
        share = f"{tried.found:3} of {len(tried.tries):3} tries, {tried.median_s:5.1f} s"
        print(f"{share}  {mutant.name}: {how}", flush=True)
        if tried.misses > misses_max(len(tried.tries)):
            missed.append(mutant.name)
    print(f"missed: {', '.join(missed) or 'none'}")
    return 8 if missed else 0


def _try(mutant: Mutant, record: Record, options: argparse.Namespace) -> Tried:
    """Go on with a mutant until it was tried often enough, or missed too often."""
    tried = record.tried[mutant.name]
    while len(tried.tries) < options.tries and tried.misses <= misses_max(options.tries):
        number = options.first + len(tried.tries)
        record.add(mutant, attempt(mutant, number, options.cpu))
    return tried


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
