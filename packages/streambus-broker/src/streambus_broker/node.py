"""What one broker knows and holds: metadata, the logs that it serves, and how both change.

`Node` joins the pure cores with the two trees. The APIs (`streambus_broker.api`) are functions
over it; the network and the life cycle are elsewhere.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from streambus_broker.log.durability import DurabilityQueue
from streambus_broker.log.partition import PartitionLog
from streambus_broker.log.producers import ProducerLimits, ProducerStates
from streambus_broker.log.retention import RetentionClock
from streambus_broker.log.waits import WaitSet
from streambus_broker.metadata.registry import Changes, Command, DeleteTopic, Reclaimed
from streambus_broker.metadata.store import encode_changes
from streambus_protocol import ErrorCode
from streambus_storage import DiskFullError, StorageError, TreeFailedError, WriteStallError

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from streambus_broker.config.broker import BrokerConfig
    from streambus_broker.log.store import LogStore
    from streambus_broker.metadata.records import PartitionRecord, TopicRecord
    from streambus_broker.metadata.registry import Registry
    from streambus_broker.network.server import DataServer
    from streambus_broker.observe.logs import Logger
    from streambus_storage import LSMTree


class Node:
    """See the module.

    Attributes:
        logs: The partitions served here, by topic and number.
        producer_limits: How many producers the partitions may remember.
        waits: Fetches that wait for records.
        durability: Tells acknowledgements by all when the data tree is synced.
        advertised: ``(host, port)`` that clients are told.
        storage_error: The last error of a write, None once writes work again.
        closing: True from the beginning of the shutdown.
        leased: Whether this broker leads only as long as others let it: one of a cluster.
        leads_until_s: When it stops to, on the clock of `steady_s`.
        steady_s: A clock that never jumps.
        unknown_topic: What to answer about a topic that this broker does not know.
    """

    leased = False

    def __init__(
        self,
        config: BrokerConfig,
        registry: Registry,
        meta: LSMTree,
        store: LogStore,
        server: DataServer,
        clock_ms: Callable[[], int],
        random: Random,
        logger: Callable[[str], Logger],
        steady_s: Callable[[], float] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.steady_s = steady_s or loop.time
        self.leads_until_s = math.inf
        self.config = config
        self.registry = registry
        self.meta = meta
        self.store = store
        self.server = server
        self.clock_ms = clock_ms
        self.random = random
        self.logger = logger("topics")
        self.storage_logger = logger("storage")
        self.logs: dict[tuple[str, int], PartitionLog] = {}
        self.producer_limits = ProducerLimits(
            config.producers_per_partition_max, config.producers_max
        )
        self.waits = WaitSet()
        self.durability = DurabilityQueue(store.tree, loop, server.flush_dirty)
        self.meta_durability = DurabilityQueue(meta, loop, server.flush_dirty)
        self.advertised = ("127.0.0.1", 0)
        self.storage_error: StorageError | None = None
        self.storage_errors = 0
        self.closing = False
        self.unknown_topic = ErrorCode.UNKNOWN_TOPIC
        self._retention_clock = RetentionClock(clock_ms(), int(self.steady_s() * 1000))
        self.retention_deleted_bytes = 0
        self.loop = self._loop = loop
        self._defaults = config.topic_defaults()
        self._changing = asyncio.Lock()

    def lapsed(self) -> bool:
        """Whether others may lead by now what this broker believes to lead.

        Asked again for every request: the process may have slept since the one before.
        """
        return self.steady_s() >= self.leads_until_s

    def own_time_ms(self) -> int:
        """The wall clock, as far as it is plausible."""
        return self._retention_clock.now_ms(self.clock_ms(), int(self.steady_s() * 1000))

    def retention_now_ms(self) -> int | None:
        """The time by which records are deleted; None for not yet."""
        return self.own_time_ms()

    @property
    def knows_latest(self) -> bool:
        """Whether the metadata here is as new as what is on disk: only then may it delete."""
        return True

    # --- logs ----------------------------------------------------------------------------------

    def open_logs(self) -> None:
        """Recover every partition that the metadata names.

        Raises:
            StoredStateError: A log makes no sense.
            StorageError: The data tree cannot be read.
        """
        for topic in self.registry.topics.values():
            self._open_topic(topic, new=False)

    def leader_epoch(self, partition: PartitionRecord) -> int:
        """The epoch in force: on a single node it rises with every start."""
        return max(partition.leader_epoch, self.registry.cluster.generation)

    def _open_topic(self, topic: TopicRecord, *, new: bool) -> None:
        """Serve a topic's partitions; of those that are new nothing can be stored yet."""
        settings = self._defaults.overridden(topic.overrides)
        for number, record in enumerate(topic.partitions):
            known = self.logs.get((topic.name, number))
            if known is not None and known.partition_id == record.partition_id:
                known.use_settings(settings)
                continue
            if self.config.node_id not in record.replicas:
                continue
            log = PartitionLog(
                topic.name,
                number,
                record.partition_id,
                settings,
                producers=ProducerStates(self.producer_limits),
            )
            log.leader_epoch = self.leader_epoch(record)
            log.leads = record.leader == self.config.node_id
            if not new:
                self.store.recover(log)
                self.store.recover_producers(log)
            self.logs[topic.name, number] = log

    def _close_topic(self, topic: TopicRecord) -> None:
        for number, record in enumerate(topic.partitions):
            log = self.logs.pop((topic.name, number), None)
            if log is not None:
                log.leads = False  # whoever still holds it must not write
                log.producers.clear()
            self.store.tail.forget(record.partition_id)
            self.server.due.extend(self.waits.all_of(record.partition_id))

    # --- metadata ------------------------------------------------------------------------------

    def default_partitions(self) -> int:
        """Partitions of a topic that does not say how many."""
        return self.config.default_partitions

    def default_replication_factor(self) -> int:
        """Replicas of a topic that does not say how many: a broker on its own holds one."""
        return 1

    async def commit(self, command: Command) -> None:
        """Judge a command, store its changes durably, and make them the state.

        Raises:
            CommandError: It cannot be carried out; nothing changed.
            StorageError: It could not be stored; the state is as before, until a restart at the
                latest tells whether the change survived.
        """
        async with self._changing:
            changes = self.registry.plan(command)
            await self._store(changes)
            deleted = [self.registry.topics[name] for name in changes.deleted]
            self.registry.adopt(changes)
            for topic in deleted:
                self._close_topic(topic)
            for topic in changes.topics:
                self._open_topic(topic, new=True)
        if self.server.due:
            self.server.answer_due()

    async def delete_topic(self, name: str, topic_id: bytes) -> None:
        """Delete a topic and give its space back.

        Args:
            name: Its name.
            topic_id: Its id; empty for whichever it has.

        Raises:
            CommandError: There is no such topic.
            StorageError: As for `commit`.
        """
        await self.commit(DeleteTopic(name, topic_id))
        await self.reclaim()

    async def reclaim(self) -> None:
        """Delete the records of deleted topics; what fails is tried again at the next start."""
        ids = self.registry.cluster.reclaiming
        if not ids:
            return
        try:
            sequence = self.store.drop(ids)
            await self._durable(self.durability, sequence)
            await self.commit(Reclaimed(ids))
        except StorageError as error:
            self.storage_failed("reclaim", error)

    async def _store(self, changes: Changes) -> None:
        sequence = self.meta.write(encode_changes(changes))
        await self._durable(self.meta_durability, sequence)

    async def _durable(self, queue: DurabilityQueue, sequence: int) -> None:
        future = self._loop.create_future()

        def told(error: Exception | None) -> None:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(error)

        queue.when_durable(sequence, told)
        await future

    # --- storage trouble -----------------------------------------------------------------------

    def storage_failed(self, operation: str, error: StorageError) -> tuple[ErrorCode, str]:
        """Take note of a failed write; give the error code and the sentence for the client."""
        self.storage_errors += 1
        if isinstance(error, WriteStallError):  # flush or compaction is behind: nothing is broken
            return storage_code(error), str(error)
        if self.storage_error is None or type(self.storage_error) is not type(error):
            logger, problem = self.storage_logger, str(error)
            logger.error(operation, "storage failed", category="storage", error=problem)
        if not self.storage_is_final:  # whatever else fails, that is what has to be mended
            self.storage_error = error
        return storage_code(error), str(error)

    @property
    def storage_is_final(self) -> bool:
        """Whether only a restart can make writes work again."""
        return isinstance(self.storage_error, TreeFailedError)

    def storage_works(self) -> None:
        """Take note that a write succeeded after failures."""
        self.storage_logger.info("append", "storage works again", after=str(self.storage_error))
        self.storage_error = None


def storage_code(error: Exception) -> ErrorCode:
    """Choose the wire's error code for a storage error."""
    if isinstance(error, DiskFullError):
        return ErrorCode.STORAGE_FULL
    if isinstance(error, WriteStallError):
        return ErrorCode.TOO_BUSY
    return ErrorCode.STORAGE_FAILED
