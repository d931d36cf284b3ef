"""Who leads a partition, and who counts as in sync: pure functions over one partition's record.

Rules:

- A leader is chosen from the in-sync set alone, in the order of the replicas; so the preferred one
  comes first. With nobody there alive the partition waits without a leader.
- Brokers that die do not take the in-sync set below min_insync_replicas: the last ones stay in it.
  They hold everything committed, so that any of them may lead when it returns; and while they are
  away nothing more is committed, because they count and do not answer (KIP-966).
- A broker that lost its disk leaves every in-sync set, whatever is left.
- Every change raises the partition epoch; every change of leader raises the leader epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from streambus_broker.metadata.records import PartitionRecord

NO_LEADER = -1


def choose_leader(record: PartitionRecord, able: Collection[int]) -> int:
    """The first replica that is in sync and able, or NO_LEADER."""
    in_sync = record.in_sync
    return next((each for each in record.replicas if each in in_sync and each in able), NO_LEADER)


def with_leader(record: PartitionRecord, leader: int) -> PartitionRecord:
    """Give the partition to a leader, in a new epoch."""
    return record._replace(
        leader=leader,
        leader_epoch=record.leader_epoch + 1,
        partition_epoch=record.partition_epoch + 1,
    )


def keep_led(record: PartitionRecord, able: Collection[int]) -> PartitionRecord:
    """Choose another leader where the present one is not able (any more)."""
    if record.leader in able and record.leader in record.in_sync:
        return record
    leader = choose_leader(record, able)
    return record if leader == record.leader == NO_LEADER else with_leader(record, leader)


def shrink(record: PartitionRecord, gone: Collection[int], min_in_sync: int) -> PartitionRecord:
    """Take brokers out of the in-sync set as far as its minimum allows."""
    stay = [each for each in record.in_sync if each not in gone]
    if len(stay) == len(record.in_sync):
        return record
    # The leader stays rather than others: what it wrote last, only it may have.
    spare = sorted(
        (each for each in record.in_sync if each in gone),
        key=lambda each: (each != record.leader, record.replicas.index(each)),
    )
    missing = max(0, min_in_sync - len(stay))
    return with_in_sync(record, (*stay, *spare[:missing]))


def with_in_sync(record: PartitionRecord, in_sync: Collection[int]) -> PartitionRecord:
    """Set the in-sync set, in the order of the replicas."""
    ordered = tuple([each for each in record.replicas if each in in_sync])
    if ordered == record.in_sync:
        return record
    return record._replace(in_sync=ordered, partition_epoch=record.partition_epoch + 1)


def min_in_sync_of(record: PartitionRecord, overrides: dict[str, int | bool | str]) -> int:
    """The minimum in force: the topic's setting, or a majority of the replicas.

    A setting above the number of replicas means all of them.
    """
    target = len(record.replicas) - len(record.removing)
    chosen = overrides.get("min_insync_replicas", -1)
    return target // 2 + 1 if chosen in (-1, True, False) else min(int(chosen), target)
