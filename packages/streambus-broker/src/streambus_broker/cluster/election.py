"""Who leads a partition, and who counts as in sync: pure functions over one partition's record.

Rules:

- A leader is chosen from the in-sync set alone, in the order of the replicas; so the preferred one
  comes first. With nobody there alive the partition waits without a leader.
- A broker whose storage takes no writes, or that an operator keeps from leading, leads only where
  nobody else can, so that there is somebody to read from; and only until another one can.
- Brokers that die do not take the in-sync set below min_insync_replicas: the last ones stay in it.
  They hold everything committed, so that any of them may lead when it returns; and while they are
  away nothing more is committed, because they count and do not answer (KIP-966).
- A broker that lost its disk leaves every in-sync set, whatever is left.
- Every change raises the partition epoch; every change of leader raises the leader epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from streambus_broker.cluster.brokers import BrokerRecord
    from streambus_broker.metadata.records import PartitionRecord

NO_LEADER = -1


class Electable(NamedTuple):
    """Who may lead.

    Attributes:
        able: They may be made leaders.
        spare: They live, and lead only where none of those can.
    """

    able: Collection[int]
    spare: Collection[int] = ()

    @classmethod
    def of(cls, brokers: Iterable[BrokerRecord]) -> Self:
        """Judge brokers by their records."""
        known = list(brokers)
        return cls(
            {each.broker_id for each in known if each.leads},
            {each.broker_id for each in known if each.leads_at_need},
        )


def choose_leader(record: PartitionRecord, electable: Electable) -> int:
    """The first replica that is in sync and able, then one that is spare, or NO_LEADER."""
    leader = _first_of(record, electable.able)
    return _first_of(record, electable.spare) if leader == NO_LEADER else leader


def _first_of(record: PartitionRecord, able: Collection[int]) -> int:
    in_sync = record.in_sync
    return next((each for each in record.replicas if each in in_sync and each in able), NO_LEADER)


def with_leader(record: PartitionRecord, leader: int) -> PartitionRecord:
    """Give the partition to a leader, in a new epoch."""
    return record._replace(
        leader=leader,
        leader_epoch=record.leader_epoch + 1,
        partition_epoch=record.partition_epoch + 1,
    )


def keep_led(record: PartitionRecord, electable: Electable) -> PartitionRecord:
    """Choose another leader where the present one is not able (any more)."""
    leads = record.leader in record.in_sync
    if leads and record.leader in electable.able:
        return record
    leader = choose_leader(record, electable)
    if leader == record.leader == NO_LEADER:
        return record
    if leads and record.leader in electable.spare and leader in electable.spare:
        return record  # nobody is better
    return with_leader(record, leader)


def let_go(record: PartitionRecord, gone: Collection[int], min_in_sync: int) -> PartitionRecord:
    """Take brokers that cannot keep up out of the in-sync set, except one that still leads."""
    return shrink(record, [each for each in gone if each != record.leader], min_in_sync)


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
