"""What no step of the metadata may ever do, whoever ordered it.

Looked at on every broker with every change that it carries out:

- Leader epochs and partition epochs never fall; a partition epoch rises with each change, a leader
  epoch with each change of leader and with each new session of the leader's broker.
- A leader is in sync and in session.
- The in-sync set is part of the replicas. It does not fall below its minimum, except for a broker
  that came back with another disk: that one is in no in-sync set.
- Whom a reassignment adds is not in sync by that, and is when it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streambus_broker.cluster.brokers import BrokerRecord
    from streambus_broker.cluster.state import ClusterState
    from streambus_broker.metadata.records import PartitionRecord
    from tests.cluster.hosts import Host


class MetadataWatch:
    """See the module.

    Attributes:
        problem: What was seen first; None while all is well.
    """

    def __init__(self) -> None:
        self.problem: str | None = None

    def attach(self, host: Host) -> None:
        """Look at all that a broker carries out from now on."""
        assert host.broker is not None
        machine = host.broker.group.machine
        carry_out, restored = machine.changed, machine.restored
        state = machine.state
        brokers = dict(state.brokers)
        partitions = _partitions(state)

        def changed(changes: Any, deleted: list[Any]) -> None:
            for number, record in _partitions(state).items():
                problem = judge(partitions.get(number), record, brokers, state.brokers)
                if problem is not None and self.problem is None:
                    self.problem = f"broker {host.node_id} went by {record}: {problem}"
            remember()
            carry_out(changes, deleted)

        def remember() -> None:
            brokers.clear()
            brokers.update(state.brokers)
            partitions.clear()
            partitions.update(_partitions(state))

        def begun_again() -> None:
            remember()
            restored()

        machine.changed, machine.restored = changed, begun_again


def _partitions(state: ClusterState) -> dict[int, PartitionRecord]:
    return {
        record.partition_id: record for topic in state.topics.values()
        for record in topic.partitions
    }  # fmt: skip


def judge(
    before: PartitionRecord | None,
    after: PartitionRecord,
    brokers_before: Mapping[int, BrokerRecord],
    brokers: Mapping[int, BrokerRecord],
) -> str | None:
    """Judge one partition's step; None where nothing is wrong with it."""
    leader = brokers.get(after.leader)
    if not set(after.in_sync) <= set(after.replicas):
        return "who is in sync is no replica"
    if leader is not None and (leader.fenced or after.leader not in after.in_sync):
        return "its leader is not in session, or not in sync"
    if before is None:
        return None
    former = brokers_before.get(after.leader)
    anew = leader is not None and former is not None and leader.epoch != former.epoch
    if after.leader_epoch < before.leader_epoch + (after.leader != before.leader or anew):
        return f"the leader epoch was {before.leader_epoch}, of broker {before.leader}"
    if after.partition_epoch < before.partition_epoch + (after != before):
        return f"the partition epoch was {before.partition_epoch}"
    done = set(before.adding) & set(after.replicas) - set(after.adding)
    new = set(after.adding) - set(before.adding) - set(before.in_sync)
    if not done <= set(after.in_sync) or new & set(after.in_sync):
        return f"those that were to be added were {before.adding}"
    return _judge_in_sync(before, after, brokers_before, brokers)


def _judge_in_sync(
    before: PartitionRecord,
    after: PartitionRecord,
    brokers_before: Mapping[int, BrokerRecord],
    brokers: Mapping[int, BrokerRecord],
) -> str | None:
    lost = {
        each for each in before.replicas
        if each in brokers and each in brokers_before
        and brokers[each].storage_id != brokers_before[each].storage_id
    }  # fmt: skip
    if lost & set(after.in_sync):
        return f"brokers {lost} came back with other disks"
    target = len(after.replicas) - len(after.removing)
    need = min(target // 2 + 1, len(set(before.in_sync) - lost))
    if len(after.in_sync) < need:
        return f"in sync were {before.in_sync}"
    return None
