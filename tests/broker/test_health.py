from __future__ import annotations

import dataclasses

import pytest

from streambus_broker.observe.health import Facts, Health, judge

GOOD = Facts(1000, True, False, None, False, 0.01, 0.1, 5, 100, 0)


def judged(**facts: object) -> Health:
    return judge(dataclasses.replace(GOOD, **facts))  # type: ignore[arg-type]  # by keyword


def test_a_healthy_broker_is_live_and_ready() -> None:
    health = judged()
    assert health.live
    assert health.ready
    assert {part.status for part in health.components} == {"ok"}


@pytest.mark.parametrize(
    ("facts", "name", "status", "ready"),
    [
        ({"closing": True}, "network", "failed", False),
        ({"serving": False}, "network", "failed", False),
        ({"connections": 100}, "network", "degraded", True),
        ({"storage_error": "disk full"}, "storage", "failed", False),
        ({"loop_lag_s": 2.0}, "event_loop", "degraded", True),
        ({"offline_partitions": 1}, "partitions", "degraded", True),
    ],
)
def test_each_trouble_is_named(
    facts: dict[str, object], name: str, status: str, ready: bool
) -> None:
    health = judged(**facts)
    assert health.ready is ready
    [part] = [part for part in health.components if part.status != "ok"]
    assert (part.name, part.status) == (name, status)
    assert part.reason


def test_a_loop_that_stands_still_is_not_live() -> None:
    health = judged(loop_turned_s_ago=60)
    assert not health.live
    assert not health.ready


def test_a_failed_disk_says_whether_it_heals() -> None:
    assert "resumes by itself" in str(judged(storage_error="x").components)
    assert "restart" in str(judged(storage_error="x", storage_is_final=True).components)
