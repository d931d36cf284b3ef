"""The requests by which a cluster is operated: plans, progress, comparisons, settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streambus_broker.cluster import commands as c
from streambus_broker.cluster import replacing
from streambus_broker.cluster.balancing import rebalance
from streambus_broker.cluster.comparing import digest_of
from streambus_broker.cluster.copying import is_copied, progress_of
from streambus_broker.cluster.settings import list_in_force, parse_cluster_settings
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import (
    AlterClusterRequest,
    AlterClusterResponse,
    ApiKey,
    DescribeReplicasRequest,
    DescribeReplicasResponse,
    ErrorCode,
    PlannedMove,
    RebalanceRequest,
    RebalanceResponse,
    ReplaceBrokerRequest,
    ReplaceBrokerResponse,
    ReplicaDigestRequest,
    ReplicaDigestResponse,
    decode_message,
)
from streambus_storage import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from streambus_broker.cluster.group import MetadataGroup
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.network.connection import Connection

    Later = Callable[[ApiKey, Connection, int, int, Callable[[], Awaitable[tuple[Any, ...]]]], None]


class OperatingApi:
    """The handlers.

    Args:
        node: This broker.
        group: The metadata group.
        later: Answers a request when a task has found the answer.
    """

    def __init__(self, node: ClusterNode, group: MetadataGroup, later: Later) -> None:
        self._node = node
        self._group = group
        self._later = later

    def replicas(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """DESCRIBE_REPLICAS."""
        request = decode_message(DescribeReplicasRequest, body, version)

        async def answer() -> tuple[Any, ...]:
            node = self._node
            throttle = node.sessions.throttle.bytes_per_s
            chosen = None
            if request.partitions is not None:
                chosen = {(each.topic, each.partition) for each in request.partitions}
            try:
                found = tuple(
                    progress_of(node, replica)
                    for replica in list(node.replicas.values())
                    if replica.leading is not None
                    and (
                        is_copied(replica)
                        if chosen is None
                        else (replica.topic, replica.partition) in chosen
                    )
                )
            except StorageError as error:
                code, detail = node.storage_failed("describe", error)
                return DescribeReplicasResponse(code, detail, throttle, ())
            return DescribeReplicasResponse(0, None, throttle, found)

        self._later(ApiKey.DESCRIBE_REPLICAS, connection, version, correlation_id, answer)

    def digest(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """REPLICA_DIGEST."""
        request = decode_message(ReplicaDigestRequest, body, version)

        async def answer() -> tuple[Any, ...]:
            try:
                return await digest_of(self._node, request)
            except StorageError as error:
                code, detail = self._node.storage_failed("compare", error)
                return ReplicaDigestResponse(code, detail, -1, -1, -1, (), -1, 0, 0, b"")

        self._later(ApiKey.REPLICA_DIGEST, connection, version, correlation_id, answer)

    def rebalance(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """REBALANCE."""
        request = decode_message(RebalanceRequest, body, version)

        async def answer() -> tuple[Any, ...]:
            state, elected = self._node.state, 0
            settled = {
                (topic.name, number): record.replicas
                for topic in state.topics.values()
                for number, record in enumerate(topic.partitions)
                if not record.adding and not record.removing
            }
            loads = [each for each in state.loads() if each.able]
            plan = rebalance(loads, settled, leaders_only=request.leaders_only)
            moves = tuple(PlannedMove(*at, settled[at], after) for at, after in plan.items())
            try:
                if moves and not request.dry_run:
                    begun = tuple((*where, after) for where, after in plan.items())
                    await self._group.propose(c.Reassign(begun))
                if not request.dry_run:
                    elected = await self._group.propose(c.ElectLeaders(None, unclean=False))
            except CommandError as error:
                return RebalanceResponse(error.code, error.detail, (), 0)
            return RebalanceResponse(0, None, moves, elected)

        self._later(ApiKey.REBALANCE, connection, version, correlation_id, answer)

    def replace(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """REPLACE_BROKER."""
        request = decode_message(ReplaceBrokerRequest, body, version)

        async def answer() -> tuple[Any, ...]:
            try:
                moves = await self._replace(request)
            except CommandError as error:
                return ReplaceBrokerResponse(error.code, error.detail, ())
            return ReplaceBrokerResponse(0, None, tuple(moves))

        self._later(ApiKey.REPLACE_BROKER, connection, version, correlation_id, answer)

    async def _replace(self, request: ReplaceBrokerRequest) -> list[PlannedMove]:
        state, old_id, new_id = self._node.state, request.old_id, request.new_id
        command: c.ReplaceBroker | c.CancelReplace
        if request.action == "cancel":
            moves = replacing.cancelled(state, old_id)
            command = c.CancelReplace(old_id)
        elif request.action in ("begin", "plan"):
            moves = replacing.plan(state, old_id, new_id)
            command = c.ReplaceBroker(old_id, new_id)
        else:
            problem = f"action {request.action[:40]!r} is unknown"
            raise CommandError(ErrorCode.INVALID_REQUEST, problem)
        if request.action != "plan":
            await self._group.propose(command)
        return [
            PlannedMove(each.topic, each.number, each.record.replicas, each.target)
            for each in moves
        ]

    def settings(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """ALTER_CLUSTER."""
        request = decode_message(AlterClusterRequest, body, version)

        async def answer() -> tuple[Any, ...]:
            node = self._node
            try:
                if request.settings:
                    parsed = parse_cluster_settings(request.settings)
                    await self._group.propose(c.SetClusterSettings(parsed))
            except CommandError as error:
                return AlterClusterResponse(error.code, error.detail, ())
            return AlterClusterResponse(0, None, list_in_force(node.state.settings, node.config))

        self._later(ApiKey.ALTER_CLUSTER, connection, version, correlation_id, answer)
