"""What ``simulate broker`` and ``simulate cluster`` share: many seeds, or one of them twice."""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_PROGRESS_SEEDS = 100
_COLLECT_SEEDS = 10


def simulate(
    subject: str, scenario: Callable[..., Any], duration_s: float | None, arguments: list[str]
) -> int:
    """Run seeds; 0 if all of them held, 8 if one did not. Every seed is run, whatever fails.

    Args:
        subject: as the command calls it.
        scenario: makes one: ``scenario(seed, duration_s, keep_trace=...)``.
        duration_s: virtual seconds of trouble, where the command line does not say; None where
            each seed decides.
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
    tally = Tally()
    gc.disable()  # most garbage is freed by counting; what is left goes between seeds
    try:
        for seed in range(options.first, options.first + options.seeds):
            tally.run(scenario, seed, options.duration)
            if tally.seeds == 1:
                gc.collect()
                gc.freeze()  # what every run needs need not be looked through again and again
            elif tally.seeds % _COLLECT_SEEDS == 0:
                gc.collect()
            if tally.seeds % _PROGRESS_SEEDS == 0 and tally.seeds < options.seeds:
                print(tally.line(), flush=True)
    finally:
        gc.unfreeze()
        gc.enable()
    print(tally.line())
    print("what happened: " + ", ".join(f"{kind} {n}" for kind, n in tally.counts.most_common()))
    return 8 if tally.failed else 0


class Tally:
    """What many runs did together."""

    def __init__(self) -> None:
        self.seeds = 0
        self.failed: list[int] = []
        self.operations = 0
        self.acknowledged = 0
        self.virtual_s = 0.0
        self.counts: Counter[str] = Counter()
        self._began_s = time.process_time()

    def run(self, scenario: Callable[..., Any], seed: int, duration_s: float | None) -> None:
        """Run one seed; where it fails, say so at once."""
        self.seeds += 1
        try:
            outcome = scenario(seed, duration_s).run()
        except Exception:  # noqa: BLE001 - every seed is run, the failed ones are named
            traceback.print_exc()
            print(f"seed {seed} failed", flush=True)
            self.failed.append(seed)
            return
        self.virtual_s += outcome.virtual_s
        self.acknowledged += outcome.acknowledged
        self.operations += outcome.acknowledged + outcome.consumed
        self.counts += outcome.counts

    def line(self) -> str:
        """One line of figures; an operation is a record acknowledged or read."""
        cpu_s = max(time.process_time() - self._began_s, 1e-9)
        rate = self.operations / max(self.virtual_s, 1e-9)
        return (
            f"{self.seeds} seeds, {sum(self.counts.values())} faults,"
            f" {self.acknowledged} acknowledged records,"
            f" {self.virtual_s:.0f} virtual seconds at {rate:.0f} operations/s"
            f" in {cpu_s:.0f} CPU s: {self.virtual_s / cpu_s:.1f} simulated hours per CPU-hour,"
            f" {cpu_s / self.seeds:.2f} CPU s a seed; failed: {self.failed or 'none'}"
        )


def _one(scenario: Callable[..., Any], seed: int, duration_s: float | None, *, trace: bool) -> int:
    """Run one seed twice, and see that both runs are the same, be it that both fail."""
    digests: list[str] = []
    status = 0
    for keep_trace in (trace, False):
        run = scenario(seed, duration_s, keep_trace=keep_trace)
        try:
            outcome = run.run()
        except Exception:  # noqa: BLE001 - shown with the trace
            status = 8
            if not digests:
                print("\n".join(run.simulation.lines), file=sys.stderr)
                traceback.print_exc()
        else:
            if not digests:
                print("\n".join(outcome.lines))
                print(outcome)
        digests.append(run.simulation.digest)
    same = digests[0] == digests[1]
    print("repeats exactly" if same else "DOES NOT REPEAT")
    return status if same else 8
