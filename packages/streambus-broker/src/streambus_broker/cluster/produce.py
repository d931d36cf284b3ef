"""PRODUCE in a cluster: as on a single broker, and acknowledged when it is committed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from streambus_broker.api.produce import (
    InvalidAcksError,
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
    ProduceRequest,
    ProtocolError,
    check_produced_batch,
    decode_message,
)
from streambus_storage import StorageError

if TYPE_CHECKING:
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.replica import Replica
    from streambus_broker.network.connection import Connection

_Result = tuple[int, str | None, int, int, int]


class _Acknowledgement:
    """One request with acknowledgement by all, until every partition of it has its answer."""

    __slots__ = ("connection", "correlation_id", "missing", "results", "timer", "version")

    def __init__(
        self, connection: Connection, version: int, correlation_id: int, results: list[_Result]
    ) -> None:
        self.connection = connection
        self.version = version
        self.correlation_id = correlation_id
        self.results = results
        self.missing: set[int] = set()
        self.timer: Any = None

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
        self._answer()
        self.connection.server.flush_dirty()

    def _answer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.connection.answer_later(
            encode_produced(self.version, self.correlation_id, self.results)
        )


class ClusterProduceApi(ProduceApi):
    """The handler."""

    _node: ClusterNode

    def handle(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes | None:
        """Serve one request.

        Raises:
            ProtocolError: The request as a whole cannot be read or contradicts itself.
        """
        request = decode_message(ProduceRequest, body, version)
        acks = request.acks
        if acks not in (ACKS_LEADER, ACKS_ALL, ACKS_NONE):
            raise InvalidAcksError(acks)
        results: list[_Result] = []
        ends: list[tuple[int, Replica, int]] = []
        for place, (topic, partition, batch) in enumerate(request.partitions):
            try:
                result, replica, end = self._take(topic, partition, batch, acks)
                ends.append((place, replica, end))
            except (ProtocolError, StorageError, RefusedError, SequenceError) as error:
                result = self._refused(error)
            results.append(result)
        if acks == ACKS_NONE:
            return None
        if acks == ACKS_ALL:
            acknowledgement = _Acknowledgement(connection, version, correlation_id, results)
            for place, replica, end in ends:
                if replica.stored.log.high_watermark < end:
                    acknowledgement.missing.add(place)
            if acknowledgement.missing:
                self._wait(acknowledgement, ends, request.timeout_ms)
                return None
        return encode_produced(version, correlation_id, results)

    def _wait(
        self,
        acknowledgement: _Acknowledgement,
        ends: list[tuple[int, Replica, int]],
        timeout_ms: int,
    ) -> None:
        acknowledgement.connection.pending += 1
        loop = self._node.loop
        acknowledgement.timer = loop.call_later(timeout_ms / 1000, acknowledgement.expire)
        for place, replica, end in ends:
            if place in acknowledgement.missing:
                replica.when_committed(end, partial(acknowledgement.settle, place))

    def _take(
        self, topic: str, partition: int, batch: bytes, acks: int
    ) -> tuple[_Result, Replica, int]:
        """Append a batch, or find it; give the answer and the offset that must be committed."""
        node = self._node
        log = node.logs.get((topic, partition))
        replica = None if log is None else node.replicas.get(log.partition_id)
        if log is None or replica is None or replica.leading is None or node.closing:
            raise RefusedError(*self._why_not(topic, partition))
        if node.lapsed():
            raise RefusedError(*self._why_not(topic, partition))
        header = check_produced_batch(batch, log.settings.max_message_bytes)
        if header.producer_id != NO_PRODUCER_ID:
            known = replica.stored.producers.check(header)
            if known is not None:
                result = (0, None, known.base_offset, -1, log.log_start_offset)
                return result, replica, known.last_offset + 1
        if acks == ACKS_ALL and node.living_in_sync(replica) < replica.leading.min_in_sync:
            raise RefusedError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{topic}/{partition} has {node.living_in_sync(replica)} living in-sync replicas,"
                f" min_insync_replicas is {replica.leading.min_in_sync}",
            )
        append_time_ms = -1
        if log.rewrite is not None:
            now_ms = node.clock_ms()
            batch = log.rewrite(batch, header, now_ms)
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
