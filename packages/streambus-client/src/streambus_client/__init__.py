"""Producer, consumer and admin clients for StreamBus, blocking and async, and the command.

Start here: ``Producer``, ``Consumer`` and ``Admin`` block; ``AsyncProducer``, ``AsyncConsumer`` and
``AsyncAdmin`` have the same methods, awaited, on asyncio, uvloop and trio. Below both lie the same
pure decisions: ``_producing`` and ``_consuming`` lead to them, ``_operations`` to what takes
several requests, ``_connection`` to the bytes.
"""

from streambus_client._aio._admin import AsyncAdmin
from streambus_client._aio._consumer import AsyncConsumer
from streambus_client._aio._futures import AsyncSendFuture, AsyncSendManyFuture
from streambus_client._aio._producer import AsyncProducer
from streambus_client._blocking._admin import Admin
from streambus_client._blocking._consumer import Consumer
from streambus_client._blocking._futures import SendFuture, SendManyFuture
from streambus_client._blocking._producer import Producer
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
from streambus_client._version import __version__
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
    "ClusterInfo",
    "ComponentStatus",
    "Consumer",
    "Headers",
    "PartitionInfo",
    "PartitionOffsets",
    "Producer",
    "Record",
    "RecordColumns",
    "RecordMetadata",
    "RecordRange",
    "SendFuture",
    "SendManyFuture",
    "Timestamp",
    "TopicDescription",
    "TopicListing",
    "TopicPartition",
    "__version__",
]
