"""Broker keys about Kafka's inner works: log files, replication, ZooKeeper, KRaft, groups.

Source: ServerTopicConfigSynonyms, CleanerConfig, ReplicationConfigs, ZkConfigs, KRaftConfigs,
QuorumConfig, GroupCoordinatorConfig, ShareGroupConfig, ShareCoordinatorConfig,
TransactionLogConfig, TransactionStateManagerConfig, RemoteLogManagerConfig and MetricConfigs of
Kafka 3.9, and names that earlier versions had.
"""

from __future__ import annotations

from streambus_migrate.config.rules import Rows, becomes, not_needed, not_supported
from streambus_migrate.config.topic_keys import (
    ENGINE_FILES,
    INT64_MAX,
    MIN_IN_SYNC,
    NO_COMPACTION,
    NO_TIERING,
    SYNCED,
    TIMES,
)
from streambus_migrate.config.values import integer, seconds

NO_GROUPS = "this version has no consumer groups"
NO_TRANSACTIONS = "this version has no transactions"
NO_ZOOKEEPER = "there is no ZooKeeper"
REPLICATION = "followers fetch by long poll, within fixed bounds"
CONTROLLER = "every broker takes part in the metadata group; there are no controllers of their own"


def internal_rows() -> Rows:
    """Rows about everything that is neither network, topic, identity nor security."""
    yield from _log_files()
    yield from _replication()
    yield from _controllers()
    yield from _groups_and_transactions()
    yield from _metrics()
    yield from _versions()


def _log_files() -> Rows:
    yield from not_needed(
        ENGINE_FILES,
        """log.segment.bytes log.roll.ms log.roll.hours log.roll.jitter.ms log.roll.jitter.hours
        log.index.size.max.bytes log.index.interval.bytes log.segment.delete.delay.ms
        log.preallocate log.initial.task.delay.ms log.dir.failure.timeout.ms""",
    )
    yield from not_needed(
        SYNCED,
        """log.flush.interval.messages log.flush.interval.ms log.flush.scheduler.interval.ms
        log.flush.offset.checkpoint.interval.ms log.flush.start.offset.checkpoint.interval.ms""",
    )
    yield from not_needed(
        "no topic is compacted, so nothing cleans",
        """log.cleaner.threads log.cleaner.io.max.bytes.per.second log.cleaner.dedupe.buffer.size
        log.cleaner.io.buffer.size log.cleaner.io.buffer.load.factor log.cleaner.backoff.ms
        log.cleaner.enable""",
    )
    yield from not_supported(
        NO_COMPACTION,
        """log.cleaner.min.cleanable.ratio log.cleaner.delete.retention.ms
        log.cleaner.min.compaction.lag.ms log.cleaner.max.compaction.lag.ms""",
    )
    yield from not_supported(
        TIMES,
        """log.message.timestamp.difference.max.ms log.message.timestamp.before.max.ms
        log.message.timestamp.after.max.ms""",
        harmless=[str(INT64_MAX)],
    )
    yield from not_supported("codecs run at one fixed level", "compression.gzip.level", ["-1"])
    yield from not_supported("codecs run at one fixed level", "compression.lz4.level", ["9"])
    yield from not_supported("codecs run at one fixed level", "compression.zstd.level", ["3"])
    yield from not_supported(NO_TIERING, "remote.log.storage.system.enable", harmless=["false"])
    yield from not_supported(
        NO_TIERING,
        """log.local.retention.ms log.local.retention.bytes
        remote.log.storage.manager.impl.prefix remote.log.metadata.manager.impl.prefix
        remote.log.storage.manager.class.name remote.log.storage.manager.class.path
        remote.log.metadata.manager.class.name remote.log.metadata.manager.class.path
        remote.log.metadata.manager.listener.name remote.log.metadata.custom.metadata.max.bytes
        remote.log.index.file.cache.total.size.bytes remote.log.manager.thread.pool.size
        remote.log.manager.copier.thread.pool.size remote.log.manager.expiration.thread.pool.size
        remote.log.manager.task.interval.ms remote.log.manager.task.retry.backoff.ms
        remote.log.manager.task.retry.backoff.max.ms remote.log.manager.task.retry.jitter
        remote.log.reader.threads remote.log.reader.max.pending.tasks
        remote.log.manager.copy.max.bytes.per.second remote.log.manager.copy.quota.window.num
        remote.log.manager.copy.quota.window.size.seconds
        remote.log.manager.fetch.max.bytes.per.second remote.log.manager.fetch.quota.window.num
        remote.log.manager.fetch.quota.window.size.seconds remote.fetch.max.wait.ms
        remote.list.offsets.request.timeout.ms""",
        harmless=["-2"],
    )


def _replication() -> Rows:
    yield from not_supported(
        "a topic is told how many replicas it has when it is created (--replication-factor)",
        "default.replication.factor",
        harmless=["1"],
    )
    yield from becomes("min.insync.replicas", "default_min_insync_replicas", integer, MIN_IN_SYNC)
    yield from becomes("replica.lag.time.max.ms", "replica_lag_ms_max", integer)
    yield from becomes("broker.session.timeout.ms", "broker_session_ms", integer)
    yield from becomes(
        "leader.imbalance.check.interval.seconds", "leader_balance_ms", seconds, "s into ms"
    )
    yield from becomes(
        "leader.replication.throttled.rate",
        "replication_throttle_bytes_per_s",
        integer,
        "for every replica that is not in sync",
    )
    yield from not_supported(
        "leadership always goes back to preferred replicas",
        "auto.leader.rebalance.enable",
        harmless=["true"],
    )
    yield from not_supported(
        "a replica that lacks acknowledged records never leads",
        "unclean.leader.election.enable",
        harmless=["false"],
    )
    yield from not_needed(
        REPLICATION,
        """replica.socket.timeout.ms replica.socket.receive.buffer.bytes
        replica.fetch.max.bytes replica.fetch.wait.max.ms replica.fetch.min.bytes
        replica.fetch.backoff.ms replica.fetch.response.max.bytes num.replica.fetchers
        replica.high.watermark.checkpoint.interval.ms leader.imbalance.per.broker.percentage
        unclean.leader.election.interval.ms controller.socket.timeout.ms
        replica.lag.max.messages eligible.leader.replicas.enable""",
    )
    yield from not_needed(
        "requests that wait are kept by what they wait for, not purged by count",
        """fetch.purgatory.purge.interval.requests producer.purgatory.purge.interval.requests
        delete.records.purgatory.purge.interval.requests
        share.fetch.purgatory.purge.interval.requests""",
    )
    yield from not_supported("clients read from leaders", "replica.selector.class", harmless=[""])
    yield from not_needed(
        "shutdown hands leadership over and finishes what was accepted (shutdown_timeout_ms)",
        """controlled.shutdown.enable controlled.shutdown.max.retries
        controlled.shutdown.retry.backoff.ms""",
    )
    yield from not_needed(
        "each request says how long it may take",
        """request.timeout.ms socket.connection.setup.timeout.ms
        socket.connection.setup.timeout.max.ms""",
    )
    yield from not_needed(
        "fetches carry their positions; there are no sessions",
        "max.incremental.fetch.session.cache.slots max.request.partition.size.limit",
    )


def _controllers() -> Rows:
    yield from not_needed(
        NO_ZOOKEEPER,
        """zookeeper.connect zookeeper.session.timeout.ms zookeeper.connection.timeout.ms
        zookeeper.sync.time.ms zookeeper.set.acl zookeeper.max.in.flight.requests
        zookeeper.ssl.client.enable zookeeper.clientCnxnSocket zookeeper.ssl.keystore.location
        zookeeper.ssl.keystore.password zookeeper.ssl.keystore.type
        zookeeper.ssl.truststore.location zookeeper.ssl.truststore.password
        zookeeper.ssl.truststore.type zookeeper.ssl.protocol zookeeper.ssl.enabled.protocols
        zookeeper.ssl.cipher.suites zookeeper.ssl.endpoint.identification.algorithm
        zookeeper.ssl.crl.enable zookeeper.ssl.ocsp.enable zookeeper.metadata.migration.enable
        zookeeper.metadata.migration.min.batch.size""",
    )
    yield from not_supported(
        "every broker serves clients and takes part in the metadata group",
        "process.roles",
        harmless=["broker,controller", "controller,broker", ""],
    )
    yield from not_needed(
        CONTROLLER,
        """controller.listener.names control.plane.listener.name
        controller.quorum.election.timeout.ms controller.quorum.fetch.timeout.ms
        controller.quorum.election.backoff.max.ms controller.quorum.append.linger.ms
        controller.quorum.request.timeout.ms controller.quorum.retry.backoff.ms
        controller.quorum.auto.join.enable broker.heartbeat.interval.ms
        initial.broker.registration.timeout.ms server.max.startup.time.ms
        controller.performance.sample.period.ms controller.performance.always.log.threshold.ms""",
    )
    yield from not_supported(
        "set voters = ID@HOST:PORT,… with the addresses of the brokers themselves; Kafka names the"
        " ports of controllers",
        "controller.quorum.voters controller.quorum.bootstrap.servers",
        harmless=lambda voters: "," not in voters,
    )
    yield from not_needed(
        "metadata lies in the data directory, and the engine chooses its files",
        """metadata.log.dir metadata.log.max.snapshot.interval.ms
        metadata.log.max.record.bytes.between.snapshots metadata.log.segment.min.bytes
        metadata.log.segment.bytes metadata.log.segment.ms metadata.max.retention.bytes
        metadata.max.retention.ms metadata.max.idle.interval.ms""",
    )


def _groups_and_transactions() -> Rows:
    yield from not_supported(
        NO_GROUPS,
        """group.min.session.timeout.ms group.max.session.timeout.ms
        group.initial.rebalance.delay.ms group.max.size group.coordinator.new.enable
        group.coordinator.rebalance.protocols group.coordinator.append.linger.ms
        group.coordinator.threads group.consumer.session.timeout.ms
        group.consumer.min.session.timeout.ms group.consumer.max.session.timeout.ms
        group.consumer.heartbeat.interval.ms group.consumer.min.heartbeat.interval.ms
        group.consumer.max.heartbeat.interval.ms group.consumer.max.size
        group.consumer.assignors group.consumer.migration.policy group.share.max.size
        group.share.session.timeout.ms group.share.min.session.timeout.ms
        group.share.max.session.timeout.ms group.share.heartbeat.interval.ms
        group.share.min.heartbeat.interval.ms group.share.max.heartbeat.interval.ms
        group.share.enable group.share.partition.max.record.locks
        group.share.delivery.count.limit group.share.max.groups
        group.share.record.lock.duration.ms group.share.min.record.lock.duration.ms
        group.share.max.record.lock.duration.ms share.fetch.max.fetch.records
        share.coordinator.state.topic.num.partitions
        share.coordinator.state.topic.replication.factor share.coordinator.state.topic.min.isr
        share.coordinator.state.topic.segment.bytes share.coordinator.threads
        share.coordinator.snapshot.update.records.per.snapshot share.coordinator.write.timeout.ms
        share.coordinator.load.buffer.size share.coordinator.state.topic.compression.codec
        share.coordinator.append.linger.ms offset.metadata.max.bytes offsets.load.buffer.size
        offsets.retention.minutes offsets.retention.check.interval.ms
        offsets.topic.num.partitions offsets.topic.segment.bytes
        offsets.topic.replication.factor offsets.topic.compression.codec
        offsets.commit.timeout.ms offsets.commit.required.acks""",
    )
    yield from not_supported(
        NO_TRANSACTIONS,
        """transaction.state.log.num.partitions transaction.state.log.segment.bytes
        transaction.state.log.replication.factor transaction.state.log.min.isr
        transaction.state.log.load.buffer.size transaction.partition.verification.enable
        transaction.max.timeout.ms transactional.id.expiration.ms
        transaction.abort.timed.out.transaction.cleanup.interval.ms
        transaction.remove.expired.transaction.cleanup.interval.ms
        producer.id.expiration.ms producer.id.expiration.check.interval.ms""",
    )


def _metrics() -> Rows:
    yield from not_needed(
        "metrics are at /metrics of the http address, for Prometheus to fetch",
        """metrics.sample.window.ms metrics.num.samples metrics.recording.level
        kafka.metrics.polling.interval.secs auto.include.jmx.reporter telemetry.max.bytes""",
    )
    yield from not_supported(
        "reporters are Java classes; metrics are at /metrics, for Prometheus to fetch",
        "metric.reporters kafka.metrics.reporters",
        harmless=[""],
    )


def _versions() -> Rows:
    yield from not_needed(
        "clients and brokers agree on versions when they connect",
        """inter.broker.protocol.version log.message.format.version
        log.message.downconversion.enable unstable.api.versions.enable
        unstable.feature.versions.enable""",
    )
