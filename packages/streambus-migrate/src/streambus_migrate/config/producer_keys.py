"""What becomes of Kafka's producer settings: keyword arguments of ``Producer``.

Source: org.apache.kafka.clients.producer.ProducerConfig, Kafka 3.9.
"""

from __future__ import annotations

from streambus_migrate.config.client_keys import CLIENT_TARGETS, FRAME_BYTES_MAX, shared_client
from streambus_migrate.config.rules import (
    Table,
    Target,
    becomes,
    not_needed,
    not_supported,
    table,
)
from streambus_migrate.config.topic_keys import CODECS
from streambus_migrate.config.values import (
    InvalidValueError,
    NoCounterpartError,
    Value,
    boolean,
    integer,
)

BATCH_BYTES_MAX = FRAME_BYTES_MAX - 4096  # what a request leaves for a batch
BYTES_ONLY = "keys and values are bytes; encode them in your program"
BYTE_SERIALIZERS = [
    f"org.apache.kafka.common.serialization.{name}".lower()
    for name in ("ByteArraySerializer", "BytesSerializer", "ByteBufferSerializer")
]
NO_TRANSACTIONS = "this version has no transactions"

PRODUCER_TARGETS = {
    **CLIENT_TARGETS,
    "acks": Target(str, default="all"),
    "compression": Target(str, choices=CODECS, default="none"),
    "partitioner": Target(str, default="xxhash"),
    "linger_ms": Target(int, minimum=0, default=5),
    "batch_bytes_max": Target(int, 1, BATCH_BYTES_MAX, default=512 * 1024),
    "buffer_bytes_max": Target(int, minimum=1, default=64 * 1024 * 1024),
    "delivery_timeout_ms": Target(int, minimum=1, default=120_000),
    "retries_max": Target(int, minimum=0),
    "idempotent": Target(bool),
}


def acks(value: str) -> Value:
    """Convert ``acks``; ``all`` and -1 are one."""
    known: dict[str, Value] = {"all": "all", "-1": "all", "0": 0, "1": 1}
    if value not in known:
        raise InvalidValueError("is none of all, -1, 0, 1")
    return known[value]


def codec(value: str) -> str:
    """Convert ``compression.type`` of a producer."""
    if value not in CODECS:
        raise InvalidValueError("is no compression type of a producer")
    return value


def partitioner(value: str) -> str:
    """Convert ``partitioner.class``, so that keys stay in their partitions."""
    name = value.removeprefix("org.apache.kafka.clients.producer.").removeprefix("internals.")
    known = {
        "": "murmur2",
        "DefaultPartitioner": "murmur2",
        "RoundRobinPartitioner": "round_robin",
        "UniformStickyPartitioner": "sticky",
    }
    if name not in known:
        raise NoCounterpartError(
            "a partitioner of your own is a Python function: partitioner=function"
        )
    return known[name]


def ignored_keys(value: str) -> str:
    """Convert ``partitioner.ignore.keys``."""
    return "sticky" if boolean(value) else "murmur2"


def batch_bytes(value: str) -> int:
    """Convert ``batch.size``; 0 means no batching, and a batch of one byte holds one record."""
    return min(max(integer(value), 1), BATCH_BYTES_MAX)


PRODUCER = Table(
    kind="producer",
    targets=PRODUCER_TARGETS,
    families={},
    defaults={"partitioner.class": ""},
    pairs=(
        ("retry_backoff_ms", "retry_backoff_ms_max"),
        ("batch_bytes_max", "buffer_bytes_max"),
    ),
    rules=table(
        shared_client(),
        becomes("acks", "acks", acks, "all waits for the disk here, in Kafka only for memory"),
        becomes("compression.type", "compression", codec),
        becomes("linger.ms", "linger_ms", integer),
        becomes("batch.size", "batch_bytes_max", batch_bytes, "of one batch, before compression"),
        becomes("buffer.memory", "buffer_bytes_max", integer),
        becomes("delivery.timeout.ms", "delivery_timeout_ms", integer),
        becomes("retries", "retries_max", integer),
        becomes("enable.idempotence", "idempotent", boolean, "on by itself with acks=all"),
        becomes(
            "partitioner.class",
            "partitioner",
            partitioner,
            "keys go to the partitions to which Kafka's producer sends them",
        ),
        becomes("partitioner.ignore.keys", "partitioner", ignored_keys, rank=1),
        not_needed(
            "one batch of each partition is under way at a time, so that order holds",
            "max.in.flight.requests.per.connection",
        ),
        not_needed(
            "the topic's max_message_bytes and the broker's request_bytes_max decide",
            "max.request.size",
        ),
        not_needed("metadata of idle topics costs next to nothing", "metadata.max.idle.ms"),
        not_needed(
            "batches follow the partitioner, not the load of brokers",
            "partitioner.adaptive.partitioning.enable partitioner.availability.timeout.ms",
        ),
        not_supported(
            "submit waits for room in the buffer, without a limit of its own", "max.block.ms"
        ),
        not_supported(
            BYTES_ONLY, "key.serializer value.serializer", harmless=[*BYTE_SERIALIZERS, ""]
        ),
        not_supported(NO_TRANSACTIONS, "transactional.id transaction.timeout.ms", harmless=[""]),
        not_supported("codecs run at one fixed level", "compression.gzip.level", harmless=["-1"]),
        not_supported("codecs run at one fixed level", "compression.lz4.level", harmless=["9"]),
        not_supported("codecs run at one fixed level", "compression.zstd.level", harmless=["3"]),
        not_needed(
            "Kafka removed it long ago; submit waits for room",
            "block.on.buffer.full metadata.fetch.timeout.ms timeout.ms",
        ),
    ),
)
