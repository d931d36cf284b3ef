"""Moving a partition to other brokers, step by step: pure functions over its record.

The replicas become the union of old and new ones, the new ones in front. Those that are added copy
in the background and join the in-sync set when they have caught up. When all are in it, those that
leave are dropped at once, from replicas and in-sync set, and the leader moves if it was one of
them. Until then it can be cancelled: the added ones are dropped.

No step takes so many out of the in-sync set that fewer than min_insync_replicas are left of it:
what is committed would be on too few disks. Completion waits for more; whatever was ordered by an
operator is refused for now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_broker.cluster import election
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Collection

    from streambus_broker.cluster.election import Electable
    from streambus_broker.metadata.records import PartitionRecord

    Overrides = dict[str, int | bool | str]


def check_target(target: tuple[int, ...], brokers: Collection[int]) -> None:
    """Refuse an assignment that makes no sense.

    Raises:
        CommandError: It is empty, names a broker twice, or one that is unknown.
    """
    if not target or len(set(target)) != len(target):
        raise CommandError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"replicas {list(target)}: name each broker once, and at least one",
        )
    unknown = [each for each in target if each not in brokers]
    if unknown:
        raise CommandError(
            ErrorCode.UNKNOWN_BROKER,
            f"brokers {unknown} are not in this cluster; it has {sorted(brokers)}",
        )


def begin(
    record: PartitionRecord,
    target: tuple[int, ...],
    electable: Electable,
    overrides: Overrides,
) -> PartitionRecord:
    """Move to ``target``; a reassignment that is under way is redirected.

    Raises:
        CommandError: That would drop an added replica without which too few are in sync.
    """
    old = settled(record)
    adding = tuple(each for each in target if each not in old)
    removing = tuple(each for each in old if each not in target)
    moved = record._replace(
        replicas=(*target, *removing),
        adding=adding,
        removing=removing,
        partition_epoch=record.partition_epoch + 1,
    )
    moved = election.with_in_sync(moved, record.in_sync)
    _check_left(record, moved, overrides)
    return finish(election.keep_led(moved, electable), electable, overrides)


def cancel(record: PartitionRecord, electable: Electable, overrides: Overrides) -> PartitionRecord:
    """Go back to what was before.

    Raises:
        CommandError: Nothing is under way, or too few of those before are in sync.
    """
    if not record.adding and not record.removing:
        raise CommandError(ErrorCode.NO_REASSIGNMENT, "no reassignment is under way")
    back = record._replace(
        replicas=settled(record),
        adding=(),
        removing=(),
        partition_epoch=record.partition_epoch + 1,
    )
    back = election.with_in_sync(back, record.in_sync)
    _check_left(record, back, overrides)
    return election.keep_led(back, electable)


def finish(record: PartitionRecord, electable: Electable, overrides: Overrides) -> PartitionRecord:
    """Complete a reassignment if everybody who was added is in sync; else leave it alone."""
    if not (record.adding or record.removing) or not set(record.adding) <= set(record.in_sync):
        return record
    stay = target_of(record)
    done = record._replace(
        replicas=stay,
        adding=(),
        removing=(),
        partition_epoch=record.partition_epoch + 1,
    )
    done = election.with_in_sync(done, record.in_sync)
    if _missing(record, done, overrides):
        return record  # too few of those who stay have everything
    return election.keep_led(done, electable)


def _missing(before: PartitionRecord, after: PartitionRecord, overrides: Overrides) -> int:
    """How many in-sync replicas a step would leave too few."""
    need = min(election.min_in_sync_of(after, overrides), len(before.in_sync))
    return max(0, need - len(after.in_sync))


def _check_left(before: PartitionRecord, after: PartitionRecord, overrides: Overrides) -> None:
    if _missing(before, after, overrides):
        raise CommandError(
            ErrorCode.NOT_ENOUGH_REPLICAS,
            f"of replicas {list(after.replicas)} only {list(after.in_sync)} are in sync: wait until"
            " the others have caught up",
        )


def target_of(record: PartitionRecord) -> tuple[int, ...]:
    """The replicas as they are to be: without those that leave."""
    return tuple(each for each in record.replicas if each not in record.removing)


def settled(record: PartitionRecord) -> tuple[int, ...]:
    """The replicas as they were: without those that are being added."""
    return tuple(each for each in record.replicas if each not in record.adding)
