"""Settings of a broker process: one typed table, safe defaults, limits on everything."""

from __future__ import annotations

from dataclasses import dataclass

from streambus_broker.config.addresses import (
    OFF,
    check_address,
    check_optional_address,
    check_voters,
    is_loopback,
    parse_voters,
    split_address,
)
from streambus_broker.config.table import (
    DAY_MS,
    GIB,
    HOUR_MS,
    INT64_MAX,
    KIB,
    MIB,
    MINUTE_MS,
    SECOND_MS,
    check_settings,
    setting,
    settings_of,
)
from streambus_broker.config.topics import (
    MAX_MESSAGE_BYTES_MAX,
    MIN_INSYNC_REPLICAS_MAX,
    TopicSettings,
)
from streambus_broker.errors import ConfigError, SettingError

LEVELS = ("debug", "info", "warning", "error")
COMPONENTS = ("broker", "network", "storage", "topics", "retention", "http", "cluster")
_TOPIC_DEFAULTS = {key: default for key, (_, default, _) in settings_of(TopicSettings).items()}


def _check_levels(text: str) -> str:
    for part in filter(None, text.split(",")):
        component, equals, level = part.partition("=")
        if not equals or component not in COMPONENTS or level not in LEVELS:
            return (
                f"has a part {part!r} that is not COMPONENT=LEVEL with a component of"
                f" {'|'.join(COMPONENTS)} and a level of {'|'.join(LEVELS)}"
            )
    return ""


def _check_data_dir(text: str) -> str:
    return "" if text and "\0" not in text else "is empty or holds a NUL character"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """The configuration of one broker; an object that exists is valid.

    Raises:
        ConfigError: A value is wrong, or a non-loopback bind is asked for without ``insecure``.
    """

    data_dir: str = setting(
        "streambus-data", "directory that holds everything the broker stores", check=_check_data_dir
    )
    listen: str = setting(
        "127.0.0.1:9092", "HOST:PORT for clients; port 0 takes a free one", check=check_address
    )
    advertise: str = setting(
        "",
        "HOST:PORT that clients are told to use; empty means the listening address",
        check=check_optional_address,
    )
    http: str = setting(
        "127.0.0.1:9192",
        "HOST:PORT for health and metrics, or 'off'; port 0 takes a free one",
        check=check_optional_address,
    )
    insecure: bool = setting(
        False, "allow a non-loopback address although there is no TLS and no authentication"
    )
    node_id: int = setting(1, "number of this broker in its cluster", minimum=1, maximum=2**31 - 1)

    voters: str = setting(
        "",
        "first voters of a cluster, as 1@HOST:PORT,2@HOST:PORT,3@HOST:PORT, the same on each;"
        " empty means a broker on its own, unless 'join' is set",
        check=check_voters,
    )
    join: str = setting(
        "", "HOST:PORT of a broker of the cluster to join", check=check_optional_address
    )
    rack: str = setting(
        "", "where this broker stands; replicas are spread over racks, consumers there read here"
    )
    broker_session_ms: int = setting(
        1800, "silence in ms after which a broker counts as dead", minimum=200, maximum=HOUR_MS
    )
    replica_lag_ms_max: int = setting(
        10 * SECOND_MS,
        "time in ms after which a replica that has not caught up leaves the in-sync set",
        minimum=100,
        maximum=HOUR_MS,
    )
    leader_balance_ms: int = setting(
        30 * SECOND_MS,
        "time in ms between two rounds that give leadership back to preferred replicas",
        minimum=100,
        maximum=24 * HOUR_MS,
    )
    replication_throttle_bytes_per_s: int = setting(
        -1, "bytes per second sent to replicas that are not in sync", minimum=1, maximum=INT64_MAX,
        unlimited=True,
    )  # fmt: skip

    log_level: str = setting("info", "least severe level that is logged", choices=LEVELS)
    log_levels: str = setting(
        "", "levels per component, as network=debug,storage=warning", check=_check_levels
    )
    tracing: str = setting(
        "off",
        "OpenTelemetry traces: 'otlp' sends them as the OTEL_* environment says",
        choices=("off", "otlp"),
    )

    request_bytes_max: int = setting(
        16 * MIB, "largest request in bytes", minimum=64 * KIB, maximum=GIB
    )
    handshake_request_bytes_max: int = setting(
        64 * KIB, "largest request in bytes before the handshake", minimum=KIB, maximum=MIB
    )
    connections_max: int = setting(10_000, "connections in all", minimum=1, maximum=1_000_000)
    connections_per_address_max: int = setting(
        256, "connections from one address", minimum=1, maximum=1_000_000
    )
    connections_new_per_address_per_s_max: int = setting(
        50,
        "new connections from one address per second; bursts up to connections_per_address_max",
        minimum=1,
        maximum=1_000_000,
    )
    idle_timeout_ms: int = setting(
        10 * MINUTE_MS, "silence in ms after which a connection is closed", minimum=100,
        maximum=24 * HOUR_MS,
    )  # fmt: skip
    handshake_timeout_ms: int = setting(
        10 * SECOND_MS, "time in ms to finish the handshake", minimum=100, maximum=HOUR_MS
    )
    frame_timeout_ms: int = setting(
        30 * SECOND_MS, "time in ms to finish a frame once begun", minimum=100, maximum=HOUR_MS
    )
    queued_bytes_per_connection_max: int = setting(
        32 * MIB, "bytes of answers queued for one connection before its reading pauses",
        minimum=64 * KIB, maximum=16 * GIB,
    )  # fmt: skip
    queued_bytes_max: int = setting(
        256 * MIB, "bytes of requests and answers held for all connections before reading pauses",
        minimum=MIB, maximum=256 * GIB,
    )  # fmt: skip
    fetch_wait_ms_max: int = setting(
        30 * SECOND_MS, "longest time in ms that a fetch may wait", minimum=0, maximum=HOUR_MS
    )
    fetch_bytes_max: int = setting(
        16 * MIB, "most bytes of records in one fetch answer", minimum=KIB, maximum=GIB
    )
    busy_poll_us: int = setting(
        50, "time in µs to stay awake for the next request, where there is a core to spare",
        minimum=0, maximum=1000,
    )  # fmt: skip
    shutdown_timeout_ms: int = setting(
        10 * SECOND_MS, "time in ms to finish accepted requests on shutdown", minimum=0,
        maximum=HOUR_MS,
    )  # fmt: skip

    auto_create_topics: bool = setting(False, "create a topic on the first produce to it")
    producers_per_partition_max: int = setting(
        2_000,
        "idempotent producers that a partition remembers; the longest silent are forgotten",
        minimum=10, maximum=1_000_000,
    )  # fmt: skip
    producers_max: int = setting(
        100_000, "the same for all partitions of this broker together; about 1 KB of memory each",
        minimum=10, maximum=100_000_000,
    )  # fmt: skip
    producer_idle_ms_max: int = setting(
        DAY_MS, "time in ms after which a partition forgets a producer that wrote nothing",
        minimum=SECOND_MS, maximum=INT64_MAX,
    )  # fmt: skip
    default_partitions: int = setting(
        1, "partitions of a topic that does not say how many", minimum=1, maximum=10_000
    )
    default_replication_factor: int = setting(
        -1,
        "replicas of a topic that does not say how many; -1 means 3, or as many as the cluster has"
        " brokers where those are fewer",
        minimum=1,
        maximum=32_767,
        unlimited=True,
    )
    partitions_max: int = setting(
        20_000, "partitions of all topics together", minimum=1, maximum=1_000_000
    )
    default_retention_ms: int = setting(
        _TOPIC_DEFAULTS["retention_ms"], "retention_ms of topics that do not set it", minimum=0,
        maximum=INT64_MAX, unlimited=True,
    )  # fmt: skip
    default_retention_bytes: int = setting(
        _TOPIC_DEFAULTS["retention_bytes"], "retention_bytes of topics that do not set it",
        minimum=0, maximum=INT64_MAX, unlimited=True,
    )  # fmt: skip
    default_max_message_bytes: int = setting(
        _TOPIC_DEFAULTS["max_message_bytes"], "max_message_bytes of topics that do not set it",
        minimum=KIB, maximum=MAX_MESSAGE_BYTES_MAX,
    )  # fmt: skip
    default_compression: str = setting(
        _TOPIC_DEFAULTS["compression"], "compression of topics that do not set it",
        choices=("producer", "none", "zstd", "lz4", "snappy", "gzip"),
    )  # fmt: skip
    default_message_timestamp_type: str = setting(
        _TOPIC_DEFAULTS["message_timestamp_type"],
        "message_timestamp_type of topics that do not set it",
        choices=("create_time", "append_time"),
    )
    default_min_insync_replicas: int = setting(
        _TOPIC_DEFAULTS["min_insync_replicas"],
        "min_insync_replicas of topics that do not set it when they are created",
        minimum=1, maximum=MIN_INSYNC_REPLICAS_MAX, unlimited=True,
    )  # fmt: skip
    default_cleanup_policy: str = setting(
        _TOPIC_DEFAULTS["cleanup_policy"], "cleanup_policy of topics that do not set it",
        choices=("delete",),
    )  # fmt: skip
    retention_check_ms: int = setting(
        MINUTE_MS, "time in ms between two rounds of retention", minimum=10, maximum=24 * HOUR_MS
    )

    memtable_bytes: int = setting(
        16 * MIB, "bytes held in memory before they go to a table file", minimum=64 * KIB,
        maximum=4 * GIB,
    )  # fmt: skip
    block_cache_bytes: int = setting(
        16 * MIB, "bytes of table blocks kept in memory", minimum=0, maximum=256 * GIB
    )
    tail_cache_bytes: int = setting(
        16 * MIB, "bytes of the newest batches kept in memory for consumers at the end",
        minimum=0, maximum=256 * GIB,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_settings(self)
        problems = [
            SettingError(
                key,
                value,
                "is reachable from other machines, and this version has neither TLS nor"
                " authentication",
                "listen on 127.0.0.1, or accept the risk with insecure = true (--insecure)",
            )
            for key, value in (("listen", self.listen), ("http", self.http or OFF))
            if not self.insecure and value != OFF and not is_loopback(split_address(value)[0])
        ]
        if self.voters and self.join:
            remedy = "a first broker names the voters, a later one the broker to join"
            problems.append(SettingError("join", self.join, "is set together with voters", remedy))
        if self.voters and self.node_id not in parse_voters(self.voters):
            remedy = "give node_id the number that stands before this broker's address in voters"
            problems.append(
                SettingError("node_id", self.node_id, "is not among the voters", remedy)
            )
        if problems:
            raise ConfigError(problems)

    @property
    def clustered(self) -> bool:
        """Whether this broker is one of several."""
        return bool(self.voters or self.join)

    def topic_defaults(self) -> TopicSettings:
        """Return the settings of a topic that decides nothing for itself."""
        return TopicSettings(**{key: getattr(self, f"default_{key}") for key in _TOPIC_DEFAULTS})

    def levels(self) -> dict[str, str]:
        """Return the log level of each component."""
        chosen = dict.fromkeys(COMPONENTS, self.log_level)
        for part in filter(None, self.log_levels.split(",")):
            component, _, level = part.partition("=")
            chosen[component] = level
        return chosen
