"""FETCH: read several partitions up to the high watermark; wait where there is too little.

A consumer of one partition asks the same question again and again, at another offset. So a
connection remembers its last question of one partition (`FetchLane`), and one that differs from it
in nothing but the offset is answered without being decoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_broker.api.produce import partition_problem
from streambus_broker.log.waits import Wait
from streambus_broker.network.connection import response_frame
from streambus_protocol import (
    FRAME_BYTES_MAX,
    ApiKey,
    ErrorCode,
    FetchRequest,
    FetchResponse,
    ProtocolError,
    decode_message,
    encode_message,
    plain_fetched,
)
from streambus_storage import StorageError

if TYPE_CHECKING:
    import asyncio

    from streambus_broker.log.partition import PartitionLog
    from streambus_broker.network.connection import Connection
    from streambus_broker.node import Node
    from streambus_protocol import FetchPartition

_FETCH = int(ApiKey.FETCH)
_UINT_64 = b"\xcf"
_ROOM_BYTES = 256 * 1024  # of a frame: kept for everything that is not records
NO_REPLICA = -1
FetchResult = tuple[int, str | None, int, int, bytes, int]
"""The fields of a `FetchedPartition`."""


class _Waiting:
    """Who waits and for what: the payload of a `Wait`."""

    __slots__ = ("connection", "correlation_id", "request", "version")

    def __init__(
        self, connection: Connection, version: int, correlation_id: int, request: FetchRequest
    ) -> None:
        self.connection = connection
        self.version = version
        self.correlation_id = correlation_id
        self.request = request


class FetchLane:
    """A connection's last fetch of one partition: what it said, apart from the offset.

    It is followed only where an answer would hold records: never where whoever asked would be sent
    on to another replica (`FetchApi.may_repeat`).

    Attributes:
        head: The request's bytes before the offset.
        tail: Those behind it.
        size: Length of the whole request.
        version: Of the request.
        log: The partition.
        leader_epoch: What the consumer takes for it; -1 for any.
        bytes_min: Less than this is worth waiting for more.
        bytes_max: More is not given, beyond one batch.
        rack: Where the consumer stands; None where it reads from leaders.
    """

    __slots__ = (
        "answer",
        "at",
        "bytes_max",
        "bytes_min",
        "head",
        "leader_epoch",
        "log",
        "rack",
        "size",
        "tail",
        "version",
    )

    def __init__(
        self, head: bytes, tail: bytes, version: int, log: PartitionLog, request: FetchRequest
    ) -> None:
        [wanted] = request.partitions
        self.head = head
        self.tail = tail
        self.at = len(head)
        self.size = len(head) + 8 + len(tail)
        self.version = version
        self.answer = plain_fetched(version)
        self.log = log
        self.leader_epoch = wanted.leader_epoch
        self.bytes_min = request.bytes_min
        self.bytes_max = min(request.bytes_max, wanted.bytes_max)
        self.rack = request.rack


class FetchApi:
    """The handler and its counters.

    Attributes:
        record_bytes: Bytes of batches sent.
        waited: Fetches that had to wait.
    """

    def __init__(self, node: Node, loop: asyncio.AbstractEventLoop) -> None:
        self.record_bytes = self.waited = 0
        self._node = node
        self._leased = node.leased
        self._loop = loop
        self._bytes_max = min(node.config.fetch_bytes_max, FRAME_BYTES_MAX - _ROOM_BYTES)
        node.server.answer_waits = self.answer_waits

    def handle(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes | None:
        """Serve one request.

        Raises:
            ProtocolError: It cannot be read.
        """
        lane: FetchLane | None = connection.fetch_lane
        if (
            lane is not None
            and len(body) == lane.size
            and body.startswith(lane.head)
            and body.endswith(lane.tail)
            and version == lane.version
        ):
            answer = self._answer_again(lane, correlation_id, body)
            if answer is not None:
                return answer
            request = decode_message(FetchRequest, body, version)
        else:
            request = decode_message(FetchRequest, body, version)
            if len(request.partitions) == 1:
                self._remember(connection, version, request, body)
        results, size_bytes, final = self._read(request)
        if size_bytes >= request.bytes_min or final or not request.wait_max_ms:
            self.record_bytes += size_bytes
            return _encode(version, correlation_id, results)
        self._wait(_Waiting(connection, version, correlation_id, request), size_bytes)
        return None

    def answer_waits(self, due: list[Wait]) -> None:
        """Answer fetches whose wait is over, for whatever reason."""
        for wait in due:
            if wait.timer is not None:
                wait.timer.cancel()
            waiting: _Waiting = wait.payload
            if waiting.connection.transport.is_closing():
                waiting.connection.pending -= 1
                continue
            results, size_bytes, _ = self._read(waiting.request)
            self.record_bytes += size_bytes
            waiting.connection.answer_later(
                _encode(waiting.version, waiting.correlation_id, results)
            )

    def _answer_again(self, lane: FetchLane, correlation_id: int, body: bytes) -> bytes | None:
        """Answer a request that differs from the last one in its offset; None if not this way."""
        log, at = lane.log, lane.at
        offset = int.from_bytes(body[at : at + 8], "big")
        watermark = log.high_watermark
        if (
            not log.log_start_offset <= offset < watermark
            or ((self._leased or not log.leads) and not self.serves(log, lane.rack))
            or (lane.leader_epoch != log.leader_epoch and lane.leader_epoch >= 0)
        ):
            return None
        try:
            batches = self._node.store.read(log, offset, min(lane.bytes_max, self._bytes_max))
        except StorageError:
            return None
        size_bytes = len(batches)
        if size_bytes < lane.bytes_min:
            return None
        self.record_bytes += size_bytes
        return lane.answer.frame(correlation_id, watermark, log.log_start_offset, batches)

    def _remember(
        self, connection: Connection, version: int, request: FetchRequest, body: bytes
    ) -> None:
        """Remember a request of one partition, if the place of its offset is beyond doubt."""
        connection.fetch_lane = None
        if request.rack is not None and not self.may_repeat(request.rack):
            return
        [wanted] = request.partitions
        log = self._node.logs.get((wanted.topic, wanted.partition))
        head, mark, tail = body.partition(_UINT_64 + wanted.offset.to_bytes(8, "big", signed=True))
        if log is None or not mark:
            return
        head += _UINT_64
        other = wanted._replace(offset=wanted.offset ^ 1)
        try:
            changed = head + other.offset.to_bytes(8, "big", signed=True) + tail
            if decode_message(FetchRequest, changed, version) == request._replace(
                partitions=(other,)
            ):
                connection.fetch_lane = FetchLane(head, tail, version, log, request)
        except ProtocolError:
            return

    def _wait(self, waiting: _Waiting, size_bytes: int) -> None:
        request, node = waiting.request, self._node
        ids = dict.fromkeys(
            node.logs[topic, partition].partition_id for topic, partition, *_ in request.partitions
        )
        wait = Wait(waiting, request.bytes_min - size_bytes, tuple(ids))
        node.waits.add(wait)
        self.waited += 1
        waiting.connection.pending += 1
        delay_ms = min(request.wait_max_ms, node.config.fetch_wait_ms_max)
        wait.timer = self._loop.call_later(delay_ms / 1000, self._expired, wait)

    def _expired(self, wait: Wait) -> None:
        if not wait.over:
            self._node.waits.remove(wait)
            self.answer_waits([wait])
            self._node.server.flush_dirty()

    # --- who serves it -------------------------------------------------------------------------

    def serves(self, log: PartitionLog, rack: str | None) -> bool:
        """Whether this broker may be read from now by a consumer that stands in ``rack``."""
        del rack  # it makes a difference in a cluster
        return log.leads and not (self._leased and self._node.lapsed())

    def may_repeat(self, rack: str) -> bool:
        """Whether a request with this rack, once answered here, is always to be answered here."""
        del rack
        return True

    def closer(self, log: PartitionLog, offset: int, rack: str) -> int:
        """The broker that a consumer in ``rack`` should rather read from; NO_REPLICA for none."""
        del log, offset, rack
        return NO_REPLICA

    # --- reading -------------------------------------------------------------------------------

    def _read(self, request: FetchRequest) -> tuple[list[FetchResult], int, bool]:
        """Read what is there; give the results, their bytes, and whether waiting is pointless."""
        results: list[FetchResult] = []
        size_bytes = 0
        final = not request.partitions or self._node.closing
        bytes_max = min(request.bytes_max, self._bytes_max)
        for wanted in request.partitions:
            room_bytes = bytes_max - size_bytes
            result = self._read_one(wanted, room_bytes, request.rack, first=not size_bytes)
            results.append(result)
            size_bytes += len(result[4])
            final = final or bool(result[0]) or result[5] != NO_REPLICA
            final = final or len(result[4]) >= wanted.bytes_max
        return results, size_bytes, final or size_bytes >= bytes_max

    def _read_one(
        self, wanted: FetchPartition, room_bytes: int, rack: str | None, *, first: bool
    ) -> FetchResult:
        topic, partition, offset, leader_epoch, bytes_max = wanted
        node = self._node
        log = node.logs.get((topic, partition))
        if log is None or not self.serves(log, rack):
            code, detail = partition_problem(node, topic, partition)
            return (code, detail, -1, -1, b"", NO_REPLICA)
        if leader_epoch >= 0 and leader_epoch != log.leader_epoch:
            return _wrong_epoch(log, leader_epoch)
        watermark, start = log.high_watermark, log.log_start_offset
        if not start <= offset <= log.next_offset:
            return _out_of_range(log, offset)
        if rack is not None:
            replica = self.closer(log, offset, rack)
            if replica != NO_REPLICA:
                return (0, None, watermark, start, b"", replica)
        if offset >= watermark:  # what lies between is not yet committed
            return (0, None, watermark, start, b"", NO_REPLICA)
        try:
            batches = node.store.read(log, offset, min(bytes_max, room_bytes), at_least_one=first)
        except StorageError as error:
            code, detail = node.storage_failed("read", error)
            return (code, detail, watermark, start, b"", NO_REPLICA)
        return (0, None, watermark, start, batches, NO_REPLICA)


def _out_of_range(log: PartitionLog, offset: int) -> FetchResult:
    """Nothing is at this offset; a follower may simply not have it yet."""
    watermark, start = log.high_watermark, log.log_start_offset
    detail = f"offset {offset} is not within {start} to {watermark}"
    if offset >= start and not log.leads:
        return (ErrorCode.OFFSET_NOT_AVAILABLE, detail, watermark, start, b"", NO_REPLICA)
    return (ErrorCode.OFFSET_OUT_OF_RANGE, detail, watermark, start, b"", NO_REPLICA)


def _wrong_epoch(log: PartitionLog, leader_epoch: int) -> FetchResult:
    old = leader_epoch < log.leader_epoch
    code = ErrorCode.FENCED_LEADER_EPOCH if old else ErrorCode.UNKNOWN_LEADER_EPOCH
    detail = f"leader epoch {leader_epoch}, {log.leader_epoch} is in force; refresh the metadata"
    return (code, detail, -1, -1, b"", NO_REPLICA)


def _encode(version: int, correlation_id: int, results: list[FetchResult]) -> bytes:
    if len(results) == 1 and not results[0][0] and results[0][5] == NO_REPLICA:
        _, _, watermark, log_start_offset, batches, _ = results[0]
        return plain_fetched(version).frame(correlation_id, watermark, log_start_offset, batches)
    response = encode_message(FetchResponse(0, results), version)  # type: ignore[arg-type]  # rows
    return response_frame(_FETCH, version, correlation_id, response)
