"""Which APIs there are, in which versions, and how two sides agree on one.

A change to a message that old receivers cannot read gets a new version; the ranges of both sides
overlap for as long as a rolling upgrade needs.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from streambus_protocol import _cluster_messages as cm
from streambus_protocol import _messages as m
from streambus_protocol import _operation_messages as om
from streambus_protocol.errors import UnsupportedApiError, UnsupportedVersionError

if TYPE_CHECKING:
    from collections.abc import Iterable


class ApiKey(IntEnum):
    """The number of each API; never reused."""

    HANDSHAKE = 0
    METADATA = 1
    PRODUCE = 2
    FETCH = 3
    LIST_OFFSETS = 4
    CREATE_TOPICS = 5
    DELETE_TOPICS = 6
    ALTER_TOPICS = 7
    DESCRIBE_TOPICS = 8
    HEALTH = 9
    INIT_PRODUCER_ID = 10
    OFFSET_FOR_LEADER_EPOCH = 11
    DESCRIBE_CLUSTER = 12
    ALTER_MEMBER = 13
    REASSIGN = 14
    SET_REPLICATION_FACTOR = 15
    ELECT_LEADERS = 16
    DESCRIBE_REPLICAS = 17
    REPLICA_DIGEST = 18
    REBALANCE = 19
    REPLACE_BROKER = 20
    ALTER_CLUSTER = 21
    REPLICA_FETCH = 100
    REPLICA_PROGRESS = 101
    BROKER_HEARTBEAT = 102
    RAFT_MESSAGES = 103


class Api(NamedTuple):
    """One API as this release speaks it.

    Attributes:
        key: its number.
        version_min: the oldest version that is still read and written.
        version_max: the newest one.
        request: the type of the request's body.
        response: the type of the response's body.
    """

    key: ApiKey
    version_min: int
    version_max: int
    request: type[tuple[Any, ...]]
    response: type[tuple[Any, ...]]


APIS: dict[int, Api] = {
    api.key: api
    for api in (
        Api(ApiKey.HANDSHAKE, 0, 0, m.HandshakeRequest, m.HandshakeResponse),
        Api(ApiKey.METADATA, 0, 0, m.MetadataRequest, m.MetadataResponse),
        Api(ApiKey.PRODUCE, 0, 0, m.ProduceRequest, m.ProduceResponse),
        Api(ApiKey.FETCH, 0, 1, m.FetchRequest, m.FetchResponse),
        Api(ApiKey.LIST_OFFSETS, 0, 0, m.ListOffsetsRequest, m.ListOffsetsResponse),
        Api(ApiKey.CREATE_TOPICS, 0, 1, m.CreateTopicsRequest, m.CreateTopicsResponse),
        Api(ApiKey.DELETE_TOPICS, 0, 1, m.DeleteTopicsRequest, m.DeleteTopicsResponse),
        Api(ApiKey.ALTER_TOPICS, 0, 0, m.AlterTopicsRequest, m.AlterTopicsResponse),
        Api(ApiKey.DESCRIBE_TOPICS, 0, 1, m.DescribeTopicsRequest, m.DescribeTopicsResponse),
        Api(ApiKey.HEALTH, 0, 0, m.HealthRequest, m.HealthResponse),
        Api(ApiKey.INIT_PRODUCER_ID, 0, 0, cm.InitProducerIdRequest, cm.InitProducerIdResponse),
        Api(
            ApiKey.OFFSET_FOR_LEADER_EPOCH,
            0,
            0,
            cm.OffsetForLeaderEpochRequest,
            cm.OffsetForLeaderEpochResponse,
        ),
        Api(ApiKey.DESCRIBE_CLUSTER, 0, 1, cm.DescribeClusterRequest, cm.DescribeClusterResponse),
        Api(ApiKey.ALTER_MEMBER, 0, 0, cm.AlterMemberRequest, cm.AlterMemberResponse),
        Api(ApiKey.REASSIGN, 0, 0, cm.ReassignRequest, cm.ReassignResponse),
        Api(
            ApiKey.SET_REPLICATION_FACTOR,
            0,
            0,
            cm.SetReplicationFactorRequest,
            cm.SetReplicationFactorResponse,
        ),
        Api(ApiKey.ELECT_LEADERS, 0, 0, cm.ElectLeadersRequest, cm.ElectLeadersResponse),
        Api(
            ApiKey.DESCRIBE_REPLICAS, 0, 0, om.DescribeReplicasRequest, om.DescribeReplicasResponse
        ),
        Api(ApiKey.REPLICA_DIGEST, 0, 0, om.ReplicaDigestRequest, om.ReplicaDigestResponse),
        Api(ApiKey.REBALANCE, 0, 0, om.RebalanceRequest, om.RebalanceResponse),
        Api(ApiKey.REPLACE_BROKER, 0, 0, om.ReplaceBrokerRequest, om.ReplaceBrokerResponse),
        Api(ApiKey.ALTER_CLUSTER, 0, 0, om.AlterClusterRequest, om.AlterClusterResponse),
        Api(ApiKey.REPLICA_FETCH, 0, 0, cm.ReplicaFetchRequest, cm.ReplicaFetchResponse),
        Api(ApiKey.REPLICA_PROGRESS, 0, 0, cm.ReplicaProgressRequest, cm.NoResponse),
        Api(ApiKey.BROKER_HEARTBEAT, 0, 2, cm.BrokerHeartbeatRequest, cm.BrokerHeartbeatResponse),
        Api(ApiKey.RAFT_MESSAGES, 0, 0, cm.RaftMessagesRequest, cm.NoResponse),
    )
}

_BY_REQUEST = {api.request: api for api in APIS.values()}


def api_of(request_type: type[tuple[Any, ...]]) -> Api:
    """Find the API that a request type belongs to."""
    return _BY_REQUEST[request_type]


def find_api(key: int, version: int) -> Api:
    """Find what a received frame speaks of.

    Raises:
        UnsupportedApiError: the number is unknown.
        UnsupportedVersionError: the version is outside the range.
    """
    api = APIS.get(key)
    if api is None:
        raise UnsupportedApiError(key)
    if not api.version_min <= version <= api.version_max:
        raise UnsupportedVersionError(
            api.key.name, f"version {version}", f"{api.version_min} to {api.version_max}"
        )
    return api


def supported_ranges() -> tuple[m.ApiRange, ...]:
    """What this release speaks, as a handshake says it."""
    return tuple(m.ApiRange(api.key, api.version_min, api.version_max) for api in APIS.values())


def negotiate(theirs: Iterable[m.ApiRange]) -> dict[int, int]:
    """Choose the newest version of each API that both sides speak.

    APIs without a common version are left out; ``version_for`` says so when one is used.
    """
    chosen: dict[int, int] = {}
    for key, version_min, version_max in theirs:
        api = APIS.get(key)
        if api is not None:
            version = min(api.version_max, version_max)
            if version >= max(api.version_min, version_min):
                chosen[key] = version
    return chosen


def version_for(negotiated: dict[int, int], key: ApiKey) -> int:
    """The version to speak.

    Raises:
        UnsupportedVersionError: the two sides share none.
    """
    version = negotiated.get(key)
    if version is None:
        api = APIS[key]
        raise UnsupportedVersionError(
            key.name, "what the other side offers", f"{api.version_min} to {api.version_max}"
        )
    return version
