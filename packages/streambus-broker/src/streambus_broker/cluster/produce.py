"""PRODUCE in a cluster: as on a single broker, and acknowledged when it is committed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from streambus_broker.api.produce import (
    PendingProduce,
    ProduceApi,
    RefusedError,
    encode_produced,
)
from streambus_broker.log.producers import SequenceError
from streambus_protocol import (
    ACKS_ALL,
    ACKS_LEADER,
    ACKS_NONE,
    NO_PRODUCER_ID,
    ErrorCode,
    ProtocolError,
    check_produced_batch,
)
from streambus_storage import StorageError, WriteStallError

if TYPE_CHECKING:
    from streambus_broker.api.produce import ProduceLane
    from streambus_broker.cluster.leader import LeaderReplication
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.replica import Replica, Waiting
    from streambus_broker.network.connection import Connection

_Result = tuple[int, str | None, int, int, int]


class _End(NamedTuple):
    """One batch of a request: under whom it was appended, and what must be committed."""

    place: int
    replica: Replica
    leading: LeaderReplication | None
    offset: int


class _Acknowledgement:
    """One request with acknowledgement by all, until every partition of it has its answer."""

    __slots__ = ("connection", "correlation_id", "missing", "results", "timer", "version", "waits")

    def __init__(
        self, connection: Connection, version: int, correlation_id: int, results: list[_Result]
    ) -> None:
        self.connection = connection
        self.version = version
        self.correlation_id = correlation_id
        self.results = results
        self.missing: set[int] = set()
        self.timer: Any = None
        self.waits: list[tuple[Replica, Waiting]] = []

    def settle(self, place: int, problem: str | None) -> None:
        """One partition is committed, or will not be known to be."""
        if place not in self.missing:
            return
        self.missing.discard(place)
        if problem is not None:
            self.results[place] = (ErrorCode.NOT_LEADER, problem, -1, -1, -1)
        if not self.missing:
            self._answer()

    def expire(self) -> None:
        """The request's time ran out; what is written may still be committed."""
        for place in self.missing:
            code = ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
            detail = "written, and not yet on enough replicas when the time ran out"
            self.results[place] = (code, detail, -1, -1, -1)
        self.missing.clear()
        for replica, waiting in self.waits:
            replica.forget(waiting)
        self._answer()
        self.connection.server.flush_dirty()

    def _answer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.connection.answer_later(
            encode_produced(self.version, self.correlation_id, self.results)
        )


class ClusterProduceApi(ProduceApi):
    """The handler: what a batch goes through, and what is waited for, are different here."""

    _node: ClusterNode

    def _append_one(
        self,
        connection: Connection,
        lane: ProduceLane,
        correlation_id: int,
        batch: bytes | memoryview,
    ) -> bytes | None:
        """As a request of one batch goes its way, which began as the last one did."""
        log = lane.log
        replica = self._node.replicas.get(log.partition_id)
        if replica is None or replica.stored.log is not log:
            replica = None  # another one's: `_take` says what became of it
        try:
            taken = self._take(log.topic, log.partition, batch, lane.acks, replica)
        except WriteStallError:
            pending = lane.pending(connection, correlation_id, batch)
            pending.stalled = True
            self._go_on_later(pending)
            return None
        except (ProtocolError, StorageError, RefusedError, SequenceError) as error:
            if lane.acks == ACKS_NONE:
                self._refused(error)
                return None
            return encode_produced(lane.version, correlation_id, [self._refused(error)])
        result, replica, end = taken
        if lane.acks == ACKS_LEADER:
            return lane.answer(correlation_id, result[2], result[4])
        pending = lane.pending(connection, correlation_id)
        pending.results.append(result)
        pending.ends.append(_End(0, replica, replica.leading, end))
        return self._acknowledge(pending)

    def _append_next(
        self, pending: PendingProduce, topic: str, partition: int, batch: bytes
    ) -> _Result:
        log = self._node.logs.get((topic, partition))
        replica = None if log is None else self._node.replicas.get(log.partition_id)
        acks = pending.request.acks
        result, replica, end = self._take(topic, partition, batch, acks, replica)
        pending.ends.append(_End(len(pending.results), replica, replica.leading, end))
        return result

    def _acknowledge(self, pending: PendingProduce) -> bytes | None:
        acks, results = pending.request.acks, pending.results
        if acks == ACKS_NONE:
            return None
        waiting = []
        for one in pending.ends:
            if one.replica.leading is not one.leading:  # while the request waited for its turn
                detail = "written; the leader has changed since, look whether it is there"
                results[one.place] = (ErrorCode.NOT_LEADER, detail, -1, -1, -1)
            elif acks == ACKS_ALL and one.replica.stored.log.high_watermark < one.offset:
                waiting.append(one)
        if waiting:
            self._wait(pending, waiting)
            return None
        return encode_produced(pending.version, pending.correlation_id, results)

    def _wait(self, pending: PendingProduce, ends: list[_End]) -> None:
        connection, loop = pending.connection, self._node.loop
        acknowledgement = _Acknowledgement(
            connection, pending.version, pending.correlation_id, pending.results
        )
        connection.pending += 1
        acknowledgement.missing.update(one.place for one in ends)
        delay_s = pending.request.timeout_ms / 1000
        acknowledgement.timer = loop.call_later(delay_s, acknowledgement.expire)
        acknowledgement.waits = [
            (
                one.replica,
                one.replica.when_committed(one.offset, partial(acknowledgement.settle, one.place)),
            )
            for one in ends
        ]

    def _take(
        self,
        topic: str,
        partition: int,
        batch: bytes | memoryview,
        acks: int,
        replica: Replica | None,
    ) -> tuple[_Result, Replica, int]:
        """Append a batch, or find it; give the answer and the offset that must be committed."""
        node = self._node
        if replica is None or replica.leading is None or node.closing or node.lapsed():
            raise RefusedError(*self._why_not(topic, partition))
        log = replica.stored.log
        if not replica.stored.knows_producers:
            problem = f"what {topic}[{partition}] has of its producers cannot be read"
            raise RefusedError(ErrorCode.STORAGE_FAILED, problem)
        header = check_produced_batch(batch, log.settings.max_message_bytes)
        if header.producer_id != NO_PRODUCER_ID:
            known = replica.stored.producers.check(header)
            if known is not None:
                result = (0, None, known.base_offset, -1, log.log_start_offset)
                return result, replica, known.last_offset + 1
        if acks == ACKS_ALL and node.living_in_sync(replica) < replica.leading.min_in_sync:
            raise RefusedError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{topic}[{partition}] has {node.living_in_sync(replica)} living in-sync replicas,"
                f" min_insync_replicas is {replica.leading.min_in_sync}",
            )
        append_time_ms = -1
        if log.rewrite is not None:
            now_ms = node.clock_ms()
            batch = log.rewrite(bytes(batch), header, now_ms)
            header = check_produced_batch(batch, len(batch))
            if log.settings.message_timestamp_type == "append_time":
                append_time_ms = now_ms
        base_offset, sequence = replica.stored.append(header, batch)
        if node.storage_error is not None:
            node.storage_works()
        self.batches += 1
        self.records += header.record_count
        self.record_bytes += header.length
        replica.leading.appended(log.next_offset)
        node.synced_later(replica, sequence)
        node.sessions.grown(log.partition_id)
        result = (0, None, base_offset, append_time_ms, log.log_start_offset)
        return result, replica, log.next_offset
