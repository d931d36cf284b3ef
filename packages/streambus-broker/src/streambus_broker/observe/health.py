"""How the broker does, component by component: a pure function of facts.

``live`` means that the loop turns, ``ready`` that clients should be sent here: everything that a
request needs works.
"""

from __future__ import annotations

from dataclasses import dataclass

LOOP_LAG_BAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known.

    Attributes:
        uptime_ms: Since the data port opened.
        serving: Whether the data port is open.
        closing: Whether the shutdown has begun.
        storage_error: The last failed write, None where writes work.
        storage_is_final: Whether only a restart can end that.
        loop_lag_s: The longest time that a turn of the event loop was late in the last seconds.
        loop_turned_s_ago: Since the loop last turned.
        connections: Open connections.
        connections_max: Their limit.
        offline_partitions: Partitions without a leader.
    """

    uptime_ms: int
    serving: bool
    closing: bool
    storage_error: str | None
    storage_is_final: bool
    loop_lag_s: float
    loop_turned_s_ago: float
    connections: int
    connections_max: int
    offline_partitions: int


@dataclass(frozen=True, slots=True)
class Component:
    """One part. ``status``: ``ok``, ``degraded`` (works, look at it) or ``failed``."""

    name: str
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Health:
    """The judgement."""

    live: bool
    ready: bool
    uptime_ms: int
    components: tuple[Component, ...]


def judge(facts: Facts) -> Health:
    """Judge the facts."""
    components = (_network(facts), _storage(facts), _loop(facts), _partitions(facts))
    live = facts.loop_turned_s_ago < 10 * LOOP_LAG_BAD_S
    ready = live and all(part.status != "failed" for part in components)
    return Health(live, ready, facts.uptime_ms, components)


def _network(facts: Facts) -> Component:
    if facts.closing:
        return Component("network", "failed", "the broker is shutting down")
    if not facts.serving:
        return Component("network", "failed", "the data port is not open")
    if facts.connections >= facts.connections_max:
        return Component("network", "degraded", f"all {facts.connections_max} connections in use")
    return Component("network", "ok", None)


def _storage(facts: Facts) -> Component:
    if facts.storage_error is None:
        return Component("storage", "ok", None)
    remedy = "restart the broker" if facts.storage_is_final else "resumes by itself"
    return Component("storage", "failed", f"{facts.storage_error} ({remedy})")


def _loop(facts: Facts) -> Component:
    if facts.loop_lag_s >= LOOP_LAG_BAD_S:
        return Component("event_loop", "degraded", f"was {facts.loop_lag_s:.1f} s late")
    return Component("event_loop", "ok", None)


def _partitions(facts: Facts) -> Component:
    if facts.offline_partitions:
        reason = f"{facts.offline_partitions} partitions have no leader"
        return Component("partitions", "degraded", reason)
    return Component("partitions", "ok", None)
