"""What a simulation is made of; every number of it follows from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The parameters of one simulation; times in simulated seconds, chances from 0 to 1."""

    seed: int
    voters: int
    """At the beginning; 1 to 5."""
    learners: int
    seconds: float
    """How long there are faults; then everything heals."""
    tick_seconds: float = 0.1
    heartbeat_ticks: int = 3
    election_ticks: int = 10
    pre_vote: bool = True
    check_quorum: bool = True
    lease_reads: bool = True
    skew_max: float = 0.04
    """How much a node's clock may be faster or slower than true time."""

    loss: float = 0.0
    duplication: float = 0.0
    delay_min: float = 0.001
    delay_max: float = 0.02
    straggler: float = 0.0
    """The chance of a message to come much later than others sent after it."""
    straggler_max: float = 3.0
    sync_max: float = 0.02
    """The longest that a sync takes on a healthy disk."""

    clients: int = 3
    keys: int = 3
    think_max: float = 1.2
    """The longest that a client waits between two operations."""
    burst: float = 0.0
    """The chance that a client proposes many entries at once, which nobody waits for."""

    fault_mean: float = 1.0
    """Between two faults."""
    weights: tuple[tuple[str, int], ...] = ()
    """What kinds of faults there are, and how often each comes relative to the others."""

    snapshot_entries: int = 50
    """A node makes a snapshot after applying this many entries."""
    retained_entries: int = 10
    """And keeps this many before it."""
    snapshot_chunk_bytes: int = 64
    append_bytes_max: int = 400
    inflight_appends_max: int = 8
    uncommitted_bytes_max: int = 100_000
    durable_machine: bool = False
    """The state machine is durable by itself, a little behind; else it is rebuilt at each start."""
    encoded: bool = False
    """Messages travel as bytes."""
    registered: bool = True
    """The storages' identities are known from the beginning; else the leader writes them down."""


FAULTS = (
    "crash",
    "crash_all",
    "crash_leader",
    "partition",
    "isolate_leader",
    "one_way",
    "heal",
    "pause",
    "slow_disk",
    "clock_jump",
    "transfer",
    "member",
    "campaign",
    "wipe",
    "lossy",
)


def plan_of(seed: int) -> Plan:
    """The plan that belongs to a seed."""
    random = Random(seed)
    pick = random.choice
    weights = {name: pick((0, 1, 1, 2, 4)) for name in FAULTS}
    weights["heal"] += 2
    weights["member"] = pick((1, 2, 4, 8))
    weights["crash_all"] = pick((0, 0, 0, 1))
    weights["wipe"] = pick((0, 0, 1))
    calm = random.random() < 0.1
    pre_vote = random.random() < 0.85
    check_quorum = pre_vote or random.random() < 0.7
    return Plan(
        seed=seed,
        voters=pick((1, 2, 3, 3, 3, 3, 4, 5, 5)),
        learners=pick((0, 0, 0, 1)),
        seconds=pick((8.0, 12.0, 16.0, 24.0, 40.0)),
        pre_vote=pre_vote,
        check_quorum=check_quorum,
        lease_reads=check_quorum,
        loss=0.0 if calm else pick((0.0, 0.01, 0.05, 0.2)),
        duplication=pick((0.0, 0.01, 0.1)),
        delay_max=pick((0.005, 0.02, 0.1, 0.3)),
        straggler=pick((0.0, 0.0, 0.01, 0.05)),
        straggler_max=pick((0.5, 3.0, 8.0)),
        sync_max=pick((0.0, 0.01, 0.05, 0.2)),
        clients=pick((1, 2, 3, 5)),
        keys=pick((1, 2, 3)),
        think_max=pick((0.3, 0.8, 2.0)),
        burst=pick((0.0, 0.02, 0.1)),
        fault_mean=pick((0.3, 0.7, 1.5, 3.0)),
        weights=tuple((name, weight) for name, weight in weights.items() if weight),
        snapshot_entries=pick((5, 15, 60, 100_000)),
        retained_entries=pick((0, 3, 20)),
        snapshot_chunk_bytes=pick((16, 64, 4096)),
        append_bytes_max=pick((40, 400, 1 << 20)),
        inflight_appends_max=pick((1, 4, 64)),
        uncommitted_bytes_max=pick((300, 100_000)),
        durable_machine=random.random() < 0.3,
        encoded=random.random() < 0.03,
        registered=random.random() < 0.8,
    )
