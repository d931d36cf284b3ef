"""What one broker of a cluster knows and holds: its replicas, and how the metadata moves them.

`ClusterNode` is the single broker's `Node` with replicas beside the logs. Changes of the metadata
arrive by `adopt`, in the order of the metadata log; each partition record says who leads, and this
broker leads, follows or waits accordingly. It does neither before it has registered with its
present incarnation: what earlier records say of it was said to a process that is no more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from streambus_broker.cluster.common_time import CommonTime
from streambus_broker.cluster.election import min_in_sync_of
from streambus_broker.cluster.group import UncertainError
from streambus_broker.cluster.lease import NEVER_S
from streambus_broker.cluster.replica import NOBODY, Replica
from streambus_broker.cluster.replica_log import ReplicaLog, drop_marks, stored_partitions
from streambus_broker.cluster.settings import REPLICATION_FACTOR_MAX, in_force
from streambus_broker.log.keys import partition_prefix, start_mark_key
from streambus_broker.log.partition import PartitionLog
from streambus_broker.log.producers import ProducerStates
from streambus_broker.metadata.registry import CommandError, DeleteTopic
from streambus_broker.node import Node
from streambus_protocol import ErrorCode
from streambus_storage import CorruptionError, StorageError, WriteBatch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from streambus_broker.cluster.brokers import BrokerRecord
    from streambus_broker.cluster.changes import ClusterChanges
    from streambus_broker.cluster.fetcher import Fetchers
    from streambus_broker.cluster.replica_sessions import ReplicaSessions
    from streambus_broker.cluster.state import ClusterState
    from streambus_broker.config.topics import TopicSettings
    from streambus_broker.metadata.records import PartitionRecord, TopicRecord
    from streambus_broker.metadata.registry import Command
    from streambus_broker.observe.logs import Logger

READABLE = 1 << 40
"""Counted for bytes that became readable where nobody counted them: enough for any fetch."""


class ClusterNode(Node):
    """See the module.

    Attributes:
        state: The metadata; also the registry of the single broker's interfaces.
        incarnation: Random bytes of this process.
        replicas: By partition id.
        common_time: What most brokers take for the time.
        sessions: Followers of what this broker leads.
        fetchers: What this broker follows.
        propose: Carries a command to the metadata group; set when that runs.
        voter_count: How many voters the group has; set with it.
        damaged: Told of bytes that are not what was written; set before anything is read.
        changed_count: Changes of partitions that commands have made, as far as this process has
            gone through the log.
        unlearnt: Replicas that this broker was to lead, and whose producers it cannot find out: it
            takes no records for them.
    """

    leased = True
    state: ClusterState
    sessions: ReplicaSessions
    fetchers: Fetchers
    propose: Callable[[Any], Awaitable[Any]]
    voter_count: Callable[[], int]
    damaged: Callable[[StorageError], None]

    def __init__(self, *arguments: Any, incarnation: bytes, logger: Logger) -> None:
        super().__init__(*arguments)
        self.state = arguments[1]  # the registry, by its own type
        # Its creation may be on the way here; a look at the metadata tells for certain.
        self.unknown_topic = ErrorCode.LEADER_NOT_AVAILABLE
        self.incarnation = incarnation
        self.cluster_logger = logger
        self.replicas: dict[int, Replica] = {}
        self.unlearnt: dict[int, Replica] = {}
        self.loop = asyncio.get_running_loop()
        self.leads_until_s = NEVER_S
        self.common_time = CommonTime()
        self.changed_count = 0
        self._flush_asked = False
        self._adopted: dict[str, TopicRecord] = {}
        self._stored: set[int] | None = None  # partitions of which something may be on disk

    # --- who this is ---------------------------------------------------------------------------

    @property
    def me(self) -> BrokerRecord | None:
        """This process's own record while it has a session; else None."""
        record = self.state.brokers.get(self.config.node_id)
        if record is None or record.incarnation != self.incarnation or record.fenced:
            return None
        return record

    @property
    def knows_latest(self) -> bool:
        """Whether the registration of this process was carried out: all that came before, too.

        A broker that starts goes through the metadata's past once more: partitions leave it that
        have come back since, with records, and topics have settings that they had once.
        """
        record = self.state.brokers.get(self.config.node_id)
        return record is not None and record.incarnation == self.incarnation

    def retention_now_ms(self) -> int | None:
        """The time by which records are deleted: what most brokers take for it, or earlier."""
        return self.common_time.earlier_ms(self.own_time_ms(), self.steady_s())

    def leader_epoch(self, partition: PartitionRecord) -> int:
        """The epoch in force."""
        return partition.leader_epoch

    def default_partitions(self) -> int:
        """Partitions of a topic that does not say how many."""
        return in_force(self.state.settings, self.config, "default_partitions")

    def default_replication_factor(self) -> int:
        """Replicas of a topic that does not say how many.

        The first voters count as brokers before they have come: a topic that is created while the
        cluster forms does not end up with one replica.
        """
        factor = in_force(self.state.settings, self.config, "default_replication_factor")
        if factor != -1:
            return factor
        return min(REPLICATION_FACTOR_MAX, max(len(self.state.brokers), self.voter_count()))

    async def commit(self, command: Command) -> None:
        """Have the metadata group carry a command out.

        Raises:
            CommandError: It cannot be carried out, or nobody knows yet whether it was.
        """
        try:
            await self.propose(command)
        except UncertainError as exc:
            raise CommandError(ErrorCode.REQUEST_TIMED_OUT, str(exc)) from exc

    async def delete_topic(self, name: str, topic_id: bytes) -> None:
        """Delete a topic; every broker gives the space back by itself."""
        await self.commit(DeleteTopic(name, topic_id))

    # --- what the metadata says ----------------------------------------------------------------

    def adopt(self, changes: ClusterChanges, deleted: list[TopicRecord]) -> None:
        """Do what changed metadata asks of this broker."""
        mine = self.config.node_id
        self.sessions.brokers_changed(changes.brokers)
        for topic in deleted:
            self._adopted.pop(topic.name, None)
            for record in topic.partitions:
                self._drop(record.partition_id)
        if any(broker.broker_id == mine for broker in changes.brokers):
            self.changed_count += sum(len(topic.partitions) for topic in changes.topics)
            self.adopt_all()
        else:
            self.changed_count += self._adopt_topics(changes.topics)
            if changes.brokers:
                self.fetchers.brokers_changed(changes.brokers)
        if changes.settings is not None:
            self._use_settings()
        self.flush_soon()

    def _use_settings(self) -> None:
        """Go by the settings of the cluster."""
        key = "replication_throttle_bytes_per_s"
        self.sessions.throttle.limit(in_force(self.state.settings, self.config, key))

    def adopt_all(self) -> None:
        """Do what the whole metadata asks: after a registration, a fencing or a snapshot."""
        self._use_settings()
        self._adopted.clear()  # whatever it was adopted under holds no more
        self.sessions.brokers_changed(self.state.brokers.values())
        known = {
            record.partition_id for topic in self.state.topics.values()
            for record in topic.partitions
        }  # fmt: skip
        for partition_id in [each for each in self.replicas if each not in known]:
            self._drop(partition_id)
        self._adopt_topics(tuple(self.state.topics.values()))
        self.fetchers.brokers_changed(tuple(self.state.brokers.values()))
        self.flush_soon()

    def _adopt_topics(self, topics: tuple[TopicRecord, ...]) -> int:
        """Return how many partitions changed."""
        mine, count = self.config.node_id, 0
        for topic in topics:
            settings = self._defaults.overridden(topic.overrides)
            for number, record in self._news(topic):
                count += 1
                replica = self.replicas.get(record.partition_id)
                if mine not in record.replicas:
                    if replica is not None:
                        self._drop(record.partition_id)
                    continue
                if replica is None:
                    replica = self._open(topic, number, record, settings)
                elif replica.stored.log.settings != settings:
                    replica.stored.log.use_settings(settings)
                self._take_place(replica, record, topic)
        return count

    def _news(self, topic: TopicRecord) -> Iterable[tuple[int, PartitionRecord]]:
        """The partitions of a topic that changed since it was adopted last.

        A topic has up to 10,000 of them, and most changes are of a few.
        """
        before, self._adopted[topic.name] = self._adopted.get(topic.name), topic
        numbered = enumerate(topic.partitions)
        if before is None or before.overrides != topic.overrides:
            return numbered
        known = before.partitions
        count = len(known)
        return [
            (number, record) for number, record in numbered
            if number >= count or known[number] is not record
        ]  # fmt: skip

    def _open(
        self, topic: TopicRecord, number: int, record: PartitionRecord, settings: TopicSettings
    ) -> Replica:
        log = PartitionLog(
            topic.name,
            number,
            record.partition_id,
            settings,
            leads=False,
            producers=ProducerStates(self.producer_limits),
        )
        stored = ReplicaLog(log, self.store)
        if self._stored is None:
            self._stored = stored_partitions(self.store)
        if record.partition_id in self._stored:  # looking takes ten times as long as the rest
            stored.recover()
        replica = Replica(topic.name, number, stored, record)
        self.replicas[record.partition_id] = replica
        self.logs[topic.name, number] = log
        return replica

    def _take_place(self, replica: Replica, record: PartitionRecord, topic: TopicRecord) -> None:
        """Lead, follow or wait, as the record says."""
        before, replica.record = replica.record, record
        me = self.me
        if me is None or record.leader != me.broker_id:
            if replica.leading is not None:
                replica.stop_leading(f"broker {record.leader} leads it now")
                self.sessions.ended(replica.partition_id)
            replica.stored.log.leader_epoch = record.leader_epoch
            leader = record.leader if me is not None else NOBODY
            again = record.leader_epoch != before.leader_epoch
            self.server.due += self.waits.all_of(replica.partition_id)
            if leader != replica.follows or (again and leader != NOBODY):
                replica.follows = leader
                self.fetchers.follow(replica)
            return
        minimum = min_in_sync_of(record, topic.overrides)
        leading = before_leading = replica.leading
        now_s = self.loop.time()
        if leading is None or replica.stored.log.leader_epoch != record.leader_epoch:
            if replica.follows != NOBODY:
                replica.follows = NOBODY
                self.fetchers.follow(replica)
            if leading is not None:
                replica.stop_leading("it is led in a new epoch")
                self.sessions.ended(replica.partition_id)
            self.learn_producers(replica)
            leading = replica.lead(
                me.broker_id,
                min_in_sync=minimum,
                lag_s_max=self.config.replica_lag_ms_max / 1000,
                now_s=now_s,
            )
        else:
            leading.use_replicas(record.replicas, now_s)
            leading.min_in_sync = minimum
        if leading is not before_leading or record.partition_epoch != before.partition_epoch:
            # Only a change of this partition decides on what was asked for: of its topic's other
            # partitions this one hears, too, and the request would be forgotten while it is open.
            leading.use_in_sync(record.in_sync)
        if (
            leading is not before_leading
            and replica.stored.durable < replica.stored.log.next_offset
        ):
            self.synced_later(replica, self.store.tree.last_sequence)
        self.watermark_moved(replica)

    def learn_producers(self, replica: Replica) -> None:
        """Have a leader know its producers, or note that it does not: see `unlearnt`."""
        try:
            replica.stored.learn_producers()
        except StorageError as error:
            self.unlearnt[replica.partition_id] = replica
            self.storage_failed("lead", error)
        else:
            self.unlearnt.pop(replica.partition_id, None)

    def _drop(self, partition_id: int) -> None:
        """Hold a partition no more: it was deleted, or moved to others.

        Its records go at once, or, where that may be long past, when it is certain: see
        `remove_unknown`.
        """
        replica = self.replicas.pop(partition_id, None)
        if replica is None:
            return
        self.unlearnt.pop(partition_id, None)
        replica.stop_leading("this broker holds it no more")
        replica.follows = NOBODY
        self.fetchers.follow(replica)
        self.sessions.ended(partition_id)
        self.logs.pop((replica.topic, replica.partition), None)
        replica.stored.producers.clear()
        self.server.due += self.waits.all_of(partition_id)
        if self._stored is not None:  # whether they go or not: look, should it come back
            self._stored.add(partition_id)
        if self.knows_latest:
            self._remove_records([partition_id])

    def remove_unknown(self) -> None:
        """Give back the space of partitions that the metadata does not place here (any more).

        To be called once `knows_latest`.
        """
        unknown = [each for each in self.store.partition_ids() if each not in self.replicas]
        if unknown:
            self.cluster_logger.info("reclaim", "records of other brokers' partitions removed",
                             partitions=len(unknown))  # fmt: skip
            self._remove_records(unknown)

    def _remove_records(self, partition_ids: list[int]) -> None:
        batch = WriteBatch()
        for partition_id in partition_ids:
            self.store.tail.forget(partition_id)
            batch.delete_range(partition_prefix(partition_id), partition_prefix(partition_id + 1))
            batch.delete(start_mark_key(partition_id))
            drop_marks(batch, partition_id)
        try:
            self.store.tree.write(batch)
        except StorageError as error:  # found and removed at the next start
            self.storage_failed("reclaim", error)

    def storage_failed(self, operation: str, error: StorageError) -> tuple[ErrorCode, str]:
        """As for the single broker; damage besides ends this broker's part: others have it all."""
        if isinstance(error, CorruptionError):
            self.damaged(error)
        return super().storage_failed(operation, error)

    def storage_works(self) -> None:
        """Leave the judgement to `StorageWatch`: one small write may find a last bit of room."""

    def storage_tried(self) -> None:
        """Take note that a write of some size succeeded after failures."""
        if self.storage_error is not None:
            super().storage_works()

    # --- what is committed ---------------------------------------------------------------------

    def synced_later(self, replica: Replica, sequence: int) -> None:
        """Count a leader's own writes once they are durable."""
        written, leading = replica.stored.written(), replica.leading

        def synced(error: Exception | None) -> None:
            if error is not None:
                assert isinstance(error, StorageError)
                code, detail = self.storage_failed("sync", error)
                del code
                if replica.leading is leading and leading is not None:
                    replica.stop_leading(detail)
                return
            if replica.leading is leading and leading is not None:
                replica.stored.synced(written)
                leading.synced(written.end)
                self.watermark_moved(replica)

        self.durability.when_durable(sequence, synced)

    def watermark_moved(self, replica: Replica) -> None:
        """Let consumers see what is committed, and tell those who wait for it."""
        leading = replica.leading
        log = replica.stored.log
        if leading is None or not log.advance_high_watermark(leading.high_watermark):
            return
        if replica.waiting:
            replica.committed()
        self.sessions.watermark_moved(log.partition_id)
        self.readable(log)

    def readable(self, log: PartitionLog) -> None:
        """Consumers may see more of a log than before: answer those who wait for it."""
        if self.waits.count:
            self.server.due += self.waits.grown(log.partition_id, READABLE)
        self.flush_soon()

    def follows_in_step(self, replica: Replica) -> bool:
        """Whether consumers may read from a replica that follows (KIP-392).

        It may be read from while it is in sync, as far as the metadata here says, and its leader
        and the controller have been heard of lately. It knows the high watermark then, or an older
        one; what is below either is committed.
        """
        me = self.me
        return (
            me is not None
            and replica.follows != NOBODY
            and me.broker_id in replica.record.in_sync
            and not self.lapsed()
            and self.fetchers.in_step(replica)
        )

    def flush_soon(self) -> None:
        """Write the answers that have gathered, once, at the end of this turn of the loop."""
        if not self._flush_asked:
            self._flush_asked = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_asked = False
        self.server.answer_due()

    def living_in_sync(self, replica: Replica) -> int:
        """How many of a partition's in-sync replicas may be counted on, the leader included."""
        brokers, mine = self.state.brokers, self.config.node_id
        count = 0
        for broker_id in replica.record.in_sync:
            broker = brokers.get(broker_id)
            count += broker is not None and (broker_id == mine or broker.keeps_up)
        return count
