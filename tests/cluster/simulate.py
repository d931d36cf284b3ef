"""``hatch run simulate cluster --seeds N [--first F] | --seed S [--trace]``."""

from __future__ import annotations

from tests.cluster.scenario import Scenario
from tests.support.seeds import simulate


def main(arguments: list[str]) -> int:
    """Run seeds; 0 if all of them held, 8 if one did not."""
    return simulate("cluster", Scenario, None, arguments)
