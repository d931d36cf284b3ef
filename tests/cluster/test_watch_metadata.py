"""What the simulator takes for a forbidden step of the metadata."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streambus_broker.cluster.brokers import BrokerRecord
from streambus_broker.metadata.records import PartitionRecord
from tests.cluster.watch_metadata import judge

BROKERS = {each: BrokerRecord(each, each, b"i", b"disk", "h", 1, None) for each in range(1, 5)}
RECORD = PartitionRecord(1, (1, 2, 3), 1, 4, (1, 2, 3), 7)


def changed(**changes: Any) -> PartitionRecord:
    return RECORD._replace(partition_epoch=8, **changes)


@pytest.mark.parametrize(
    "after",
    [
        RECORD,
        changed(in_sync=(1, 2)),
        changed(leader=2, leader_epoch=5),
        changed(leader=-1, leader_epoch=5),
        changed(replicas=(4, 1, 2, 3), adding=(4,), removing=(3,)),
    ],
)
def test_what_may_be(after: PartitionRecord) -> None:
    assert judge(RECORD, after, BROKERS, BROKERS) is None
    assert judge(None, after, BROKERS, BROKERS) is None


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        (changed(in_sync=(1, 4)), "no replica"),
        (changed(leader=2), "the leader epoch was 4"),
        (changed(leader_epoch=3), "the leader epoch was 4"),
        (RECORD._replace(in_sync=(1, 2)), "the partition epoch was 7"),
        (changed(in_sync=(1,)), "in sync were"),
        (changed(leader=2, leader_epoch=5, in_sync=(1, 3)), "not in sync"),
        (
            changed(replicas=(4, 1, 2, 3), adding=(4,), removing=(3,), in_sync=(4, 1, 2)),
            "to be added",
        ),
    ],
)
def test_what_may_not_be(after: PartitionRecord, problem: str) -> None:
    assert problem in str(judge(RECORD, after, BROKERS, BROKERS))


def test_a_move_ends_when_the_added_have_caught_up() -> None:
    under_way = changed(replicas=(4, 1, 2, 3), adding=(4,), removing=(3,))
    done = under_way._replace(partition_epoch=9, replicas=(4, 1, 2), adding=(), removing=())
    assert judge(under_way, done._replace(in_sync=(4, 1, 2)), BROKERS, BROKERS) is None
    assert "to be added" in str(judge(under_way, done._replace(in_sync=(1, 2)), BROKERS, BROKERS))


def test_who_leads_has_a_session_and_a_new_one_is_a_new_epoch() -> None:
    fenced = BROKERS | {1: replace(BROKERS[1], fenced=True)}
    assert "not in session" in str(judge(RECORD, RECORD, BROKERS, fenced))
    anew = BROKERS | {1: replace(BROKERS[1], epoch=9)}
    assert "the leader epoch" in str(judge(RECORD, RECORD, BROKERS, anew))
    assert judge(RECORD, changed(leader_epoch=5), BROKERS, anew) is None


def test_another_disk_is_in_sync_with_nobody() -> None:
    lost = BROKERS | {3: replace(BROKERS[3], epoch=9, storage_id=b"other")}
    assert "other disks" in str(judge(RECORD, RECORD, BROKERS, lost))
    assert judge(RECORD, changed(in_sync=(1, 2)), BROKERS, lost) is None
