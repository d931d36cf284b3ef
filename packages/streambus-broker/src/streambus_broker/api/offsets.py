"""LIST_OFFSETS: earliest, latest, by timestamp, and the largest timestamp."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_broker.api.produce import partition_problem
from streambus_broker.network.connection import response_frame
from streambus_protocol import (
    EARLIEST,
    LATEST,
    MAX_TIMESTAMP,
    ApiKey,
    ErrorCode,
    FoundOffset,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ProtocolError,
    decode_message,
    encode_message,
)
from streambus_storage import StorageError

if TYPE_CHECKING:
    from streambus_broker.network.connection import Connection
    from streambus_broker.node import Node
    from streambus_protocol import OffsetQuery


class OffsetsApi:
    """The handler."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def handle(
        self,
        connection: Connection,  # noqa: ARG002 - a handler's shape
        version: int,
        correlation_id: int,
        body: bytes,
    ) -> bytes:
        """Serve one request.

        Raises:
            ProtocolError: It cannot be read.
        """
        request = decode_message(ListOffsetsRequest, body, version)
        found = tuple(self._find(query) for query in request.partitions)
        response = encode_message(ListOffsetsResponse(found), version)
        return response_frame(ApiKey.LIST_OFFSETS, version, correlation_id, response)

    def _find(self, query: OffsetQuery) -> FoundOffset:
        topic, partition, timestamp_ms = query
        node = self._node
        log = node.logs.get((topic, partition))
        if log is None or not log.leads or (node.leased and node.lapsed()):
            code, detail = partition_problem(node, topic, partition)
            return FoundOffset(code, detail, -1, -1, -1)
        if timestamp_ms == EARLIEST:
            return FoundOffset(0, None, log.log_start_offset, -1, log.leader_epoch)
        if timestamp_ms == LATEST:
            return FoundOffset(0, None, log.high_watermark, -1, log.leader_epoch)
        if timestamp_ms < 0 and timestamp_ms != MAX_TIMESTAMP:
            detail = f"timestamp {timestamp_ms}: use 0 or more, or earliest, latest, max timestamp"
            return FoundOffset(ErrorCode.INVALID_REQUEST, detail, -1, -1, -1)
        try:
            if timestamp_ms == MAX_TIMESTAMP:
                found = node.store.find_max_timestamp(log)
            else:
                found = node.store.find_timestamp(log, timestamp_ms)
        except StorageError as error:
            code, detail = node.storage_failed("find_timestamp", error)
            return FoundOffset(code, detail, -1, -1, -1)
        except ProtocolError as error:
            return FoundOffset(error.code, str(error), -1, -1, -1)
        if found is None:
            return FoundOffset(0, None, -1, -1, -1)
        return FoundOffset(0, None, found.offset, found.timestamp_ms, found.leader_epoch)
