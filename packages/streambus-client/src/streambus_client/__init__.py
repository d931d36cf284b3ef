"""Producer, consumer and admin clients for StreamBus, blocking and async, and the command.

Start here: ``Producer``, ``Consumer`` and ``Admin`` block; ``AsyncProducer``, ``AsyncConsumer`` and
``AsyncAdmin`` have the same methods, awaited, on asyncio, uvloop and trio. Below both lie the same
pure decisions: ``_producing`` and ``_consuming`` lead to them, ``_operations`` to what takes
several requests, ``_connection`` to the bytes.

Names are loaded when they are first used: a blocking program does not pay for the async clients,
and ``streambus --help`` for neither.
"""

from typing import TYPE_CHECKING, Any

from streambus_client._version import __version__

if TYPE_CHECKING:
    from streambus_client._aio._admin import AsyncAdmin
    from streambus_client._aio._consumer import AsyncConsumer
    from streambus_client._aio._futures import AsyncSendFuture, AsyncSendManyFuture
    from streambus_client._aio._producer import AsyncProducer
    from streambus_client._blocking._admin import Admin
    from streambus_client._blocking._consumer import Consumer
    from streambus_client._blocking._futures import SendFuture, SendManyFuture
    from streambus_client._blocking._producer import Producer
    from streambus_client._cluster_operations import (
        ClusterDescription,
        ClusterMember,
        Election,
        PartitionTrouble,
    )
    from streambus_client._comparing import ReplicaDifference
    from streambus_client._copies import (
        ClusterSetting,
        CopyProgress,
        ReplicaCopy,
        ReplicaMove,
    )
    from streambus_client._types import (
        BrokerHealth,
        BrokerInfo,
        ClusterInfo,
        ComponentStatus,
        Headers,
        PartitionInfo,
        PartitionOffsets,
        Record,
        RecordColumns,
        RecordMetadata,
        RecordRange,
        Timestamp,
        TopicDescription,
        TopicListing,
        TopicPartition,
    )
    from streambus_client.errors import ClientError

__all__ = [
    "Admin",
    "AsyncAdmin",
    "AsyncConsumer",
    "AsyncProducer",
    "AsyncSendFuture",
    "AsyncSendManyFuture",
    "BrokerHealth",
    "BrokerInfo",
    "ClientError",
    "ClusterDescription",
    "ClusterInfo",
    "ClusterMember",
    "ClusterSetting",
    "ComponentStatus",
    "Consumer",
    "CopyProgress",
    "Election",
    "Headers",
    "PartitionInfo",
    "PartitionOffsets",
    "PartitionTrouble",
    "Producer",
    "Record",
    "RecordColumns",
    "RecordMetadata",
    "RecordRange",
    "ReplicaCopy",
    "ReplicaDifference",
    "ReplicaMove",
    "SendFuture",
    "SendManyFuture",
    "Timestamp",
    "TopicDescription",
    "TopicListing",
    "TopicPartition",
    "__version__",
]

_HOMES = {
    "Admin": "streambus_client._blocking._admin",
    "AsyncAdmin": "streambus_client._aio._admin",
    "AsyncConsumer": "streambus_client._aio._consumer",
    "AsyncProducer": "streambus_client._aio._producer",
    "AsyncSendFuture": "streambus_client._aio._futures",
    "AsyncSendManyFuture": "streambus_client._aio._futures",
    "BrokerHealth": "streambus_client._types",
    "BrokerInfo": "streambus_client._types",
    "ClientError": "streambus_client.errors",
    "ClusterDescription": "streambus_client._cluster_operations",
    "ClusterInfo": "streambus_client._types",
    "ClusterMember": "streambus_client._cluster_operations",
    "ClusterSetting": "streambus_client._copies",
    "CopyProgress": "streambus_client._copies",
    "ReplicaCopy": "streambus_client._copies",
    "ReplicaDifference": "streambus_client._comparing",
    "ReplicaMove": "streambus_client._copies",
    "ComponentStatus": "streambus_client._types",
    "Consumer": "streambus_client._blocking._consumer",
    "Election": "streambus_client._cluster_operations",
    "Headers": "streambus_client._types",
    "PartitionInfo": "streambus_client._types",
    "PartitionOffsets": "streambus_client._types",
    "PartitionTrouble": "streambus_client._cluster_operations",
    "Producer": "streambus_client._blocking._producer",
    "Record": "streambus_client._types",
    "RecordColumns": "streambus_client._types",
    "RecordMetadata": "streambus_client._types",
    "RecordRange": "streambus_client._types",
    "SendFuture": "streambus_client._blocking._futures",
    "SendManyFuture": "streambus_client._blocking._futures",
    "Timestamp": "streambus_client._types",
    "TopicDescription": "streambus_client._types",
    "TopicListing": "streambus_client._types",
    "TopicPartition": "streambus_client._types",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
