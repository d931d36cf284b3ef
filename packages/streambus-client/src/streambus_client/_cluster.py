"""What a client knows of the cluster: brokers, leaders, and how old that knowledge is.

Pure. Changed only by metadata answers and by what requests found out to be wrong.
Not thread-safe: the shells hold a lock around changes; reads of single entries are atomic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streambus_client._addresses import Address
from streambus_protocol import ErrorCode, MetadataResponse
from streambus_protocol import PartitionInfo as WirePartition

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

    from streambus_client._types import TopicPartition

NO_NODE = -1


@dataclass(slots=True)
class TopicRoute:
    """One topic as the last metadata answer described it.

    Attributes:
        partitions: by number; a gap cannot occur.
        fetched_at: seconds.
        stale: something contradicted it since; ask again before relying on it.
    """

    partitions: tuple[WirePartition, ...]
    fetched_at: float
    stale: bool = False


class ClusterView:
    """Brokers by node id, topics by name.

    Args:
        bootstrap: addresses to begin with, and to fall back to.
        random: spreads clients over the brokers.
    """

    def __init__(self, bootstrap: tuple[Address, ...], random: Random) -> None:
        self._bootstrap = bootstrap
        self._random = random
        self._preferred: Address | None = None
        self._failing: dict[Address, None] = {}
        self.cluster_id: str | None = None
        self.controller = NO_NODE
        self.brokers: dict[int, Address] = {}
        self.topics: dict[str, TopicRoute] = {}
        self.changes = 0  # counts what may make another decision right than the last one
        self.missing: dict[str, int] = {}

    def apply(
        self, answer: MetadataResponse, asked: Iterable[str] | None, source: Address, now: float
    ) -> None:
        """Take in a metadata answer.

        Args:
            answer: from a broker.
            asked: the topics it was asked about; None for all.
            source: the broker that answered; it is asked first next time.
            now: seconds.

        A partition whose leader epoch is lower than the known one keeps the known entry: the
        broker that answered lags behind.
        """
        self.changes += 1
        # a broker that is still forming its cluster has no id to say yet
        self.cluster_id = answer.cluster_id or self.cluster_id
        self.controller = answer.controller
        self._preferred = source
        if answer.brokers:
            self.brokers = {
                broker.broker_id: Address(broker.host, broker.port) for broker in answer.brokers
            }
        seen: set[str] = set()
        for topic in answer.topics:
            seen.add(topic.name)
            if topic.error:
                self.missing[topic.name] = topic.error
                if topic.error == ErrorCode.UNKNOWN_TOPIC:
                    self.topics.pop(topic.name, None)
                continue
            self.missing.pop(topic.name, None)
            known = self.topics.get(topic.name)
            by_number = sorted(topic.partitions, key=lambda partition: partition.partition)
            merged = tuple(
                self._newer(known, position, entry) for position, entry in enumerate(by_number)
            )
            self.topics[topic.name] = TopicRoute(merged, now)
        for name in asked if asked is not None else list(self.topics):
            if name not in seen:
                self.topics.pop(name, None)
                self.missing[name] = ErrorCode.UNKNOWN_TOPIC

    def partition_count(self, topic: str) -> int | None:
        """How many partitions a topic has; None where that is not known."""
        route = self.topics.get(topic)
        return len(route.partitions) if route is not None else None

    def leader(self, where: TopicPartition) -> int | None:
        """Node id of the leader; None where none is known, or the knowledge is stale."""
        route = self.topics.get(where.topic)
        if route is None or route.stale or where.partition >= len(route.partitions):
            return None
        entry = route.partitions[where.partition]
        return entry.leader if entry.leader in self.brokers else None

    def leader_epoch(self, where: TopicPartition) -> int:
        """Leader epoch as known; -1 where it is not."""
        route = self.topics.get(where.topic)
        if route is None or where.partition >= len(route.partitions):
            return -1
        return route.partitions[where.partition].leader_epoch

    def mark_stale(self, topic: str) -> None:
        """Something contradicted what is known of this topic."""
        route = self.topics.get(topic)
        if route is not None:
            self.changes += 1
            route.stale = True

    def needs_refresh(self, topics: Iterable[str], now: float, age_s_max: float) -> list[str]:
        """Those of ``topics`` that are unknown, stale or too old."""
        wanted = []
        for name in topics:
            route = self.topics.get(name)
            if route is None or route.stale or now - route.fetched_at > age_s_max:
                wanted.append(name)
        return wanted

    def candidates(self) -> list[Address]:
        """Whom to ask next about the cluster: the last that answered, the others, the bootstrap.

        Those that did not answer when they were asked last come at the end.
        """
        known = list(self.brokers.values())
        self._random.shuffle(known)
        bootstrap = list(self._bootstrap)
        first = [self._preferred] if self._preferred is not None else []
        found = dict.fromkeys([*first, *known, *bootstrap])
        return sorted(found, key=self._failing.__contains__)

    def note_answer(self, address: Address, *, came: bool) -> None:
        """A broker answered a request, or it did not in time or could not be reached."""
        if came:
            self._failing.pop(address, None)
        else:
            self._failing[address] = None

    def _newer(
        self, known: TopicRoute | None, position: int, entry: WirePartition
    ) -> WirePartition:
        if known is not None and position < len(known.partitions):
            before = known.partitions[position]
            if before.leader_epoch > entry.leader_epoch:
                return before
        return entry
