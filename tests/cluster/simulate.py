"""``hatch run simulate cluster --seeds N [--first F] [--steady] | --seed S [--trace]``.

``--steady`` has each seed run for two virtual minutes under a load of about 200 operations a
second, with a trouble every five seconds; without it, most seeds are short and full of troubles.
"""

from __future__ import annotations

from random import Random
from typing import Any

from tests.cluster.scenario import Scenario
from tests.cluster.shape import steady
from tests.support.seeds import simulate


def main(arguments: list[str]) -> int:
    """Run seeds; 0 if all of them held, 8 if one did not."""
    if "--steady" in arguments:
        rest = [each for each in arguments if each != "--steady"]
        return simulate("cluster --steady", _steady, None, rest)
    return simulate("cluster", Scenario, None, arguments)


def _steady(seed: int, duration_s: float | None, **options: Any) -> Scenario:
    return Scenario(seed, shape=steady(Random(seed), duration_s), **options)
