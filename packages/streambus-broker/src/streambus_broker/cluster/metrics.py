"""Prometheus metrics of a broker's part in its cluster: replication, leadership, metadata group."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from streambus_broker.cluster.copying import copies
from streambus_broker.cluster.describe import member_state, troubles
from streambus_broker.cluster.fetch import ClusterFetchApi
from streambus_storage import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from streambus_broker.cluster.broker import ClusterBroker
    from streambus_protocol import PartitionReplicas, ReplicaProgress

STATES = ("alive", "fenced", "leaving", "maintenance", "read_only")
PROBLEMS = ("offline", "under_min_in_sync", "under_replicated", "reassigning")


def cluster_metrics(broker: ClusterBroker) -> Iterator[Metric]:
    """For the small page."""
    node, group = broker.node, broker.group
    status = group.server.metrics().status
    yield _gauge("controller", "1 on the controller.", float(group.is_controller))
    yield _gauge("session", "1 while this broker has a session.", float(node.me is not None))
    yield _gauge("raft_term", "Term of the metadata group.", status.term)
    yield _gauge("raft_commit_index", "Committed metadata entries.", status.commit)
    yield _gauge("raft_applied_index", "Metadata entries applied.", node.state.index)
    states = Counter(member_state(each) for each in node.state.brokers.values())
    yield _labelled("brokers", "Brokers of the cluster.", "state", states, STATES)
    problems = Counter(each.problem for each in troubles(node.state))
    yield _labelled(
        "troubled_partitions",
        "Partitions of the whole cluster that need attention, by the worst of it.",
        "problem",
        problems,
        PROBLEMS,
    )
    leads = sum(each.leading is not None for each in node.replicas.values())
    yield _gauge("partitions_led", "Partitions that this broker leads.", leads)
    yield _gauge("replicas", "Partitions that this broker holds.", len(node.replicas))
    yield _gauge("followers", "Sessions of followers.", len(node.sessions))
    yield _gauge(
        "replica_lag_records_max",
        "The most records that a follower is behind in a partition led here.",
        max((lag for _, _, lag in _lags(broker)), default=0),
    )
    copied = [each for _, each in _copies(broker)]
    yield _gauge("copied_replicas", "Replicas that are copied from this broker now.", len(copied))
    yield _gauge(
        "copied_replicas_missing_bytes",
        "Bytes that these still lack.",
        sum(each.total_bytes - each.copied_bytes for each in copied),
    )
    yield _gauge(
        "copied_replicas_bytes_per_second",
        "How fast they are copied, all together, over the last ten seconds.",
        sum(each.bytes_per_s for each in copied),
    )
    yield _gauge(
        "replication_throttle_bytes_per_second",
        "What replicas that are not in sync may be sent; -1 for no limit.",
        node.sessions.throttle.bytes_per_s,
    )
    yield CounterMetricFamily(
        "streambus_replicated_out_bytes",
        "Bytes of batches sent to followers.",
        value=node.sessions.sent_bytes,
    )
    yield CounterMetricFamily(
        "streambus_replicated_in_bytes",
        "Bytes of batches fetched from leaders.",
        value=node.fetchers.fetched_bytes,
    )
    yield from _reads(broker)
    yield CounterMetricFamily(
        "streambus_preferred_elections",
        "Leaders given back to preferred replicas by this broker as the controller.",
        value=broker.member.elections,
    )


def _reads(broker: ClusterBroker) -> Iterator[Metric]:
    """Consumers that read from the closest replica."""
    fetch = broker.apis.fetch
    assert isinstance(fetch, ClusterFetchApi)
    counters = {
        "preferred_read_replica_answers": (
            "Fetches that were sent on to a replica in the consumer's rack, by partition.",
            fetch.sent_on,
        ),
        "follower_reads": (
            "Answers with records, by partition, that this broker gave as a follower.",
            fetch.follower_reads,
        ),
        "follower_read_bytes": ("Bytes of batches in them.", fetch.follower_read_bytes),
        "follower_refusals": (
            "Fetches, by partition, that this broker refused as a follower.",
            fetch.follower_refusals,
        ),
    }
    for name, (text, value) in counters.items():
        yield CounterMetricFamily(f"streambus_{name}", text, value=value)


def partition_metrics(broker: ClusterBroker) -> Iterator[Metric]:
    """For the detailed page."""
    family = GaugeMetricFamily(
        "streambus_replica_lag_records",
        "Records that a follower has not yet synced.",
        labels=["topic", "partition", "follower"],
    )
    for (topic, partition), follower, lag in _lags(broker):
        family.add_metric([topic, str(partition), str(follower)], lag)
    yield family
    labels = ["topic", "partition", "follower"]
    copied = GaugeMetricFamily(
        "streambus_replica_copied_bytes", "Bytes that a copied replica has.", labels=labels
    )
    total = GaugeMetricFamily(
        "streambus_replica_copy_bytes", "Bytes that it is to have.", labels=labels
    )
    for place, each in _copies(broker):
        names = [place.topic, str(place.partition), str(each.broker_id)]
        copied.add_metric(names, each.copied_bytes)
        total.add_metric(names, each.total_bytes)
    yield copied
    yield total


def _copies(broker: ClusterBroker) -> list[tuple[PartitionReplicas, ReplicaProgress]]:
    """What is copied from this broker; nothing while its log cannot be read."""
    try:
        return list(copies(broker.node))
    except StorageError:
        return []


def _lags(broker: ClusterBroker) -> Iterator[tuple[tuple[str, int], int, int]]:
    """How far every follower of a partition led here is behind."""
    for replica in broker.node.replicas.values():
        leading = replica.leading
        if leading is not None:
            for follower, known in leading.followers.items():
                lag = leading.log_end - max(0, known.durable)
                yield (replica.topic, replica.partition), follower, lag


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"streambus_{name}", text, value=value)


def _labelled(
    name: str, text: str, label: str, counts: Counter[str], known: tuple[str, ...]
) -> Metric:
    family = GaugeMetricFamily(f"streambus_{name}", text, labels=[label])
    for key in known:
        family.add_metric([key], counts.get(key, 0))
    return family
