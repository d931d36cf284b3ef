"""The metadata state machine: what the Raft group replicates. Pure and deterministic.

`ClusterState` extends the registry of a single broker by brokers, elections, in-sync sets and
reassignments. A command is judged by `judge`, which gives the changes or raises `CommandError` and
leaves the state alone; `adopt` makes them the state. All brokers do both, in the log's order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from streambus_broker.cluster import commands as c
from streambus_broker.cluster import (
    election,
    in_sync,
    placement,
    reassignment,
    registering,
    replacing,
)
from streambus_broker.cluster.brokers import BrokerRecord
from streambus_broker.cluster.changes import ClusterChanges, with_partitions
from streambus_broker.cluster.settings import REPLICATION_FACTOR_MAX
from streambus_broker.metadata.records import ClusterRecord, PartitionRecord, TopicRecord
from streambus_broker.metadata.registry import (
    Changes,
    CommandError,
    CreateTopic,
    DeleteTopic,
    Registry,
    TakeProducerIds,
)
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_broker.cluster.commands import ClusterCommand

SNAPSHOT_VERSION = 1


class Placed(NamedTuple):
    """A partition and where it belongs."""

    topic: TopicRecord
    number: int
    record: PartitionRecord


@dataclass(slots=True)
class ClusterState(Registry):
    """See the module.

    Attributes:
        brokers: Every broker that ever registered and was not removed.
        next_producer_id: The first producer id not yet handed out.
        settings: Settings of the whole cluster that differ from the brokers' own.
        removed: Brokers that were removed, by the identity of their data directory: with that one
            they do not come back.
        index: Position in the log of the last command.
    """

    cluster: ClusterRecord = field(default_factory=lambda: ClusterRecord(""))
    brokers: dict[int, BrokerRecord] = field(default_factory=dict)
    next_producer_id: int = 1
    settings: dict[str, int] = field(default_factory=dict)
    removed: dict[int, bytes] = field(default_factory=dict)
    index: int = 0

    # --- questions -----------------------------------------------------------------------------

    @property
    def sessions(self) -> dict[int, int]:
        """The epochs of the sessions that go on, by broker."""
        return {each.broker_id: each.epoch for each in self.brokers.values() if not each.fenced}

    @property
    def living(self) -> set[int]:
        """Brokers whose session goes on."""
        return {each.broker_id for each in self.brokers.values() if not each.fenced}

    @property
    def able(self) -> set[int]:
        """Brokers that may be made leaders."""
        return {each.broker_id for each in self.brokers.values() if each.leads}

    def electable(self, changed: BrokerRecord | None = None) -> election.Electable:
        """Who may lead, once this broker is as given."""
        brokers = dict(self.brokers)
        if changed is not None:
            brokers[changed.broker_id] = changed
        return election.Electable.of(brokers.values())

    def broker(self, broker_id: int) -> BrokerRecord:
        """A broker.

        Raises:
            CommandError: It is unknown.
        """
        broker = self.brokers.get(broker_id)
        if broker is None:
            raise CommandError(
                ErrorCode.UNKNOWN_BROKER, f"there is no broker {broker_id} in this cluster"
            )
        return broker

    def broker_in_session(self, broker_id: int, epoch: int) -> BrokerRecord:
        """The broker, if ``epoch`` names its present session.

        Raises:
            CommandError: It is unknown, or the session is over.
        """
        broker = self.brokers.get(broker_id)
        if broker is None or broker.epoch != epoch or broker.fenced:
            raise CommandError(
                ErrorCode.STALE_BROKER_EPOCH,
                f"broker {broker_id} has no session {epoch}; it has to register anew",
            )
        return broker

    def broker_asking(self, broker_id: int, epoch: int, incarnation: bytes) -> BrokerRecord:
        """The broker that made a request, if that names its present session.

        Raises:
            CommandError: It has no such session (STALE_BROKER_EPOCH); or it may have one by now,
                which is not known here yet (OFFSET_NOT_AVAILABLE): it is to ask again, and not to
                register anew, which would cost it what it leads.
        """
        if epoch > self.index:
            raise CommandError(
                ErrorCode.OFFSET_NOT_AVAILABLE,
                f"session {epoch} of broker {broker_id} is not known here yet; ask again",
            )
        broker = self.broker_in_session(broker_id, epoch)
        if broker.incarnation != incarnation:
            raise CommandError(ErrorCode.STALE_BROKER_EPOCH, f"this is not broker {broker_id}")
        return broker

    def partition(self, topic: str, number: int) -> PartitionRecord:
        """A partition.

        Raises:
            CommandError: There is none.
        """
        known = self._existing(topic)
        if not 0 <= number < len(known.partitions):
            raise CommandError(
                ErrorCode.UNKNOWN_PARTITION,
                f"topic {topic!r} has no partition {number}; it has 0 to"
                f" {len(known.partitions) - 1}",
            )
        return known.partitions[number]

    def min_in_sync(self, topic: TopicRecord, number: int) -> int:
        """The min_insync_replicas in force for a partition."""
        return election.min_in_sync_of(topic.partitions[number], topic.overrides)

    # --- changes -------------------------------------------------------------------------------

    def judge(self, index: int, command: ClusterCommand) -> ClusterChanges:
        """Judge the command at ``index`` of the log; the state stays as it is.

        Raises:
            CommandError: It cannot be carried out.
        """
        if isinstance(command, c.RegisterBroker):
            return registering.register(self, index, command)
        own = _JUDGES.get(type(command))
        if own is not None:
            return own(self, command)
        changes = Registry.plan(self, command)  # type: ignore[arg-type]  # the registry's own
        cluster = changes.cluster
        if isinstance(command, DeleteTopic):
            cluster = None  # every broker reclaims by itself what the metadata does not name
        return ClusterChanges(changes.topics, changes.deleted, cluster)

    def plan(self, command: Any) -> ClusterChanges:
        """What a command would change if it came next; for requests that only ask.

        Raises:
            CommandError: It could not be carried out.
        """
        return self.judge(self.index + 1, command)

    def adopt(self, changes: Changes) -> None:
        """Make judged changes the state."""
        Registry.adopt(self, changes)
        if isinstance(changes, ClusterChanges):
            for broker in changes.brokers:
                self.brokers[broker.broker_id] = broker
                self.removed.pop(broker.broker_id, None)
            for broker_id in changes.removed:
                self.removed[broker_id] = self.brokers.pop(broker_id).storage_id
            if changes.settings is not None:
                self.settings = changes.settings
            if changes.next_producer_id is not None:
                self.next_producer_id = changes.next_producer_id

    def _form(self, command: c.FormCluster) -> ClusterChanges:
        if self.cluster.cluster_id:
            return ClusterChanges(answer=self.cluster.cluster_id)
        cluster = replace(self.cluster, cluster_id=command.cluster_id)
        return ClusterChanges(cluster=cluster, answer=command.cluster_id)

    def _reassign(self, command: c.Reassign) -> ClusterChanges:
        changed: dict[str, dict[int, PartitionRecord]] = {}
        electable = self.electable()
        for name, number, target in command.moves:
            record = changed.get(name, {}).get(number) or self.partition(name, number)
            overrides = self.topics[name].overrides
            if target is None:
                moved = reassignment.cancel(record, electable, overrides)
            else:
                reassignment.check_target(target, self.brokers)
                moved = reassignment.begin(record, target, electable, overrides)
            changed.setdefault(name, {})[number] = moved
        return ClusterChanges(
            tuple(with_partitions(self.topics[name], records) for name, records in changed.items())
        )

    def _set_factor(self, command: c.SetReplicationFactor) -> ClusterChanges:
        topic = self._existing(command.topic)
        loads = [each for each in self.loads() if each.able]
        self._check_factor(command.factor, loads)
        changed, electable = {}, self.electable()
        for number, record in enumerate(topic.partitions):
            now = reassignment.target_of(record)
            if len(now) < command.factor:
                target = placement.extend(now, command.factor, loads, number)
            else:
                target = placement.reduce(now, command.factor, record.leader)
            changed[number] = reassignment.begin(record, target, electable, topic.overrides)
        return ClusterChanges((with_partitions(topic, changed),))

    def _elect(self, command: c.ElectLeaders) -> ClusterChanges:
        electable, living = self.electable(), self.living
        chosen = None if command.partitions is None else set(command.partitions)
        for name, number in command.partitions or ():
            self.partition(name, number)
        warnings: list[str] = []
        elected = 0

        def change(placed: Placed) -> PartitionRecord:
            nonlocal elected
            record = placed.record
            name = placed.topic.name
            if chosen is not None and (name, placed.number) not in chosen:
                return record
            leader = election.choose_leader(record, electable)
            if command.unclean and leader < 0 and record.leader < 0:
                leader = next((each for each in record.replicas if each in living), -1)
                if leader >= 0:
                    record = record._replace(in_sync=(leader,))
                    warnings.append(
                        f"unclean election: broker {leader} leads {name}[{placed.number}] although"
                        " it was not in sync; acknowledged records may be lost"
                    )
            if leader < 0 or leader == record.leader:
                return record
            if record.leader >= 0 and leader not in electable.able:
                return record
            if record.leader in electable.able and leader != record.replicas[0]:
                return record  # not the preferred one: moving would gain nothing
            elected += 1
            return election.with_leader(record, leader)

        topics = self.each_partition(change)
        return ClusterChanges(topics, answer=elected, warnings=tuple(warnings))

    def _take_ids(self, command: TakeProducerIds) -> ClusterChanges:
        first = self.next_producer_id
        return ClusterChanges(next_producer_id=first + command.count, answer=first)

    def _set_vote(self, command: c.SetVote) -> ClusterChanges:
        broker = replace(self.broker(command.broker_id), vote=command.wanted)
        return ClusterChanges(brokers=(broker,))

    def _set_settings(self, command: c.SetClusterSettings) -> ClusterChanges:
        settings = {**self.settings}
        for key, value in command.settings:
            if value is None:
                settings.pop(key, None)
            else:
                settings[key] = value
        return ClusterChanges(settings=settings)

    def _create_placed(self, command: CreateTopic) -> ClusterChanges:
        if self.is_made(command):  # whatever brokers there are by now
            return ClusterChanges()
        brokers = tuple(load.broker_id for load in self.loads())
        factor = command.replication_factor
        if factor == -1:  # an earlier release left the choice to the time of carrying it out
            factor = min(REPLICATION_FACTOR_MAX, max(1, len(brokers)))
        self._check_factor(factor, self.loads())
        placed = replace(command, brokers=brokers, replication_factor=factor)
        changes = Registry.plan(self, placed)
        return ClusterChanges(changes.topics, cluster=changes.cluster)

    # --- parts ---------------------------------------------------------------------------------

    def _new_partitions(
        self,
        count: int,
        factor: int,
        brokers: tuple[int, ...],  # noqa: ARG002 - every broker that is able
        first: int = 0,  # noqa: ARG002 - the load decides, not the number
    ) -> tuple[PartitionRecord, ...]:
        """Place new partitions by rack and load, on brokers that live where there are enough.

        One that is just away may get a replica too, which it begins to copy when it is back.
        """
        loads = self.loads()
        self._check_factor(factor, loads)
        able = {load.broker_id for load in loads if load.able}
        first_id = self.cluster.next_partition_id
        made = []
        for place, replicas in enumerate(placement.place(count, factor, loads, first_id)):
            in_sync = tuple(each for each in replicas if each in able)
            made.append(PartitionRecord(first_id + place, replicas, replicas[0], 0, in_sync))
        return tuple(made)

    def _check_factor(self, factor: int, loads: list[placement.Load]) -> None:
        brokers = len(loads)
        if not 1 <= factor <= brokers:
            taken = {load.broker_id for load in loads}
            others = sorted(each for each in self.brokers if each not in taken)
            but = f" (not {', '.join(map(str, others))}: see `cluster members`)" if others else ""
            raise CommandError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"replication factor {factor}, and {brokers} broker{'s' * (brokers != 1)} may take"
                f" replicas{but}; use 1 to {brokers}, or add brokers",
            )
        living = sum(load.able for load in loads)
        if living < factor // 2 + 1:
            raise CommandError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"replication factor {factor}, and only {living} of {brokers} brokers live; start"
                " the others first",
            )

    def loads(self) -> list[placement.Load]:
        """What the brokers that may take new replicas carry; not every one of them need live."""
        takers = (
            (each.broker_id, each.rack, each.leads)
            for each in self.brokers.values()
            if each.takes_replicas
        )
        return placement.measure(
            takers,
            (record.replicas for topic in self.topics.values() for record in topic.partitions),
        )

    def each_partition(
        self, change: Callable[[Placed], PartitionRecord]
    ) -> tuple[TopicRecord, ...]:
        """Offer every partition to ``change``; give the topics of those that it changed."""
        topics = []
        for topic in self.topics.values():
            changed = {}
            for number, record in enumerate(topic.partitions):
                altered = change(Placed(topic, number, record))
                if altered is not record:
                    changed[number] = altered
            if changed:
                topics.append(with_partitions(topic, changed))
        return tuple(topics)

    # --- snapshots -----------------------------------------------------------------------------

    def encode(self) -> bytes:
        """The whole state as bytes."""
        cluster = self.cluster
        packed: bytes = msgpack.packb(
            [
                SNAPSHOT_VERSION,
                self.index,
                [cluster.cluster_id, cluster.next_partition_id],
                [broker.row() for broker in self.brokers.values()],
                [topic.encode() for topic in self.topics.values()],
                self.next_producer_id,
                self.settings,
                self.removed,
            ]
        )
        return packed

    def become(self, other: ClusterState) -> None:
        """Be equal to another state, which is not used from then on."""
        for name in (each.name for each in fields(ClusterState)):
            setattr(self, name, getattr(other, name))

    def load(self, data: bytes) -> None:
        """Replace the state by what `encode` made.

        Raises:
            ValueError: It is of a later version, or something else.
        """
        try:
            row = msgpack.unpackb(data, strict_map_key=False)
            version, index, cluster, brokers, topics, next_producer_id = row[:6]
            settings, removed = row[6:8] if len(row) > 7 else ({}, {})  # of an earlier release
            if version != SNAPSHOT_VERSION:
                raise ValueError(f"version {version}, this broker reads {SNAPSHOT_VERSION}")
            decoded = [TopicRecord.decode(topic) for topic in topics]
            records = [BrokerRecord.from_row(row) for row in brokers]
            self.cluster = ClusterRecord(cluster[0], cluster[1])
        except (TypeError, ValueError, IndexError, msgpack.UnpackException) as exc:
            raise ValueError(f"not a snapshot of the metadata: {exc}") from exc
        self.index, self.next_producer_id = index, next_producer_id
        self.settings, self.removed = dict(settings), dict(removed)
        self.brokers = {record.broker_id: record for record in records}
        self.topics = {topic.name: topic for topic in decoded}


_JUDGES: dict[type, Callable[..., ClusterChanges]] = {
    c.FormCluster: ClusterState._form,
    c.FenceBroker: registering.fence,
    c.LeaveBroker: registering.leave,
    c.SetMaintenance: registering.maintain,
    c.SetReadOnly: registering.set_read_only,
    c.RemoveBroker: registering.remove,
    c.AlterInSync: in_sync.alter,
    c.AlterInSyncs: in_sync.alter_many,
    c.Reassign: ClusterState._reassign,
    c.SetReplicationFactor: ClusterState._set_factor,
    c.ElectLeaders: ClusterState._elect,
    TakeProducerIds: ClusterState._take_ids,
    c.SetVote: ClusterState._set_vote,
    c.SetClusterSettings: ClusterState._set_settings,
    c.ReplaceBroker: replacing.begin,
    c.CancelReplace: replacing.cancel,
    CreateTopic: ClusterState._create_placed,
}
