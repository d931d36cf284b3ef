"""What becomes of Kafka's consumer settings: keyword arguments of ``Consumer``.

Source: org.apache.kafka.clients.consumer.ConsumerConfig, Kafka 3.9.
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
from streambus_migrate.config.values import InvalidValueError, NoCounterpartError, integer, text

BYTES_ONLY = "keys and values are bytes; decode them in your program"
BYTE_DESERIALIZERS = [
    f"org.apache.kafka.common.serialization.{name}".lower()
    for name in ("ByteArrayDeserializer", "BytesDeserializer", "ByteBufferDeserializer")
]
NO_GROUPS = "this version has no consumer groups; give each consumer its partitions and positions"

CONSUMER_TARGETS = {
    **CLIENT_TARGETS,
    "start": Target(str, default="latest"),
    "out_of_range": Target(str, choices=("error", "earliest", "latest"), default="error"),
    "fetch_wait_ms": Target(int, minimum=0, default=500),
    "fetch_bytes_min": Target(int, minimum=1, default=1),
    "fetch_bytes_max": Target(int, 1, FRAME_BYTES_MAX, default=8 * 1024 * 1024),
    "partition_bytes_max": Target(int, minimum=1, default=2 * 1024 * 1024),
    "client_rack": Target(str, default=""),
}


def start(value: str) -> str:
    """Convert ``auto.offset.reset`` for a partition without a position."""
    word = value.lower()
    if word == "none":
        raise NoCounterpartError("a consumer without a position always starts at one end")
    return _reset(word)


def out_of_range(value: str) -> str:
    """Convert ``auto.offset.reset`` for a position that the log no longer has."""
    word = value.lower()
    return "error" if word == "none" else _reset(word)


def _reset(word: str) -> str:
    if word.startswith("by_duration:"):
        raise NoCounterpartError("start from a time in your program: start=Timestamp(ms)")
    if word not in {"earliest", "latest"}:
        raise InvalidValueError("is none of earliest, latest, none")
    return word


def fetch_bytes(value: str) -> int:
    """Convert an upper limit of an answer; what does not fit into a frame is cut to it."""
    return min(integer(value), FRAME_BYTES_MAX)


def fetch_minimum(value: str) -> int:
    """Convert ``fetch.min.bytes``; 0 and 1 both answer at once when a record is there."""
    return max(integer(value), 1)


CONSUMER = Table(
    kind="consumer",
    targets=CONSUMER_TARGETS,
    families={},
    defaults={"auto.offset.reset": "latest"},
    pairs=(("retry_backoff_ms", "retry_backoff_ms_max"),),
    rules=table(
        shared_client(),
        becomes("auto.offset.reset", "start", start, "where a partition has no position"),
        becomes("auto.offset.reset", "out_of_range", out_of_range, "where a position is gone"),
        becomes("fetch.max.wait.ms", "fetch_wait_ms", integer),
        becomes("fetch.min.bytes", "fetch_bytes_min", fetch_minimum),
        becomes("fetch.max.bytes", "fetch_bytes_max", fetch_bytes, "at most 16 MiB, a frame"),
        becomes(
            "max.partition.fetch.bytes",
            "partition_bytes_max",
            fetch_bytes,
            "at most 16 MiB, a frame",
        ),
        not_needed("each call of poll says it: poll(max_records=…)", "max.poll.records"),
        not_needed("each call that waits takes its own timeout", "default.api.timeout.ms"),
        not_needed("there are no internal topics", "exclude.internal.topics"),
        not_needed("there are no transactions: every record is committed", "isolation.level"),
        not_needed("a consumer never creates a topic", "allow.auto.create.topics"),
        not_needed("checksums are always checked", "check.crcs"),
        not_supported(NO_GROUPS, "enable.auto.commit", harmless=["false"]),
        not_supported(
            NO_GROUPS,
            """group.id group.instance.id max.poll.interval.ms session.timeout.ms
            heartbeat.interval.ms group.protocol group.remote.assignor auto.commit.interval.ms
            partition.assignment.strategy internal.leave.group.on.close
            internal.throw.on.fetch.stable.offset.unsupported""",
            harmless=[""],
        ),
        becomes("client.rack", "client_rack", text, "read from the closest replica"),
        not_supported(
            BYTES_ONLY, "key.deserializer value.deserializer", harmless=[*BYTE_DESERIALIZERS, ""]
        ),
        not_needed(
            "the consumer that needed ZooKeeper is long gone from Kafka too",
            """zookeeper.connect zookeeper.session.timeout.ms zookeeper.connection.timeout.ms
            zookeeper.sync.time.ms auto.commit.enable consumer.timeout.ms""",
        ),
    ),
)
