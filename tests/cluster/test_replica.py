"""Who waits at a replica for records to be committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streambus_broker.cluster.replica import Replica, Waiting
from streambus_broker.cluster.replica_log import ReplicaLog
from streambus_broker.config.topics import TopicSettings
from streambus_broker.log.partition import PartitionLog
from streambus_broker.log.store import LogStore
from streambus_broker.metadata.records import PartitionRecord
from streambus_storage import LSMTree
from tests.cluster.batches import batch_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Replica]:
    with LSMTree.open(str(tmp_path / "data")) as tree:
        log = PartitionLog("t", 0, 1, TopicSettings(), leads=False)
        stored = ReplicaLog(log, LogStore(tree, str(tmp_path), 1 << 20))
        for offset in range(5):
            stored.follow(batch_of(b"x", base_offset=offset, leader_epoch=1))
        yield Replica("t", 0, stored, PartitionRecord(1, (1,), 1, 1, (1,)))


def test_who_waits_no_more_is_forgotten_and_the_others_are_told(replica: Replica) -> None:
    told: list[tuple[int, str | None]] = []

    def tell(number: int) -> Waiting:
        return replica.when_committed(2 + number % 2, lambda why: told.append((number, why)))

    waiting = [tell(number) for number in range(6)]
    for each in (waiting[0], waiting[3], waiting[3]):
        replica.forget(each)
    replica.stored.log.advance_high_watermark(2)
    replica.committed()
    assert told == [(2, None), (4, None)]
    replica.forget(waiting[2])
    assert len(replica.waiting) == 2
    replica.stop_leading("over")
    assert told[2:] == [(1, "over"), (5, "over")]
    replica.forget(waiting[1])
    assert replica.waiting == []
