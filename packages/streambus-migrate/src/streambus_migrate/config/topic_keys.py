"""What becomes of Kafka's topic settings.

Source: org.apache.kafka.common.config.TopicConfig and QuotaConfig, Kafka 3.9; names that Kafka has
since removed are kept, because files in use still hold them.
"""

from __future__ import annotations

from streambus_migrate.config.rules import (
    Table,
    Target,
    becomes,
    not_needed,
    not_supported,
    table,
)
from streambus_migrate.config.values import InvalidValueError, NoCounterpartError, integer, items

CODECS = ("none", "zstd", "lz4", "snappy", "gzip")
INT64_MAX = 2**63 - 1
MESSAGE_BYTES_MAX = 15 * 1024 * 1024
WEEK_MS = 7 * 24 * 3600 * 1000

ENGINE_FILES = "the storage engine chooses its own files and indexes"
NO_COMPACTION = "this version has no cleanup policy 'compact'"
NO_TIERING = "this version has no tiered storage"
SYNCED = "acks=all is answered only when the records are synced; nothing depends on an interval"
TIMES = "no record is refused for its time"

MIN_IN_SYNC = "without it a majority of the replicas, in Kafka one"

TOPIC_TARGETS = {
    "retention_ms": Target(int, 0, INT64_MAX, unlimited=True, default=WEEK_MS),
    "retention_bytes": Target(int, 0, INT64_MAX, unlimited=True, default=-1),
    "max_message_bytes": Target(int, 1024, MESSAGE_BYTES_MAX, default=1024 * 1024),
    "compression": Target(str, choices=("producer", *CODECS), default="producer"),
    "message_timestamp_type": Target(
        str, choices=("create_time", "append_time"), default="create_time"
    ),
    "cleanup_policy": Target(str, choices=("delete",), default="delete"),
    "min_insync_replicas": Target(int, 1, 32_767, unlimited=True, default=-1),
}


def stored_codec(value: str) -> str:
    """Convert ``compression.type`` of a topic or broker."""
    codec = {"uncompressed": "none"}.get(value, value)
    if codec not in {"producer", *CODECS} or value == "none":
        raise InvalidValueError("is no compression type of a topic")
    return codec


def cleanup_policy(value: str) -> str:
    """Convert ``cleanup.policy``: only deletion has a counterpart."""
    policies = [item.lower() for item in items(value)]
    if not policies or not {"delete", "compact"} >= set(policies):
        raise InvalidValueError("is no cleanup policy")
    if "compact" in policies:
        raise NoCounterpartError(NO_COMPACTION)
    return "delete"


def timestamp_type(value: str) -> str:
    """Convert ``message.timestamp.type``."""
    known = {"CreateTime": "create_time", "LogAppendTime": "append_time"}
    if value not in known:
        raise InvalidValueError("is neither CreateTime nor LogAppendTime")
    return known[value]


TOPIC = Table(
    kind="topic",
    targets=TOPIC_TARGETS,
    families={},
    rules=table(
        becomes("retention.ms", "retention_ms", integer),
        becomes("retention.bytes", "retention_bytes", integer, "for each partition, as in Kafka"),
        becomes("max.message.bytes", "max_message_bytes", integer, "of a batch, as it travels"),
        becomes("compression.type", "compression", stored_codec),
        becomes("min.insync.replicas", "min_insync_replicas", integer, MIN_IN_SYNC),
        becomes("message.timestamp.type", "message_timestamp_type", timestamp_type),
        becomes("cleanup.policy", "cleanup_policy", cleanup_policy),
        not_needed(
            ENGINE_FILES,
            """segment.bytes segment.ms segment.jitter.ms segment.index.bytes index.interval.bytes
            file.delete.delay.ms preallocate""",
        ),
        not_needed(SYNCED, "flush.messages flush.ms"),
        not_needed(
            "there is one record format, which every client reads",
            "message.format.version message.downconversion.enable",
        ),
        not_supported(
            NO_COMPACTION,
            """delete.retention.ms min.compaction.lag.ms max.compaction.lag.ms
            min.cleanable.dirty.ratio""",
        ),
        not_supported(NO_TIERING, "remote.storage.enable", harmless=["false"]),
        not_supported(NO_TIERING, "remote.log.copy.disable", harmless=["false"]),
        not_supported(NO_TIERING, "remote.log.delete.on.disable", harmless=["false"]),
        not_supported(NO_TIERING, "local.retention.ms local.retention.bytes", harmless=["-2"]),
        not_supported(
            "a replica that lacks acknowledged records never leads",
            "unclean.leader.election.enable",
            harmless=["false"],
        ),
        not_supported(
            TIMES,
            """message.timestamp.difference.max.ms message.timestamp.before.max.ms
            message.timestamp.after.max.ms""",
            harmless=[str(INT64_MAX)],
        ),
        not_supported("codecs run at one fixed level", "compression.gzip.level", harmless=["-1"]),
        not_supported("codecs run at one fixed level", "compression.lz4.level", harmless=["9"]),
        not_supported("codecs run at one fixed level", "compression.zstd.level", harmless=["3"]),
        not_supported(
            "this version does not throttle replication",
            "leader.replication.throttled.replicas follower.replication.throttled.replicas",
            harmless=[""],
        ),
    ),
)
