"""Prometheus metrics, built from plain counters when they are scraped.

Nothing here runs on the hot path. Names have the prefix ``streambus_`` and base units; labels are
bounded (no client, key or principal). ``/metrics`` is small, ``/metrics/detail`` is per partition,
``/metrics/kafka`` speaks the names of kafka_exporter so that existing dashboards work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_broker.broker import Broker
    from streambus_broker.log.durability import DurabilityQueue
    from streambus_broker.network.connection import ApiStats

_FIRST_BUCKET_BIT, _LAST_BUCKET_BIT = 12, 34  # 4 microseconds to 17 seconds, powers of two


class _Small:
    """The collector behind ``/metrics``."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """Read every counter."""
        yield from _requests(self._broker)
        yield from _network(self._broker)
        yield from _records(self._broker)
        yield from _storage(self._broker)
        yield from _broker(self._broker)
        yield from self._broker.more_metrics()


class _Detail:
    """The collector behind ``/metrics/detail``."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """Read every partition."""
        labels = ["topic", "partition"]
        gauges = {
            "log_start_offset": "First offset that is kept.",
            "next_offset": "Offset that the next record will have.",
            "high_watermark": "First offset that consumers may not see yet.",
            "size_bytes": "Bytes of batches that are kept.",
            "leader_epoch": "Epoch of the leader.",
        }
        for name, text in gauges.items():
            family = GaugeMetricFamily(f"streambus_partition_{name}", text, labels=labels)
            for (topic, partition), log in self._broker.node.logs.items():
                family.add_metric([topic, str(partition)], getattr(log, name))
            yield family
        yield from self._broker.more_metrics(detail=True)


class _Kafka:
    """The collector behind ``/metrics/kafka``."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def collect(self) -> Iterator[Metric]:
        """Read every partition under kafka_exporter's names."""
        node = self._broker.node
        brokers = self._broker.broker_count()
        yield GaugeMetricFamily("kafka_brokers", "Number of brokers.", value=brokers)
        counts = GaugeMetricFamily("kafka_topic_partitions", "Partitions.", labels=["topic"])
        labels = ["topic", "partition"]
        prefix = "kafka_topic_partition_"
        families = {
            name: GaugeMetricFamily(prefix + name, text, labels=labels)
            for name, text in (
                ("current_offset", "Next offset to be written."),
                ("oldest_offset", "First offset kept."),
                ("in_sync_replica", "In-sync replicas."),
                ("leader", "Leader's broker id."),
                ("replicas", "Replicas."),
                ("under_replicated_partition", "1 if fewer in sync than replicas."),
            )
        }
        for topic in node.registry.topics.values():
            counts.add_metric([topic.name], len(topic.partitions))
            for number, record in enumerate(topic.partitions):
                key = [topic.name, str(number)]
                log = node.logs.get((topic.name, number))
                if log is not None:
                    families["current_offset"].add_metric(key, log.high_watermark)
                    families["oldest_offset"].add_metric(key, log.log_start_offset)
                in_sync, replicas = len(record.in_sync), len(record.replicas)
                families["in_sync_replica"].add_metric(key, in_sync)
                families["leader"].add_metric(key, record.leader)
                families["replicas"].add_metric(key, replicas)
                under = float(in_sync < replicas)
                families["under_replicated_partition"].add_metric(key, under)
        yield counts
        yield from families.values()


class Metrics:
    """The three pages as text."""

    def __init__(self, broker: Broker) -> None:
        self._pages: dict[str, CollectorRegistry] = {}
        for name, collector in (
            ("small", _Small(broker)),
            ("detail", _Detail(broker)),
            ("kafka", _Kafka(broker)),
        ):
            registry = CollectorRegistry(auto_describe=False)
            registry.register(collector)
            self._pages[name] = registry
        ProcessCollector(namespace="streambus", registry=self._pages["small"])

    def page(self, name: str) -> bytes:
        """Write one page: ``small``, ``detail`` or ``kafka``."""
        return generate_latest(self._pages[name])


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"streambus_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"streambus_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"streambus_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _requests(broker: Broker) -> Iterator[Metric]:
    stats = broker.apis.stats
    served = {api: one.requests for api, one in stats.items()}
    failed = {api: one.errors for api, one in stats.items()}
    yield _labelled("requests", "Requests served.", "api", served)
    yield _labelled("request_errors", "Requests answered with an error as a whole.", "api", failed)
    family = HistogramMetricFamily(
        "streambus_request_handling_seconds",
        "Time in the handler, waiting for records or for durability not included.",
        labels=["api"],
    )
    for api, one in stats.items():
        family.add_metric([api], buckets=_buckets(one), sum_value=one.ns_total / 1e9)
    yield family


def _buckets(stats: ApiStats) -> list[tuple[str, float]]:
    """Cumulate the power-of-two buckets; bucket n counts what took less than 2**n ns."""
    cumulated = sum(stats.buckets[:_FIRST_BUCKET_BIT])
    rows: list[tuple[str, float]] = []
    for bit in range(_FIRST_BUCKET_BIT, _LAST_BUCKET_BIT + 1):
        cumulated += stats.buckets[bit]
        rows.append((f"{2**bit / 1e9:g}", cumulated))
    rows.append(("+Inf", sum(stats.buckets)))
    return rows


def _network(broker: Broker) -> Iterator[Metric]:
    server = broker.node.server
    yield _gauge("connections", "Open connections.", len(server.connections))
    yield _counter("connections_accepted", "Connections let in.", server.accepted)
    refused, closed = server.refused, server.closed_for
    yield _labelled("connections_refused", "Connections over a limit.", "limit", refused)
    yield _labelled("connections_closed", "Connections closed by the broker.", "reason", closed)
    yield _counter("received_bytes", "Bytes received.", server.bytes_in)
    yield _counter("sent_bytes", "Bytes sent.", server.bytes_out)
    yield _counter("bad_requests", "Requests that could not be read.", server.bad_requests)
    yield _counter("unexpected_errors", "Errors of the broker's own.", server.unexpected_errors)
    yield _gauge("unfinished_frame_bytes", "Bytes of unfinished requests.", server.held_bytes)
    yield _counter(
        "reading_paused", "Times that a client was not read from.", server.reading_paused
    )


def _records(broker: Broker) -> Iterator[Metric]:
    produce, fetch, node = broker.apis.produce, broker.apis.fetch, broker.node
    yield _counter("produced_batches", "Batches appended.", produce.batches)
    yield _counter("produced_records", "Records appended.", produce.records)
    yield _counter("produced_bytes", "Bytes of batches appended.", produce.record_bytes)
    yield _counter("produce_stalls", "Requests that waited for storage.", produce.stalled)
    rejected = {ErrorCode(code).name.lower(): count for code, count in produce.rejected.items()}
    yield _labelled("rejected_batches", "Batches refused.", "error", rejected)
    yield _counter("fetched_bytes", "Bytes of batches sent to consumers.", fetch.record_bytes)
    yield _counter("fetch_waits", "Fetches that had to wait.", fetch.waited)
    yield _gauge("fetches_waiting", "Fetches that wait now.", node.waits.count)
    reads = {"memory": node.store.tail_reads, "tree": node.store.tree_reads}
    yield _labelled("log_reads", "Reads of a partition, by where they were served.", "from", reads)
    deleted = node.retention_deleted_bytes
    yield _counter("retention_deleted_bytes", "Bytes deleted by retention.", deleted)


def _storage(broker: Broker) -> Iterator[Metric]:
    node = broker.node
    queues = {"data": node.durability, "meta": node.meta_durability}
    yield _fsync(queues)
    waiting = GaugeMetricFamily(
        "streambus_durability_waits", "Writes that wait to be durable.", labels=["tree"]
    )
    for name, queue in queues.items():
        waiting.add_metric([name], len(queue))
    yield waiting
    yield _counter("storage_errors", "Writes or reads that storage refused.", node.storage_errors)
    failed = float(node.storage_error is not None)
    yield _gauge("storage_failed", "1 while writes fail.", failed)
    yield from _trees(broker)


_TREE_GAUGES = {
    "tables": "Table files.",
    "table_bytes": "Size of the table files.",
    "memtable_bytes": "Memory of the active memtable.",
    "frozen_memtables": "Memtables that wait for their flush.",
    "log_segments": "Live segments of the write-ahead log.",
    "level0_depth": "Tables of level 0 that overlap where most do.",
    "write_amplification": "Bytes written for each byte stored, since the start.",
    "cache_bytes": "Decoded blocks in the cache.",
}
_TREE_COUNTERS = {
    "user_bytes": "Keys and values written.",
    "log_bytes": "Bytes appended to the write-ahead log.",
    "flush_bytes": "Bytes of flushed tables.",
    "compaction_bytes": "Bytes that compaction wrote.",
    "flushes": "Memtables flushed.",
    "merges": "Compactions that read and wrote.",
    "moves": "Tables that changed level without being read.",
    "dropped_tables": "Tables dropped unread.",
    "syncs": "Syncs of the write-ahead log.",
    "stalls": "Writes that met a stall.",
    "cache_hits": "Blocks found in the cache.",
    "cache_misses": "Blocks read from the disk.",
}


def _trees(broker: Broker) -> Iterator[Metric]:
    stats = {"data": broker.data_tree.stats(), "meta": broker.meta_tree.stats()}
    for name, text in _TREE_GAUGES.items():
        gauge = GaugeMetricFamily(f"streambus_storage_{name}", text, labels=["tree"])
        for tree, one in stats.items():
            gauge.add_metric([tree], getattr(one, name))
        yield gauge
    for name, text in _TREE_COUNTERS.items():
        counter = CounterMetricFamily(f"streambus_storage_{name}", text, labels=["tree"])
        for tree, one in stats.items():
            counter.add_metric([tree], getattr(one, name))
        yield counter


def _fsync(queues: dict[str, DurabilityQueue]) -> Metric:
    family = HistogramMetricFamily(
        "streambus_fsync_seconds",
        "From asking for a sync until its waiters are told.",
        labels=["tree"],
    )
    for name, queue in queues.items():
        family.add_metric([name], [("+Inf", queue.syncs)], sum_value=queue.sync_ns_total / 1e9)
    return family


def _broker(broker: Broker) -> Iterator[Metric]:
    node, lag = broker.node, broker.lag
    health = broker.health()
    yield _gauge("topics", "Topics.", len(node.registry.topics))
    yield _gauge("partitions", "Partitions served here.", len(node.logs))
    yield _gauge("loop_lag_max_seconds", "Largest lateness of late.", lag.recent_max_s)
    yield _counter("loop_lag_seconds", "Lateness of the loop's timer together.", lag.total_s)
    yield _counter("loop_turns", "Times that the loop's timer fired.", lag.turns)
    yield _counter("log_events_dropped", "Events that were not logged.", broker.logs_dropped)
    yield _gauge("ready", "1 if clients should be sent here.", float(health.ready))
    yield _gauge("uptime_seconds", "Time since the data port opened.", health.uptime_ms / 1000)
