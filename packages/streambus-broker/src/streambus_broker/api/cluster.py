"""HANDSHAKE, METADATA and HEALTH: who this broker is, what the cluster holds, how it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_broker._version import __version__
from streambus_broker.network.connection import response_frame
from streambus_protocol import (
    ApiKey,
    ApiRange,
    BrokerInfo,
    ClusterMember,
    ComponentHealth,
    DescribeClusterRequest,
    DescribeClusterResponse,
    ErrorCode,
    HandshakeRequest,
    HandshakeResponse,
    HealthRequest,
    HealthResponse,
    MetadataRequest,
    MetadataResponse,
    PartitionInfo,
    TopicInfo,
    decode_message,
    encode_message,
    supported_ranges,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_broker.api.topics import TopicsApi
    from streambus_broker.metadata.records import TopicRecord
    from streambus_broker.network.connection import Connection
    from streambus_broker.node import Node
    from streambus_broker.observe.health import Health


class ClusterApi:
    """The handlers."""

    def __init__(self, node: Node, topics: TopicsApi, health: Callable[[], Health]) -> None:
        self._node = node
        self._topics = topics
        self._health = health
        self._ranges: tuple[ApiRange, ...] = ()

    def handshake(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes:
        """Answer who this is; from here on the connection may send requests.

        Raises:
            ProtocolError: It cannot be read.
        """
        request = decode_message(HandshakeRequest, body, version)
        node = self._node
        cluster_id = node.registry.cluster.cluster_id
        error, detail = ErrorCode.NONE, None
        if cluster_id and request.cluster_id not in (None, cluster_id):
            error = ErrorCode.WRONG_CLUSTER
            detail = f"this broker belongs to cluster {cluster_id}, not {request.cluster_id!r:.100}"
        else:
            connection.accept_large_frames()
        response = HandshakeResponse(
            error,
            detail,
            cluster_id,
            node.config.node_id,
            __version__,
            node.config.request_bytes_max,
            self._served(),
        )
        encoded = encode_message(response, version)
        return response_frame(ApiKey.HANDSHAKE, version, correlation_id, encoded)

    def _served(self) -> tuple[ApiRange, ...]:
        """What this broker serves of what the protocol knows; the same for all its life."""
        if not self._ranges:
            routes = self._node.server.routes
            self._ranges = tuple(
                each for each in supported_ranges() if each.api << 8 | each.version_max in routes
            )
        return self._ranges

    def metadata(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes | None:
        """Answer which topics there are and who leads their partitions.

        Raises:
            ProtocolError: It cannot be read.
        """
        request = decode_message(MetadataRequest, body, version)
        node = self._node
        known = node.registry.topics
        if request.topics is not None and node.config.auto_create_topics and not node.closing:
            missing = [name for name in dict.fromkeys(request.topics) if name not in known]
            if missing:
                connection.pending += 1
                self._topics.create_missing(
                    missing,
                    lambda: connection.answer_later(
                        self._metadata(request, version, correlation_id)
                    ),
                )
                return None
        return self._metadata(request, version, correlation_id)

    def _metadata(self, request: MetadataRequest, version: int, correlation_id: int) -> bytes:
        node = self._node
        known = node.registry.topics
        if request.topics is None:
            topics = tuple(self._topic(known[name]) for name in sorted(known))
        else:
            topics = tuple(
                self._topic(known[name])
                if name in known
                else TopicInfo(ErrorCode.UNKNOWN_TOPIC, name, b"", ())
                for name in request.topics
            )
        host, port = node.advertised
        response = MetadataResponse(
            node.registry.cluster.cluster_id,
            node.config.node_id,
            (BrokerInfo(node.config.node_id, host, port, None),),
            topics,
        )
        encoded = encode_message(response, version)
        return response_frame(ApiKey.METADATA, version, correlation_id, encoded)

    def _topic(self, topic: TopicRecord) -> TopicInfo:
        node = self._node
        partitions = tuple(
            PartitionInfo(
                0 if record.leader >= 0 else ErrorCode.LEADER_NOT_AVAILABLE,
                number,
                record.leader,
                node.leader_epoch(record),
                record.replicas,
                record.in_sync,
            )
            for number, record in enumerate(topic.partitions)
        )
        return TopicInfo(0, topic.name, topic.topic_id, partitions)

    def describe(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes:
        """Answer DESCRIBE_CLUSTER: a broker on its own is all of its cluster.

        Raises:
            ProtocolError: It cannot be read.
        """
        del connection
        decode_message(DescribeClusterRequest, body, version)
        node = self._node
        count = node.registry.partition_count
        host, port = node.advertised
        epoch = node.registry.cluster.generation
        number = node.config.node_id
        me = ClusterMember(number, host, port, None, epoch, "alive", "none", count, count)
        cluster_id = node.registry.cluster.cluster_id
        response = DescribeClusterResponse(0, None, cluster_id, "", number, 0, 0, (me,), count, ())
        encoded = encode_message(response, version)
        return response_frame(ApiKey.DESCRIBE_CLUSTER, version, correlation_id, encoded)

    def health(
        self,
        connection: Connection,  # noqa: ARG002 - a handler's shape
        version: int,
        correlation_id: int,
        body: bytes,
    ) -> bytes:
        """Answer how this broker does.

        Raises:
            ProtocolError: It cannot be read.
        """
        decode_message(HealthRequest, body, version)
        health = self._health()
        components = tuple(
            ComponentHealth(part.name, part.status, part.reason) for part in health.components
        )
        response = HealthResponse(
            self._node.config.node_id, health.live, health.ready, health.uptime_ms, components
        )
        encoded = encode_message(response, version)
        return response_frame(ApiKey.HEALTH, version, correlation_id, encoded)
