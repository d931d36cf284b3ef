"""``hatch run bench [SUITE] [OPTION ...]``: run ``bench.bench_<suite>``, by default every suite."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Run the named suite, or all of them in alphabetical order."""
    known = sorted(
        path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")
    )
    chosen = known
    if arguments and not arguments[0].startswith("-"):
        chosen, arguments = [arguments[0]], arguments[1:]
    for suite in chosen:
        if suite not in known:
            print(f"no suite {suite!r}; there are: {', '.join(known)}", file=sys.stderr)
            return 2
        code: int = importlib.import_module(f"bench.bench_{suite}").main(arguments)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
