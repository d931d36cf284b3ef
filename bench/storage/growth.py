"""How the cost of an entry grows with the count of entries, from 10⁴ up by tens."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.report import Row
from bench.storage import contenders as engines
from bench.storage.arena import Arena, now
from bench.storage.points import OURS, WRITERS

if TYPE_CHECKING:
    from bench.storage.contenders import Contender

GETS = 5_000
OPERATIONS = ("batch put", "get, warm", "scan")

Curves = dict[str, dict[str, list[tuple[int, float]]]]


def curves(arena: Arena, largest: int) -> Curves:
    """Operation → engine → (entries, µs an entry), for 10⁴, 10⁵, … up to ``largest``."""
    names = [name for name in WRITERS if name in arena.makers]
    found: Curves = {operation: {name: [] for name in names} for operation in OPERATIONS}
    count = 10_000
    while count <= largest:
        sized = replace(arena, entries=count)
        for name in names:
            for operation, cost in zip(OPERATIONS, _costs(sized, name), strict=True):
                found[operation][name].append((count, cost))
        count *= 10
    return found


def _costs(arena: Arena, name: str) -> tuple[float, float, float]:
    """µs an entry: load in batches (settling included), get, scan."""
    wanted = [key for key, _ in random.Random(arena.seed).sample(arena.pairs, GETS)]
    start = now()
    arena.load(name, "growth")
    load = (now() - start) / arena.entries * 1e6
    contender: Contender = arena.open(name, "growth")
    try:
        for key in wanted:
            contender.get(key)
        start = now()
        for key in wanted:
            contender.get(key)
        get = (now() - start) / len(wanted) * 1e6
        start = now()
        deque(contender.scan(), maxlen=0)
        scan = (now() - start) / arena.entries * 1e6
    finally:
        contender.close()
        engines.wipe(arena.path(name, "growth"))
    return load, get, scan


def growth_rows(found: Curves) -> list[Row]:
    """Each figure at each size; then largest over smallest: 1 is no growth at all."""
    made: list[Row] = []
    for operation, of_engine in found.items():
        mine = of_engine[OURS]
        for name, points in of_engine.items():
            if name == OURS and len(of_engine) > 1:
                continue
            made.extend(
                Row(f"{operation} of {size:,}, an entry", cost, "µs", *beside)
                for (size, cost), beside in zip(mine, _beside(name, points), strict=True)
            )
            if len(points) > 1:
                ratio = mine[-1][1] / mine[0][1], points[-1][1] / points[0][1]
                what = f"growth of {operation}, {points[0][0]:,} to {points[-1][0]:,} entries"
                made.append(Row(what, ratio[0], "×", *((name, ratio[1]) if name != OURS else ())))
    return made


def _beside(name: str, points: list[tuple[int, float]]) -> list[tuple[str, float] | tuple[()]]:
    """The baselines of our figures; none where we are alone."""
    return [() if name == OURS else (name, cost) for _, cost in points]
