"""PRODUCE: check each batch, give it its offset, append it, acknowledge as asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streambus_broker.log.producers import SequenceError
from streambus_broker.metadata.registry import CommandError
from streambus_broker.network.connection import response_frame
from streambus_protocol import (
    ACKS_ALL,
    ACKS_LEADER,
    ACKS_NONE,
    NO_PRODUCER_ID,
    ApiKey,
    ErrorCode,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    ProtocolError,
    check_produced_batch,
    decode_message,
    encode_message,
    plain_produced,
)
from streambus_storage import StorageError, WriteStallError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_broker.log.partition import PartitionLog
    from streambus_broker.log.producers import AppendedBatch
    from streambus_broker.network.connection import Connection
    from streambus_broker.node import Node

_PRODUCE = int(ApiKey.PRODUCE)
_Result = tuple[int, str | None, int, int, int]

_STALL_RETRY_S = 0.002
_TIMEOUT_MS = 10_000  # the longest that a request waits for storage; then it is too busy
_COPY_BYTES_MAX = 4096
_TURN_BYTES = 256 * 1024  # appended in a row for one request, before others have their turn
_BIN_8, _BIN_16, _BIN_32 = 0xC4, 0xC5, 0xC6


class ProduceLane:
    """What a connection's last produce request for one partition began with.

    A producer sends the same bytes in front of each batch: topic, partition, acks, timeout. They
    are decoded once and compared from then on.
    """

    __slots__ = ("acks", "answer", "log", "prefix", "size", "timeout_ms", "version")

    def __init__(
        self, prefix: bytes, version: int, log: PartitionLog, acks: int, timeout_ms: int
    ) -> None:
        self.prefix = prefix
        self.size = len(prefix)
        self.version = version
        self.answer = plain_produced(version).frame
        self.log = log
        self.acks = acks
        self.timeout_ms = timeout_ms

    def pending(
        self, connection: Connection, correlation_id: int, batch: bytes | memoryview = b""
    ) -> PendingProduce:
        """The request that this lane was spared to decode."""
        part = ProducePartition(self.log.topic, self.log.partition, bytes(batch))
        request = ProduceRequest(self.acks, self.timeout_ms, (part,))
        return PendingProduce(connection, self.version, correlation_id, request)


class PendingProduce:
    """A request on its way: what was appended of it, and until when it may wait for storage."""

    __slots__ = (
        "connection",
        "correlation_id",
        "deadline_s",
        "ends",
        "has_stalled",
        "request",
        "results",
        "sequence",
        "stalled",
        "version",
        "waits",
    )

    def __init__(
        self, connection: Connection, version: int, correlation_id: int, request: ProduceRequest
    ) -> None:
        self.connection = connection
        self.version = version
        self.correlation_id = correlation_id
        self.request = request
        self.results: list[_Result] = []
        self.sequence = -1
        self.ends: list[Any] = []  # in a cluster: what has to be committed
        self.waits = False
        self.stalled = False  # storage has just refused the next batch for now
        self.has_stalled = False  # once; then it ends with its connection
        timeout_ms = min(request.timeout_ms, _TIMEOUT_MS)
        self.deadline_s = connection.server.loop.time() + timeout_ms / 1000


class ProduceApi:
    """The handler and its counters.

    Attributes:
        batches: Batches appended.
        records: Records appended.
        record_bytes: Bytes of batches appended.
        rejected: Batches refused, by error code.
        stalled: Requests that had to wait until storage caught up.
    """

    def __init__(self, node: Node) -> None:
        self.batches = self.records = self.record_bytes = self.stalled = 0
        self.rejected: dict[int, int] = {}
        self._node = node

    def handle(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes | None:
        """Serve one request.

        Raises:
            ProtocolError: The request as a whole cannot be read or contradicts itself.
        """
        lane: ProduceLane | None = connection.produce_lane
        if lane is not None and body.startswith(lane.prefix) and version == lane.version:
            batch = _rest(body, lane.size)
            log = lane.log
            if batch is not None and log.leads and log.rewrite is None and not self._node.closing:
                return self._append_one(connection, lane, correlation_id, batch)
        request = decode_message(ProduceRequest, body, version)
        acks = request.acks
        if acks not in (ACKS_LEADER, ACKS_ALL, ACKS_NONE):
            raise InvalidAcksError(acks)
        pending = PendingProduce(connection, version, correlation_id, request)
        if not self._append_all(pending):
            self._go_on_later(pending)
            return None
        results = pending.results
        if len(results) == 1 and not results[0][0]:
            self._remember(connection, version, request, body)
        return self._acknowledge(pending)

    def _append_all(self, pending: PendingProduce) -> bool:
        """Append what is left of a request; False where it has to go on later.

        That is so where storage is behind, and where the request is so large that others must have
        their turn in between.
        """
        results = pending.results
        size_bytes = 0
        for topic, partition, batch in pending.request.partitions[len(results) :]:
            if size_bytes >= _TURN_BYTES:
                return False
            size_bytes += len(batch)
            try:
                result = self._append_next(pending, topic, partition, batch)
            except WriteStallError as error:
                if self._node.loop.time() < pending.deadline_s and not self._node.closing:
                    pending.stalled = True
                    return False
                result = self._refused(error)
            except (ProtocolError, StorageError, RefusedError, SequenceError) as error:
                result = self._refused(error)
            results.append(result)
        return True

    def _append_next(
        self, pending: PendingProduce, topic: str, partition: int, batch: bytes
    ) -> _Result:
        """Append the next batch of a request; what it raises is about this batch alone."""
        result, pending.sequence = self._append(topic, partition, batch)
        return result

    def _acknowledge(self, pending: PendingProduce) -> bytes | None:
        """Answer now, or see to it that the answer comes when it may."""
        connection, acks = pending.connection, pending.request.acks
        if acks == ACKS_NONE:
            return None
        version, correlation_id = pending.version, pending.correlation_id
        if acks == ACKS_ALL and pending.sequence >= 0:
            connection.pending += 1
            self._node.durability.when_durable(
                pending.sequence,
                self._answer_when_durable(connection, version, correlation_id, pending.results),
            )
            return None
        return encode_produced(version, correlation_id, pending.results)

    def _go_on_later(self, pending: PendingProduce) -> None:
        """Hold this producer's requests and go on soon: at the loop's next turn, or a little later.

        Later where flush and compaction are behind: so a producer that is faster than the disk is
        slowed down, and sees no error.
        """
        connection, node = pending.connection, self._node
        if not pending.waits:
            pending.waits = True
            connection.pending += 1
            connection.hold_requests()
        if pending.stalled:
            pending.stalled = False
            self.stalled += not pending.has_stalled
            pending.has_stalled = True
            node.loop.call_later(_STALL_RETRY_S, self._try_again, pending)
        else:
            node.loop.call_soon(self._try_again, pending)

    def _try_again(self, pending: PendingProduce) -> None:
        connection, server = pending.connection, self._node.server
        closing = connection.transport.is_closing()
        if not (closing and pending.has_stalled) and not self._append_all(pending):
            self._go_on_later(pending)
            return
        connection.pending -= 1
        if server.due:
            server.answer_due()
        if connection.transport.is_closing():
            return
        answer = self._acknowledge(pending)
        if answer is not None:
            connection.answer(answer)
        connection.release_requests()

    def _append_one(
        self,
        connection: Connection,
        lane: ProduceLane,
        correlation_id: int,
        batch: bytes | memoryview,
    ) -> bytes | None:
        """Append the one batch of a request that began as the last one did."""
        node, log = self._node, lane.log
        try:
            header = check_produced_batch(batch, log.settings.max_message_bytes)
            if header.producer_id != NO_PRODUCER_ID:
                known = log.producers.check(header)
                if known is not None:
                    return self._answer_again(connection, lane, correlation_id, known)
            base_offset, sequence = node.store.append(log, header, batch)
        except WriteStallError:
            pending = lane.pending(connection, correlation_id, batch)
            pending.stalled = True
            self._go_on_later(pending)
            return None
        except (ProtocolError, StorageError, SequenceError) as error:
            result = self._refused(error)
            if lane.acks == ACKS_NONE:
                return None
            return encode_produced(lane.version, correlation_id, [result])
        if node.storage_error is not None:
            node.storage_works()
        self.batches += 1
        self.records += header.record_count
        self.record_bytes += header.length
        log.high_watermark = log.next_offset
        if node.waits.count:
            node.server.due += node.waits.grown(log.partition_id, header.length)
        if lane.acks == ACKS_LEADER:
            return lane.answer(correlation_id, base_offset, log.log_start_offset)
        if lane.acks == ACKS_ALL:
            results: list[_Result] = [(0, None, base_offset, -1, log.log_start_offset)]
            connection.pending += 1
            node.durability.when_durable(
                sequence,
                self._answer_when_durable(connection, lane.version, correlation_id, results),
            )
        return None

    def _answer_again(
        self, connection: Connection, lane: ProduceLane, correlation_id: int, known: AppendedBatch
    ) -> bytes | None:
        """Answer a batch that is in the log already as it was, or would have been, answered."""
        pending = lane.pending(connection, correlation_id)
        pending.results.append((0, None, known.base_offset, -1, lane.log.log_start_offset))
        pending.sequence = self._node.store.tree.last_sequence
        return self._acknowledge(pending)

    def _remember(
        self, connection: Connection, version: int, request: ProduceRequest, body: bytes
    ) -> None:
        """Remember what a request of one batch begins with, if the batch is what it ends with."""
        topic, partition, batch = request.partitions[0]
        log = self._node.logs.get((topic, partition))
        size = len(batch)
        mark_bytes = 2 if size < 1 << 8 else 3 if size < 1 << 16 else 5
        prefix = body[: len(body) - size - mark_bytes]
        if log is not None and _rest(body, len(prefix)) == batch:
            connection.produce_lane = ProduceLane(
                prefix, version, log, request.acks, request.timeout_ms
            )

    def _append(self, topic: str, partition: int, batch: bytes) -> tuple[_Result, int]:
        node = self._node
        log = node.logs.get((topic, partition))
        if log is None or not log.leads or node.closing:
            raise RefusedError(*self._why_not(topic, partition))
        header = check_produced_batch(batch, log.settings.max_message_bytes)
        if header.producer_id != NO_PRODUCER_ID:
            known = log.producers.check(header)
            if known is not None:  # durable when everything is that was written by now
                result = (0, None, known.base_offset, -1, log.log_start_offset)
                return result, node.store.tree.last_sequence
        append_time_ms = -1
        if log.rewrite is not None:
            now_ms = node.clock_ms()
            batch = log.rewrite(batch, header, now_ms)
            header = check_produced_batch(batch, log.settings.max_message_bytes)
            if log.settings.message_timestamp_type == "append_time":
                append_time_ms = now_ms
        base_offset, sequence = node.store.append(log, header, batch)
        if node.storage_error is not None:
            node.storage_works()
        self.batches += 1
        self.records += header.record_count
        self.record_bytes += header.length
        if log.advance_high_watermark(log.next_offset) and node.waits.count:
            node.server.due += node.waits.grown(log.partition_id, header.length)
        return (0, None, base_offset, append_time_ms, log.log_start_offset), sequence

    def _why_not(self, topic: str, partition: int) -> tuple[ErrorCode, str]:
        node = self._node
        if node.closing:
            return ErrorCode.BROKER_SHUTTING_DOWN, "the broker is shutting down"
        return partition_problem(node, topic, partition)

    def _refused(self, error: Exception) -> _Result:
        if isinstance(error, StorageError):
            code, detail = self._node.storage_failed("append", error)
        elif isinstance(error, ProtocolError | RefusedError | CommandError):
            code, detail = error.code, str(error)
        self.rejected[code] = self.rejected.get(code, 0) + 1
        return (code, detail, -1, -1, -1)

    def _answer_when_durable(
        self, connection: Connection, version: int, correlation_id: int, results: list[_Result]
    ) -> Callable[[Exception | None], None]:
        def answer(error: Exception | None) -> None:
            if error is not None:
                assert isinstance(error, StorageError)
                code, detail = self._node.storage_failed("sync", error)
                results[:] = [
                    result if result[0] else (code, detail, -1, -1, -1) for result in results
                ]
            connection.answer_later(encode_produced(version, correlation_id, results))

        return answer


class RefusedError(Exception):
    """A batch that this broker will not take; the request's other batches are not concerned."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class InvalidAcksError(ProtocolError):
    """A request asks for an acknowledgement that does not exist."""

    code = ErrorCode.INVALID_REQUEST

    def __init__(self, acks: int) -> None:
        super().__init__(f"acks {acks} is none of 0, 1 and -1 (all)")


def _rest(body: bytes, start: int) -> bytes | memoryview | None:
    """Read one msgpack bin that reaches exactly to the end of the body; None if it does not.

    A short one is copied, which costs less than a view of it.
    """
    mark = body[start] if start + 1 < len(body) else 0
    if mark == _BIN_8:
        rest = body[start + 2 :]
        return rest if body[start + 1] == len(rest) else None
    if mark == _BIN_16:
        begin = start + 3
    elif mark == _BIN_32:
        begin = start + 5
    else:
        return None
    size = len(body) - begin
    if int.from_bytes(body[start + 1 : begin], "big") != size:
        return None
    return body[begin:] if size <= _COPY_BYTES_MAX else memoryview(body)[begin:]


def partition_problem(node: Node, topic: str, partition: int) -> tuple[ErrorCode, str]:
    """Say why a partition is not served here."""
    known = node.registry.topics.get(topic)
    if known is None:
        return node.unknown_topic, f"topic {topic[:300]!r} does not exist; create it first"
    if not 0 <= partition < len(known.partitions):
        count = len(known.partitions)
        return (
            ErrorCode.UNKNOWN_PARTITION,
            f"topic {topic!r} has no partition {partition}; it has 0 to {count - 1}",
        )
    leader = known.partitions[partition].leader
    if node.leased and leader == node.config.node_id and node.lapsed():
        detail = (
            f"broker {leader} led {topic}[{partition}] when it last heard of the controller;"
            " others may by now"
        )
        return ErrorCode.NOT_LEADER, detail
    return ErrorCode.NOT_LEADER, f"broker {leader} leads {topic}[{partition}]; refresh the metadata"


def encode_produced(version: int, correlation_id: int, results: list[_Result]) -> bytes:
    """Build the answer's frame."""
    if len(results) == 1:
        code, _, base_offset, append_time_ms, log_start_offset = results[0]
        if not code and append_time_ms < 0:
            return plain_produced(version).frame(correlation_id, base_offset, log_start_offset)
    response = encode_message(ProduceResponse(0, results), version)  # type: ignore[arg-type]  # rows
    return response_frame(_PRODUCE, version, correlation_id, response)
