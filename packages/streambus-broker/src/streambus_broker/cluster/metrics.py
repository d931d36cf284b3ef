"""Prometheus metrics of a broker's part in its cluster: replication, leadership, metadata group."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from streambus_broker.cluster.describe import member_state, troubles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from streambus_broker.cluster.broker import ClusterBroker

STATES = ("alive", "fenced", "leaving", "maintenance")
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
    yield CounterMetricFamily(
        "streambus_preferred_elections",
        "Leaders given back to preferred replicas by this broker as the controller.",
        value=broker.member.elections,
    )


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
