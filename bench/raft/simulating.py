"""How much simulated time a CPU second buys, with faults on."""

from __future__ import annotations

import time

from streambus_raft.testing import Simulation, plan_of


def hours_per_cpu_hour(first: int, count: int) -> float:
    """Run ``count`` seeds from ``first`` on; simulated over used time."""
    began = time.process_time()
    seconds = sum(Simulation(plan_of(seed)).run().seconds for seed in range(first, first + count))
    return seconds / (time.process_time() - began)
