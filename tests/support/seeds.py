"""What ``simulate broker`` and ``simulate cluster`` share: many seeds, or one of them twice."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def simulate(
    subject: str, scenario: Callable[..., Any], duration_s: float, arguments: list[str]
) -> int:
    """Run seeds; 0 if all of them held, 8 if one did not.

    Args:
        subject: as the command calls it.
        scenario: makes one: ``scenario(seed, duration_s, keep_trace=...)``.
        duration_s: virtual seconds of trouble, where the command line does not say.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(prog=f"simulate {subject}")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="run this one alone, twice, and compare")
    parser.add_argument(
        "--duration", type=float, default=duration_s, help="virtual seconds of trouble"
    )
    parser.add_argument("--trace", action="store_true", help="print the events of --seed")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _one(scenario, options.seed, options.duration, trace=options.trace)
    began_s, virtual_s, failed = time.monotonic(), 0.0, []
    acknowledged = kills = 0
    for seed in range(options.first, options.first + options.seeds):
        try:
            outcome = scenario(seed, options.duration).run()
        except Exception:  # noqa: BLE001 - every seed is run, the failed ones are named
            traceback.print_exc()
            failed.append(seed)
            continue
        virtual_s += outcome.virtual_s
        acknowledged += outcome.acknowledged
        kills += outcome.kills
    took_s = time.monotonic() - began_s
    print(
        f"{options.seeds} seeds, {kills} kills, {acknowledged} acknowledged records,"
        f" {virtual_s:.0f} virtual seconds in {took_s:.0f} s; failed: {failed or 'none'}"
    )
    return 8 if failed else 0


def _one(scenario: Callable[..., Any], seed: int, duration_s: float, *, trace: bool) -> int:
    first = scenario(seed, duration_s, keep_trace=trace)
    try:
        outcome = first.run()
    except Exception:  # noqa: BLE001 - shown with the trace
        print("\n".join(first.simulation.lines), file=sys.stderr)
        traceback.print_exc()
        return 8
    print("\n".join(outcome.lines))
    again = scenario(seed, duration_s).run()
    print(outcome)
    print("repeats exactly" if again.digest == outcome.digest else "DOES NOT REPEAT")
    return 0 if again.digest == outcome.digest else 8
