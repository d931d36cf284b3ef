"""The requests of a cluster: between brokers, and for its operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streambus_broker.api.cluster import ClusterApi
from streambus_broker.api.offsets import OffsetsApi
from streambus_broker.api.produce import partition_problem
from streambus_broker.api.producer_ids import ProducerIds
from streambus_broker.api.table import Apis, serve_apis
from streambus_broker.cluster import commands as c
from streambus_broker.cluster.describe import describe_cluster
from streambus_broker.cluster.fetch import ClusterFetchApi
from streambus_broker.cluster.group import UncertainError
from streambus_broker.cluster.operating import OperatingApi
from streambus_broker.cluster.produce import ClusterProduceApi
from streambus_broker.metadata.registry import CommandError, TakeProducerIds
from streambus_broker.network.connection import error_frame, response_frame
from streambus_protocol import (
    LATEST,
    AlterMemberRequest,
    AlterMemberResponse,
    ApiKey,
    BrokerHeartbeatRequest,
    BrokerInfo,
    DescribeClusterRequest,
    ElectLeadersRequest,
    ElectLeadersResponse,
    EpochEndOffset,
    ErrorCode,
    FoundOffset,
    MetadataRequest,
    MetadataResponse,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetQuery,
    PartitionInfo,
    RaftMessagesRequest,
    ReassignRequest,
    ReassignResponse,
    SetReplicationFactorRequest,
    SetReplicationFactorResponse,
    TopicInfo,
    decode_message,
    encode_message,
)
from streambus_raft.errors import RaftError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from streambus_broker.cluster.group import MetadataGroup
    from streambus_broker.cluster.member import Member
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.metadata.records import TopicRecord
    from streambus_broker.network.connection import Connection
    from streambus_broker.observe.health import Health

_FRESH_S = 2.0
_LISTED_S = 0.5
"""What operators ask for, and other brokers, is answered all the same where nobody knows better."""


class ClusteredApi(ClusterApi):
    """HANDSHAKE, METADATA and HEALTH as a broker of a cluster answers them."""

    _node: ClusterNode
    group: MetadataGroup

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._reading: set[asyncio.Task[None]] = set()

    def metadata(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes | None:
        """Answer from this broker's copy.

        About unknown topics only when that is up to date; about all topics as well, if it can be
        had soon.

        Raises:
            ProtocolError: It cannot be read.
        """
        request = decode_message(MetadataRequest, body, version)
        known = self._node.state.topics
        if request.topics is not None and self._node.lapsed():
            # What this broker knows may be old for as long as it is cut off: another one knows.
            detail = "this broker has not heard from the controller for too long"
            code = ErrorCode.NO_QUORUM
            return error_frame(ApiKey.METADATA, version, correlation_id, code, detail)
        if request.topics is None:
            known_here = not self.group.has_quorum
        else:
            known_here = all(name in known for name in request.topics)
        if known_here:
            return self._metadata(request, version, correlation_id)
        connection.pending += 1
        task = self._node.loop.create_task(
            self._answer_fresh(connection, request, version, correlation_id)
        )
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        return None

    async def _answer_fresh(
        self, connection: Connection, request: MetadataRequest, version: int, correlation_id: int
    ) -> None:
        """Answer from a state that holds everything that was acknowledged before."""
        server = self._node.server
        fresh = await self.group.catch_up(_LISTED_S if request.topics is None else _FRESH_S)
        # Whether there is such a topic nobody can know now, if this broker does not.
        unknown = ErrorCode.UNKNOWN_TOPIC if fresh else ErrorCode.LEADER_NOT_AVAILABLE

        def answer() -> None:
            connection.answer_later(self._metadata(request, version, correlation_id, unknown))

        missing = [name for name in request.topics or () if name not in self._node.state.topics]
        if missing and self._node.config.auto_create_topics and not self._node.closing:
            self._topics.create_missing(missing, answer)
            return
        answer()
        server.flush_dirty()

    def _metadata(
        self,
        request: MetadataRequest,
        version: int,
        correlation_id: int,
        unknown: ErrorCode = ErrorCode.UNKNOWN_TOPIC,
    ) -> bytes:
        state = self._node.state
        names = sorted(state.topics) if request.topics is None else request.topics
        topics = tuple(
            self._topic(state.topics[name])
            if name in state.topics
            else TopicInfo(unknown, name, b"", ())
            for name in names
        )
        brokers = tuple(
            BrokerInfo(each.broker_id, each.host, each.port, each.rack)
            for each in state.brokers.values()
            if not each.fenced
        )
        controller = self.group.controller
        response = MetadataResponse(
            state.cluster.cluster_id, -1 if controller is None else controller, brokers, topics
        )
        encoded = encode_message(response, version)
        return response_frame(ApiKey.METADATA, version, correlation_id, encoded)

    def _topic(self, topic: TopicRecord) -> TopicInfo:
        living = self._node.state.living
        partitions = tuple(
            PartitionInfo(
                0 if record.leader >= 0 else ErrorCode.LEADER_NOT_AVAILABLE,
                number,
                record.leader,
                record.leader_epoch,
                record.replicas,
                tuple(each for each in record.in_sync if each in living),
            )
            for number, record in enumerate(topic.partitions)
        )
        return TopicInfo(0, topic.name, topic.topic_id, partitions)


class ClusteredOffsetsApi(OffsetsApi):
    """LIST_OFFSETS: a new leader does not name an end that may lie before what was seen."""

    _node: ClusterNode

    def _find(self, query: OffsetQuery) -> FoundOffset:
        log = self._node.logs.get((query.topic, query.partition))
        replica = None if log is None else self._node.replicas.get(log.partition_id)
        if query.timestamp_ms == LATEST and replica is not None and replica.leading is not None:
            leading = replica.leading
            if leading.high_watermark < leading.epoch_start:
                code = ErrorCode.OFFSET_NOT_AVAILABLE
                return FoundOffset(code, code.advice, -1, -1, -1)
        return super()._find(query)


class OperationsApi:
    """The handlers of everything else."""

    def __init__(self, node: ClusterNode, group: MetadataGroup, member: Member) -> None:
        self._node = node
        self._group = group
        self._member = member
        self._tasks: set[asyncio.Task[None]] = set()

    # --- between brokers -----------------------------------------------------------------------

    def heartbeat(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes:
        """BROKER_HEARTBEAT."""
        del connection
        request = decode_message(BrokerHeartbeatRequest, body, version)
        encoded = encode_message(self._member.heartbeat_came(request), version)
        return response_frame(ApiKey.BROKER_HEARTBEAT, version, correlation_id, encoded)

    def raft(self, connection: Connection, version: int, correlation_id: int, body: bytes) -> None:
        """RAFT_MESSAGES; not answered."""
        del connection, correlation_id
        self._group.transport.arrived(decode_message(RaftMessagesRequest, body, version))

    def epoch_ends(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes:
        """OFFSET_FOR_LEADER_EPOCH."""
        del connection
        request = decode_message(OffsetForLeaderEpochRequest, body, version)
        found = []
        for topic, partition, epoch in request.partitions:
            log = self._node.logs.get((topic, partition))
            replica = None if log is None else self._node.replicas.get(log.partition_id)
            if log is None or replica is None or replica.leading is None:
                found.append(
                    EpochEndOffset(*partition_problem(self._node, topic, partition), -1, -1)
                )
                continue
            end = replica.stored.epochs.end_of(epoch, log.next_offset)
            found.append(EpochEndOffset(0, None, end.epoch, end.end_offset))
        encoded = encode_message(OffsetForLeaderEpochResponse(tuple(found)), version)
        return response_frame(ApiKey.OFFSET_FOR_LEADER_EPOCH, version, correlation_id, encoded)

    # --- operation -----------------------------------------------------------------------------

    def describe(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """DESCRIBE_CLUSTER; from a copy that is up to date, if that can be had soon."""
        decode_message(DescribeClusterRequest, body, version)

        async def answer() -> tuple[Any, ...]:
            if self._group.has_quorum:
                await self._group.catch_up(_LISTED_S)
            return describe_cluster(self._node.state, self._group)

        self.later(ApiKey.DESCRIBE_CLUSTER, connection, version, correlation_id, answer)

    def reassign(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """REASSIGN."""
        request = decode_message(ReassignRequest, body, version)
        command = c.Reassign(tuple((*move,) for move in request.moves))
        self._propose(ApiKey.REASSIGN, connection, version, correlation_id, command,
                      ReassignResponse)  # fmt: skip

    def set_factor(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """SET_REPLICATION_FACTOR."""
        request = decode_message(SetReplicationFactorRequest, body, version)
        command = c.SetReplicationFactor(request.topic, request.replication_factor)
        self._propose(ApiKey.SET_REPLICATION_FACTOR, connection, version, correlation_id, command,
                      SetReplicationFactorResponse)  # fmt: skip

    def elect(self, connection: Connection, version: int, correlation_id: int, body: bytes) -> None:
        """ELECT_LEADERS."""
        request = decode_message(ElectLeadersRequest, body, version)
        chosen = request.partitions
        partitions = (
            None if chosen is None else tuple((each.topic, each.partition) for each in chosen)
        )

        async def answer() -> tuple[Any, ...]:
            try:
                elected, warnings = await self._group.propose_warned(
                    c.ElectLeaders(partitions, request.unclean)
                )
            except CommandError as error:
                return ElectLeadersResponse(error.code, error.detail, 0, ())
            return ElectLeadersResponse(0, None, elected, tuple(warnings))

        self.later(ApiKey.ELECT_LEADERS, connection, version, correlation_id, answer)

    def alter_member(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """ALTER_MEMBER."""
        request = decode_message(AlterMemberRequest, body, version)

        async def answer() -> tuple[Any, ...]:
            try:
                await self._alter_member(request)
            except CommandError as error:
                return AlterMemberResponse(error.code, error.detail)
            except RaftError as error:
                return AlterMemberResponse(ErrorCode.INVALID_REQUEST, str(error))
            return AlterMemberResponse(0, None)

        self.later(ApiKey.ALTER_MEMBER, connection, version, correlation_id, answer)

    async def _alter_member(self, request: AlterMemberRequest) -> None:
        action, broker_id = request.action, request.broker_id
        group = self._group
        if action in ("maintenance_on", "maintenance_off"):
            await group.propose(c.SetMaintenance(broker_id, action == "maintenance_on"))
            return
        if action not in ("add", "promote", "demote", "remove", "transfer"):
            raise CommandError(ErrorCode.INVALID_REQUEST, f"action {action[:40]!r} is unknown")
        if not group.is_controller:
            raise CommandError(
                ErrorCode.NOT_CONTROLLER, f"broker {group.controller} is the controller; ask there"
            )
        await group.change_member(action, broker_id, (request.host, request.port))

    # --- parts ---------------------------------------------------------------------------------

    def _propose(
        self,
        api: ApiKey,
        connection: Connection,
        version: int,
        correlation_id: int,
        command: Any,
        response: Callable[[int, str | None], tuple[Any, ...]],
    ) -> None:
        async def answer() -> tuple[Any, ...]:
            try:
                await self._group.propose(command)
            except CommandError as error:
                return response(error.code, error.detail)
            return response(0, None)

        self.later(api, connection, version, correlation_id, answer)

    def later(
        self,
        api: ApiKey,
        connection: Connection,
        version: int,
        correlation_id: int,
        answer: Callable[[], Awaitable[tuple[Any, ...]]],
    ) -> None:
        """Answer when a task has found the answer."""
        connection.pending += 1
        server = self._node.server

        async def run() -> None:
            try:
                encoded = encode_message(await answer(), version)
                frame = response_frame(api, version, correlation_id, encoded)
            except UncertainError as error:
                code = ErrorCode.REQUEST_TIMED_OUT
                frame = error_frame(api, version, correlation_id, code, str(error))
            except Exception as error:  # noqa: BLE001 - one bad request costs nobody else anything
                server.unexpected(api, error)
                code = ErrorCode.INTERNAL
                frame = error_frame(api, version, correlation_id, code, code.advice)
            connection.answer_later(frame)
            server.flush_dirty()

        task = self._node.loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def ids_of_cluster(node: ClusterNode, group: MetadataGroup) -> ProducerIds:
    """Producer ids whose blocks come from the metadata group."""

    async def take_block(count: int) -> int:
        try:
            first: int = await group.propose(TakeProducerIds(count))
        except UncertainError as exc:
            raise CommandError(ErrorCode.REQUEST_TIMED_OUT, str(exc)) from exc
        return first

    return ProducerIds(take_block, lambda: node.state.next_producer_id, node.random)


def serve_cluster_apis(
    node: ClusterNode, group: MetadataGroup, member: Member, health: Callable[[], Health]
) -> Apis:
    """Build the dispatch table of a broker of a cluster."""
    operations = OperationsApi(node, group, member)
    operating = OperatingApi(node, group, operations.later)

    def cluster_api(*arguments: Any) -> ClusterApi:
        api = ClusteredApi(*arguments)
        api.group = group
        return api

    return serve_apis(
        node,
        health,
        produce_api=ClusterProduceApi,
        fetch_api=ClusterFetchApi,
        offsets_api=ClusteredOffsetsApi,
        cluster_api=cluster_api,
        producer_ids=ids_of_cluster(node, group),
        more={
            ApiKey.OFFSET_FOR_LEADER_EPOCH: operations.epoch_ends,
            ApiKey.DESCRIBE_CLUSTER: operations.describe,
            ApiKey.ALTER_MEMBER: operations.alter_member,
            ApiKey.REASSIGN: operations.reassign,
            ApiKey.SET_REPLICATION_FACTOR: operations.set_factor,
            ApiKey.ELECT_LEADERS: operations.elect,
            ApiKey.DESCRIBE_REPLICAS: operating.replicas,
            ApiKey.REPLICA_DIGEST: operating.digest,
            ApiKey.REBALANCE: operating.rebalance,
            ApiKey.REPLACE_BROKER: operating.replace,
            ApiKey.ALTER_CLUSTER: operating.settings,
            ApiKey.REPLICA_FETCH: node.sessions.fetch,
            ApiKey.REPLICA_PROGRESS: node.sessions.progress,
            ApiKey.BROKER_HEARTBEAT: operations.heartbeat,
            ApiKey.RAFT_MESSAGES: operations.raft,
        },
    )
