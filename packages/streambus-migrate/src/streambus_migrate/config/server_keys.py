"""What becomes of Kafka's broker settings: the ones that have a counterpart, and the whole table.

Source: SocketServerConfigs, ServerLogConfigs, ServerConfigs, KRaftConfigs of Kafka 3.9.
"""

from __future__ import annotations

from streambus_migrate.config.rules import (
    Fate,
    Rows,
    Rule,
    Table,
    Target,
    becomes,
    not_needed,
    not_supported,
    table,
)
from streambus_migrate.config.security_keys import NO_SASL, NO_TLS
from streambus_migrate.config.server_conversions import (
    advertise,
    data_dir,
    listen,
    node_id,
    unlimited_bytes,
)
from streambus_migrate.config.server_internal_keys import internal_rows
from streambus_migrate.config.server_security_keys import security_rows
from streambus_migrate.config.topic_keys import (
    INT64_MAX,
    TOPIC_TARGETS,
    cleanup_policy,
    stored_codec,
    timestamp_type,
)
from streambus_migrate.config.values import boolean, hours, integer, minutes, text

KIB, MIB, GIB = 1024, 1024**2, 1024**3
HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS

SERVER_TARGETS = {
    "node_id": Target(int, 1, 2**31 - 1, default=1),
    "data_dir": Target(str, default="streambus-data"),
    "listen": Target(str, default="127.0.0.1:9092"),
    "advertise": Target(str, default=""),
    "request_bytes_max": Target(int, 64 * KIB, GIB, default=16 * MIB),
    "connections_max": Target(int, 1, 1_000_000, default=10_000),
    "connections_per_address_max": Target(int, 1, 1_000_000, default=256),
    "idle_timeout_ms": Target(int, 100, DAY_MS, default=600_000),
    "queued_bytes_max": Target(int, MIB, 256 * GIB, default=256 * MIB),
    "fetch_bytes_max": Target(int, KIB, GIB, default=16 * MIB),
    "auto_create_topics": Target(bool, default=False),
    "default_partitions": Target(int, 1, 10_000, default=1),
    "rack": Target(str, default=""),
    "broker_session_ms": Target(int, 200, 3_600_000, default=1_800),
    "replica_lag_ms_max": Target(int, 100, 3_600_000, default=10_000),
    "leader_balance_ms": Target(int, 100, DAY_MS, default=30_000),
    "replication_throttle_bytes_per_s": Target(int, 1, INT64_MAX, unlimited=True, default=-1),
    "retention_check_ms": Target(int, 10, DAY_MS, default=60_000),
    **{f"default_{name}": target for name, target in TOPIC_TARGETS.items()},
}

PER_LISTENER = "there is one listener; what would hold for one alone has no place"
ELSEWHERE = {
    "confluent.": "belongs to Confluent Platform, not to Kafka",
    "config.providers": "values are not fetched from elsewhere; write them into the file",
    "metrics.context.": "metrics carry the labels that Prometheus gives them",
    "rsm.config.": "this version has no tiered storage",
    "rlmm.config.": "this version has no tiered storage",
    "kafka.metrics.": "metrics are at /metrics, for Prometheus to fetch",
}


def _network() -> Rows:
    open_address = (
        "the listener for clients; a controller needs none of its own; an address that others"
        " reach needs --insecure (insecure = true), because it is open to all of them"
    )
    yield from becomes("listeners", "listen", listen, open_address)
    yield from becomes("advertised.listeners", "advertise", advertise)
    yield from not_supported(
        "replaced by listeners in Kafka too; set listen = HOST:PORT",
        "port host.name advertised.port advertised.host.name",
    )
    yield from becomes("socket.request.max.bytes", "request_bytes_max", integer)
    yield from becomes("max.connections", "connections_max", integer)
    yield from becomes("max.connections.per.ip", "connections_per_address_max", integer)
    yield from becomes("connections.max.idle.ms", "idle_timeout_ms", integer)
    yield from becomes("queued.max.request.bytes", "queued_bytes_max", unlimited_bytes)
    yield from becomes("fetch.max.bytes", "fetch_bytes_max", integer)
    yield from not_supported(
        "new connections are limited per address (connections_new_per_address_per_s_max), not in"
        " all",
        "max.connection.creation.rate",
        harmless=[str(2**31 - 1)],
    )
    yield from not_supported(
        "the limit is the same for every address", "max.connections.per.ip.overrides", [""]
    )
    yield from not_needed("the operating system sizes them", _SOCKET_BUFFERS)
    yield from not_needed("one event loop serves all connections, without threads", _THREADS)
    yield from not_needed("the broker listens when it is ready", "early.start.listeners")


_SOCKET_BUFFERS = """
    socket.send.buffer.bytes socket.receive.buffer.bytes socket.listen.backlog.size
"""
_THREADS = """
    num.network.threads num.io.threads background.threads queued.max.requests
    num.recovery.threads.per.data.dir num.replica.alter.log.dirs.threads
"""


def _topics() -> Rows:
    yield from becomes("auto.create.topics.enable", "auto_create_topics", boolean)
    yield from becomes("num.partitions", "default_partitions", integer)
    retention = "default_retention_ms"
    yield from becomes("log.retention.ms", retention, integer, rank=0)
    yield from becomes("log.retention.minutes", retention, minutes, "minutes into ms", rank=1)
    yield from becomes("log.retention.hours", retention, hours, "hours into ms", rank=2)
    yield from becomes("log.retention.bytes", "default_retention_bytes", integer)
    yield from becomes("log.retention.check.interval.ms", "retention_check_ms", integer)
    yield from becomes(
        "log.message.timestamp.type", "default_message_timestamp_type", timestamp_type
    )
    yield from becomes("log.cleanup.policy", "default_cleanup_policy", cleanup_policy)
    yield from becomes(
        "message.max.bytes", "default_max_message_bytes", integer, "of a batch, as it travels"
    )
    yield from becomes("compression.type", "default_compression", stored_codec)
    yield from not_supported(
        "topics can always be deleted by those who reach the broker",
        "delete.topic.enable",
        harmless=["true"],
    )
    yield from not_supported(
        "policies are Java classes; check topics before you create them",
        "create.topic.policy.class.name alter.config.policy.class.name",
        harmless=[""],
    )


def _identity() -> Rows:
    beside = "a new directory beside Kafka's, which stays as it is; check that the disk is right"
    yield from becomes("log.dirs", "data_dir", data_dir, beside)
    yield from becomes("log.dir", "data_dir", data_dir, beside, rank=1)
    counted = "StreamBus counts from 1: 0 becomes 1; if another broker is 1, renumber"
    yield from becomes("node.id", "node_id", node_id, counted)
    yield from becomes("broker.id", "node_id", node_id, counted, rank=1)
    yield from not_needed(
        "each broker is given its number", "broker.id.generation.enable reserved.broker.max.id"
    )
    yield from becomes("broker.rack", "rack", text)


def _families() -> dict[str, Rule]:
    rules = {prefix: Rule(Fate.NOT_SUPPORTED, reason) for prefix, reason in ELSEWHERE.items()}
    for ending, reason in {"ssl.": NO_TLS, "sasl.": NO_SASL}.items():
        rules[f"listener.name.*.{ending}"] = Rule(Fate.NOT_SUPPORTED, reason)
    rules["listener.name."] = Rule(Fate.NOT_SUPPORTED, PER_LISTENER)
    return rules


SERVER = Table(
    kind="server",
    targets=SERVER_TARGETS,
    families=_families(),
    defaults={"auto.create.topics.enable": "true"},
    rules=table(_network(), _topics(), _identity(), internal_rows(), security_rows()),
)
