"""How replicas that are being copied are shown, by each command that shows them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from streambus_client._cli._output import lasting, sized

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streambus_client import CopyProgress, ReplicaCopy


def copy_rows(copies: Iterable[ReplicaCopy]) -> list[dict[str, Any]]:
    """Copies for people."""
    return [
        {
            "partition": str(each.partition), "broker": each.node_id, "from": each.leader,
            "state": each.state, "copied": sized(each.copied_bytes),
            "total": sized(each.total_bytes), "rate": f"{sized(each.bytes_per_s)}/s",
            "left": lasting(each.seconds_left),
        }
        for each in copies
    ]  # fmt: skip


def copy_facts(copies: Iterable[ReplicaCopy]) -> list[dict[str, Any]]:
    """Copies for programs."""
    return [{**asdict(each), "seconds_left": each.seconds_left} for each in copies]


def summary(progress: CopyProgress) -> str:
    """All copies in one sentence."""
    throttle = progress.throttle_bytes_per_s
    limit = "" if throttle < 0 else f", limit {sized(throttle)}/s for each leader"
    if not progress.copies:
        return f"no replica is being copied{limit}"
    return (
        f"{len(progress.copies)} replica(s) are copied: {sized(progress.copied_bytes)} of"
        f" {sized(progress.total_bytes)}, {sized(progress.bytes_per_s)}/s{limit},"
        f" {lasting(progress.seconds_left)} left"
    )
