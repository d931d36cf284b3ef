"""What the controller answers a leader that asks for another in-sync set. Pure.

A leader that has many partitions asks for all of them in one command: a broker that comes back is
due in thousands of sets at once, and each command costs a round of the metadata group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_broker.cluster import commands as c
from streambus_broker.cluster import election, reassignment
from streambus_broker.cluster.changes import ClusterChanges, with_partitions
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from streambus_broker.cluster.election import Electable
    from streambus_broker.cluster.state import ClusterState
    from streambus_broker.metadata.records import PartitionRecord


def alter(state: ClusterState, command: c.AlterInSync) -> ClusterChanges:
    """Judge one request.

    Raises:
        CommandError: It is refused.
    """
    altered = _altered(state, command, state.electable())
    topic = state.topics[command.topic]
    return ClusterChanges((with_partitions(topic, {command.partition: altered}),))


def alter_many(state: ClusterState, command: c.AlterInSyncs) -> ClusterChanges:
    """Judge many, each as if it came alone; what is refused leaves the others as they are."""
    electable = state.electable()
    changed: dict[str, dict[int, PartitionRecord]] = {}
    answer = []
    for topic, number, partition_id, leader_epoch, partition_epoch, members in command.wanted:
        one = c.AlterInSync(topic, number, command.leader, leader_epoch, partition_epoch, members)
        try:
            if state.partition(topic, number).partition_id != partition_id:
                raise CommandError(ErrorCode.UNKNOWN_PARTITION, f"{topic!r} was created anew")
            if number in changed.get(topic, ()):
                raise CommandError(ErrorCode.STALE_PARTITION_EPOCH, "it was named twice")
            altered = _altered(state, one, electable)
        except CommandError as error:
            answer.append(int(error.code))
        else:
            answer.append(0)
            changed.setdefault(topic, {})[number] = altered
    topics = tuple(with_partitions(state.topics[name], some) for name, some in changed.items())
    return ClusterChanges(topics, answer=answer)


def _altered(state: ClusterState, command: c.AlterInSync, electable: Electable) -> PartitionRecord:
    record = state.partition(command.topic, command.partition)
    topic = state.topics[command.topic]
    if (record.leader, record.leader_epoch) != (command.leader, command.leader_epoch):
        raise CommandError(
            ErrorCode.FENCED_LEADER_EPOCH,
            f"broker {record.leader} leads {command.topic}[{command.partition}] in epoch"
            f" {record.leader_epoch}, not broker {command.leader} in {command.leader_epoch}",
        )
    if record.partition_epoch != command.partition_epoch:
        raise CommandError(
            ErrorCode.STALE_PARTITION_EPOCH,
            f"partition epoch {command.partition_epoch}, {record.partition_epoch} is in force",
        )
    wanted = {broker_id for broker_id, _ in command.members}
    if command.leader not in wanted or not wanted <= set(record.replicas):
        raise CommandError(
            ErrorCode.INVALID_REQUEST, f"in-sync set {sorted(wanted)} of {record.replicas}"
        )
    for broker_id, epoch in command.members:
        if (
            broker_id not in record.in_sync
            and not state.broker_in_session(broker_id, epoch).keeps_up
        ):
            problem = f"broker {broker_id} is shutting down, or its storage takes no writes"
            raise CommandError(ErrorCode.STALE_BROKER_EPOCH, problem)
    grown = election.with_in_sync(record, wanted | set(record.in_sync))
    gone = set(record.in_sync) - wanted
    minimum = election.min_in_sync_of(record, topic.overrides)
    altered = election.shrink(grown, gone, minimum)
    altered = altered._replace(partition_epoch=record.partition_epoch + 1)
    done = reassignment.finish(altered, electable, topic.overrides)
    if done.leader in electable.able:
        return done
    # It led because nobody else was in sync.
    stuck = [each.broker_id for each in state.brokers.values() if each.read_only]
    return election.let_go(election.keep_led(done, electable), stuck, minimum)
