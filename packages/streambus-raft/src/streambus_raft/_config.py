"""The settings of one node's core, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

from streambus_raft._types import NUMBER_MAX, NodeId
from streambus_raft.errors import ConfigError

PRIORITY_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one node behaves; times are counted in ticks, whose length the caller chooses.

    Raises:
        ConfigError: a value is out of range, or two of them contradict each other.
    """

    node_id: NodeId

    heartbeat_ticks: int = 2
    """A leader is heard from at least this often. 1 or more."""
    election_ticks: int = 10
    """Silence after which a follower may campaign; the limit is drawn from this up to twice this.

    More than ``2 * heartbeat_ticks``: one lost heartbeat shall not cost an election.
    """
    priority: int = PRIORITY_MAX
    """0 to 100. A lower one waits longer before its first campaign (up to twice ``election_ticks``
    more); 0 never campaigns. A preference, not a veto: a living voter with any other priority can
    win, and once it campaigns it waits no longer than others."""
    pre_vote: bool = True
    """Ask before a campaign whether it could be won, so that a node that was cut off does not
    unseat a leader when it returns (thesis, section 9.6)."""
    check_quorum: bool = True
    """A leader that hears no quorum for ``election_ticks`` steps down; followers of a living leader
    ignore candidates (thesis, sections 4.2.3 and 6.2). Lease reads need it."""
    storage_stall_ticks: int = 20
    """A leader whose own write has not been durable for this long steps down, if another voter's
    was in that time. 1 or more."""

    tick_seconds: float = 0.1
    """The length of a tick, used for nothing but the length of the lease."""
    clock_drift_max: float = 0.1
    """How much faster one node's clock may run than another's, as a fraction; below 1. The lease is
    shortened by it."""

    append_bytes_max: int = 1 << 20
    """Entries in one append message; a single larger entry still travels alone."""
    inflight_appends_max: int = 64
    """Append messages to one follower that are not yet answered."""
    inflight_bytes_max: int = 16 << 20
    """Bytes of entries to one follower that are not yet answered."""
    command_bytes_max: int = 16 << 20
    """One proposed command."""
    uncommitted_bytes_max: int = 64 << 20
    """Proposed and not yet committed; above it proposals are refused as busy."""
    apply_bytes_max: int = 16 << 20
    """Handed out to be applied and not yet reported as applied."""
    snapshot_chunk_bytes: int = 1 << 20
    """One piece of a snapshot."""
    pending_reads_max: int = 100_000
    """Reads that wait for a quorum or for the first commit of a term; above it they are refused."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("node_id", 1, NUMBER_MAX),
            ("heartbeat_ticks", 1, 1 << 30),
            ("election_ticks", 3, 1 << 30),
            ("priority", 0, PRIORITY_MAX),
            ("storage_stall_ticks", 1, 1 << 30),
            ("append_bytes_max", 1, 1 << 30),
            ("inflight_appends_max", 1, 1 << 20),
            ("inflight_bytes_max", 1, 1 << 40),
            ("command_bytes_max", 1, 1 << 30),
            ("uncommitted_bytes_max", 1, 1 << 40),
            ("apply_bytes_max", 1, 1 << 40),
            ("snapshot_chunk_bytes", 1, 1 << 30),
            ("pending_reads_max", 1, 1 << 30),
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ConfigError(
                    f"{name} is {value!r}; it must be a whole number from {low} to {high}"
                )
        if self.election_ticks <= 2 * self.heartbeat_ticks:
            raise ConfigError(
                f"election_ticks is {self.election_ticks}; it must be more than twice"
                f" heartbeat_ticks, which is {self.heartbeat_ticks}"
            )
        if not 0 < self.tick_seconds <= 3600:
            raise ConfigError(
                f"tick_seconds is {self.tick_seconds!r}; it must be above 0 and at most 3600"
            )
        if not 0 <= self.clock_drift_max < 1:
            raise ConfigError(
                f"clock_drift_max is {self.clock_drift_max!r}; it must be from 0 to below 1"
            )

    @property
    def lease_seconds(self) -> float:
        """How long after a quorum was asked no other leader can have been elected.

        One tick less than ``election_ticks``, because a follower's next tick may come at once.
        """
        return (self.election_ticks - 1) * self.tick_seconds / (1 + self.clock_drift_max)
