"""What one simulated run looks like: how many brokers, clients and faults, drawn from its seed.

Most runs are short and dense with faults, some are long; in each about half of the kinds of
trouble, or all but a few, are switched off, so that those which are on meet each other more often
(swarm testing).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.support.clients import Writing
from tests.support.simulation import Faults

if TYPE_CHECKING:
    from random import Random

ALWAYS = ("kill", "power", "isolate", "pair", "after ack")
SOMETIMES = {
    "kill": 3.0,
    "stop": 1.0,
    "power": 2.0,
    "all killed": 0.5,
    "all power": 1.0,
    "after ack": 5.0,
    "cut": 1.0,
    "isolate": 2.0,
    "pair": 1.0,
    "one way": 1.5,
    "bridge": 1.0,
    "tail": 2.0,
    "lag": 2.0,
    "seesaw": 1.0,
    "slow": 1.0,
    "pause": 2.0,
    "clock": 0.5,
    "blip": 0.5,
    "disk fails": 2.0,
    "disk full": 0.7,
    "damage": 2.0,
    "transfer": 0.7,
    "elect": 0.7,
    "reassign": 1.0,
    "vote": 0.5,
    "replace": 0.5,
    "remove": 0.3,
    "nap": 1.0,
    "late grant": 1.0,
    "handover": 1.0,
    "no route": 1.0,
    "late send": 1.0,
}
"""Kind of trouble → how often, compared with the others; `Nemesis` has a method for each."""


_FEW = 0.4
"""Share of the runs with three kinds of trouble at most: they come often, and after each other."""
_PAIRS = 0.2
"""Share of the runs with two replicas: either may have what the other has not, and nobody else."""
STEADY_S = 120.0
"""Virtual seconds of a `steady` run."""


@dataclass(frozen=True, slots=True)
class Shape:
    """See the module.

    Attributes:
        voters: Brokers that form the cluster.
        joined: Brokers that join it.
        replication_factor: Of the topic.
        partitions: Of the topic.
        writers: The producers.
        client_racks: Where each consumer stands; None reads from leaders.
        duration_s: Virtual seconds of trouble.
        spacing_s: Mean time between troubles.
        patience: How often the next trouble waits until the cluster works again.
        looks: How often the disks are looked at before a trouble.
        troubles: Kind → weight.
        faults: What the network does by itself.
        sync_s_max: How long a disk takes to sync, at most.
        session_ms: The brokers' broker_session_ms.
        lag_ms_max: The brokers' replica_lag_ms_max.
        memtable_bytes: Of the brokers' data trees.
        drift: By what share of the time brokers' clocks run fast or slow, at most.
    """

    voters: int
    joined: int
    replication_factor: int
    partitions: int
    writers: tuple[Writing, ...]
    client_racks: tuple[str | None, ...]
    duration_s: float
    spacing_s: float
    patience: float
    looks: float
    troubles: dict[str, float]
    faults: Faults
    sync_s_max: float
    session_ms: int
    lag_ms_max: int
    memtable_bytes: int
    drift: float

    @property
    def brokers(self) -> int:
        """How many there are in all."""
        return self.voters + self.joined


def draw(random: Random, duration_s: float | None = None) -> Shape:
    """Draw a shape.

    Args:
        random: The dice.
        duration_s: Virtual seconds of trouble; None draws them too.
    """
    voters, joined = random.choices(
        ((3, 0), (3, 1), (3, 2), (5, 0)), (0.75, 0.13, 0.06, 0.06)
    )[0]  # fmt: skip
    factor = 5 if voters + joined == 5 and random.random() < 0.4 else 3
    if random.random() < _PAIRS:
        factor = 2
    if duration_s is None:
        low, high = random.choices(((1.5, 3.5), (4, 8), (15, 20)), (0.87, 0.115, 0.015))[0]
        duration_s = random.uniform(low, high)
    if random.random() < _FEW:
        troubles = dict.fromkeys(("kill", *random.sample(list(SOMETIMES), 2)), 1.0)
    else:
        troubles = {
            kind: weight for kind, weight in SOMETIMES.items()
            if random.random() < 0.5 or kind == ALWAYS[0]
        }  # fmt: skip
    if factor == 2:
        troubles["seesaw"] = 3.0
    rough = random.random() < 0.5
    rate = random.choice((8.0, 20.0, 40.0))
    return Shape(
        voters=voters,
        joined=joined,
        replication_factor=factor,
        partitions=random.choice((1, 1, 2, 3)),
        writers=_writers(random, rate),
        client_racks=random.choice(((None,), ("r1",), ("r2",), (None, "r1"), ("r2", "r3"))),
        duration_s=duration_s,
        spacing_s=random.choice((0.1, 0.25, 0.7)),
        patience=random.choice((0.0, 0.5, 1.0)),
        looks=0.3,
        troubles=troubles,
        faults=Faults(
            latency_max_s=random.choice((0.000_5, 0.002, 0.02)),
            split_probability=0.05,
            reset_probability=0.001 if rough else 0.0,
            stall_probability=0.003 if rough else 0.0,
            stall_s_max=random.choice((0.2, 1.5)),
            silence_probability=0.000_3 if rough else 0.0,
        ),
        sync_s_max=random.choice((0.005, 0.05, 0.2)),
        session_ms=random.choice((400, 800)),
        lag_ms_max=random.choice((300, 1000)),
        memtable_bytes=random.choice((64 * 1024, 1 << 20)),
        drift=random.choice((0.0, 0.0, 0.05)),
    )


def steady(random: Random, duration_s: float | None = None) -> Shape:
    """Draw a long run under load: about 200 records written or read a second, seldom a trouble."""
    drawn = draw(random, duration_s or STEADY_S)
    return replace(
        drawn,
        voters=3,
        joined=0,
        replication_factor=3,
        partitions=1,
        writers=tuple(Writing("all", 2.2, 70, retries=True) for _ in range(2)),
        client_racks=(drawn.client_racks[0],),
        spacing_s=5.0,
        patience=1.0,
        sync_s_max=0.05,
        session_ms=1800,
    )


def _writers(random: Random, rate: float) -> tuple[Writing, ...]:
    """One that is content with the leader's word, one that sends one by one, one in batches."""
    writers = [
        Writing(1, rate, records_max=random.choice((1, 6))),
        Writing("all", rate, retries=random.random() < 0.5),
        Writing("all", rate / 2, random.choice((3, 20)), retries=random.random() < 0.7),
    ]
    return tuple(writers[: random.choice((2, 3, 3))])
