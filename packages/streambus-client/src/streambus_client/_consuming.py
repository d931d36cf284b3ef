"""What both consumers decide in the same way: subscription, starts, seeks, and what to ask for.

Pure apart from the operations, which are generators as in ``_operations``.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING

from streambus_client._fetcher import Fetcher
from streambus_client._operations import (
    Operation,
    Session,
    list_offsets,
    look_around,
    partition_count,
    refresh,
)
from streambus_client._options import ConsumerOptions, Start, check_start
from streambus_client._types import Timestamp, TopicPartition
from streambus_client.errors import ClientError, InvalidArgumentError, error_for
from streambus_protocol import EARLIEST, LATEST, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streambus_client._fetcher import FetchCall
    from streambus_client._partition_reader import PartitionReader


class ConsumerCore:
    """Assignment and fetcher of one consumer.

    Args:
        session: of the client.
        options: of the consumer.
    """

    def __init__(self, session: Session, options: ConsumerOptions) -> None:
        self.session = session
        self.options = options
        self.fetcher = Fetcher(session, options)
        self.topics: tuple[str, ...] = ()
        self._known_counts: dict[str, int] = {}
        self._settled_at = (-1, -1)
        self._settled_until = 0.0

    def subscribe(self, topics: str | Sequence[str]) -> None:
        """Read all partitions of these topics, and of no others; new partitions are noticed."""
        names = (topics,) if isinstance(topics, str) else tuple(topics)
        if not names or not all(type(name) is str and name for name in names):
            raise InvalidArgumentError("topics", f"is {topics!r}; name at least one topic")
        self.topics = tuple(dict.fromkeys(names))
        self._known_counts = {}
        kept = [where for where in self.fetcher.readers if where.topic in self.topics]
        self.fetcher.assign(kept, self.options.start)

    def assign(self, partitions: Iterable[TopicPartition | tuple[str, int]]) -> None:
        """Read exactly these partitions; ends a subscription."""
        self.topics = ()
        self._known_counts = {}
        self.fetcher.assign(
            [TopicPartition(topic, partition) for topic, partition in partitions],
            self.options.start,
        )

    def reader(self, topic: str, partition: int) -> PartitionReader:
        """The reader of an assigned partition.

        Raises:
            InvalidArgumentError: it is not assigned (a subscription is, after the first poll).
        """
        reader = self.fetcher.readers.get(TopicPartition(topic, partition))
        if reader is None:
            raise InvalidArgumentError(
                "partition", f"{topic}[{partition}] is not assigned to this consumer"
            )
        return reader

    def seek(self, topic: str, partition: int, to: Start) -> None:
        """Go on reading a partition elsewhere."""
        check_start(to)
        reader = self.reader(topic, partition)
        if isinstance(to, int) and not isinstance(to, Timestamp):
            reader.begin(to)
        else:
            reader.begin_at(to)
        self.fetcher.changes += 1

    def needs_settling(self, now: float) -> bool:
        """Whether ``settle`` has something to do before requests can go out."""
        cluster, fetcher = self.session.cluster, self.fetcher
        state = (cluster.changes, fetcher.changes)
        if state == self._settled_at and now < self._settled_until:
            return False
        age_s_max = self.session.options.metadata_age_s_max
        if cluster.needs_refresh(self.topics, now, age_s_max) or any(
            topic not in self._known_counts for topic in self.topics
        ):
            return True
        if not fetcher.unresolved(math.inf) and not fetcher.topics_without_leader(math.inf):
            self._settled_at = state
            fetched_at = [cluster.topics[topic].fetched_at for topic in self.topics]
            self._settled_until = min(fetched_at, default=math.inf) + age_s_max
            return False
        return bool(fetcher.unresolved(now) or fetcher.topics_without_leader(now))

    def settle(self, deadline: float) -> Operation[None]:
        """Bring metadata up to date, take over new partitions, and resolve starts to offsets.

        Failures are kept in the fetcher: retriable ones as a pause, others for the caller.

        Raises:
            BrokerUnreachableError: no broker was ever reached.
        """
        session, fetcher = self.session, self.fetcher
        now = session.clock()
        wanted = set(fetcher.topics_without_leader(now))
        wanted.update(
            session.cluster.needs_refresh(self.topics, now, session.options.metadata_age_s_max)
        )
        if wanted:
            topics = sorted(wanted)
            try:
                yield from refresh(session, topics, deadline)
            except ClientError as error:
                if session.cluster.cluster_id is None:
                    raise
                fetcher.metadata_failed(topics, error, session.clock())
                return
            self._judge(topics)
        self._take_over()
        yield from self._resolve(deadline)

    def look_around(self, calls: Sequence[FetchCall]) -> Operation[None]:
        """Ask others than the brokers that are overdue who leads what these calls are about."""
        session = self.session
        addresses = [session.cluster.brokers.get(call.node_id) for call in calls]
        topics = sorted({reader.where.topic for call in calls for reader, _ in call.readers})
        silent = [address for address in addresses if address is not None]
        yield from look_around(session, silent, topics)

    def _judge(self, topics: Iterable[str]) -> None:
        """Tell pauses from failures after metadata was asked for."""
        session, now = self.session, self.session.clock()
        for topic in topics:
            code = session.cluster.missing.get(topic)
            if code:
                error = error_for(code, f"topic {topic!r}")
                self.fetcher.metadata_failed([topic], error, now)
                continue
            count = session.cluster.partition_count(topic) or 0
            for where in list(self.fetcher.readers):
                if where.topic != topic:
                    continue
                if where.partition >= count:
                    problem = error_for(
                        ErrorCode.UNKNOWN_PARTITION,
                        f"topic {topic!r}",
                        f"partition {where.partition} does not exist; it has 0 to {count - 1}",
                    )
                    self.fetcher.metadata_failed([topic], problem, now)
                elif session.cluster.leader(where) is None:
                    pause = error_for(ErrorCode.LEADER_NOT_AVAILABLE, str(where))
                    self.fetcher.metadata_failed([topic], pause, now)

    def _take_over(self) -> None:
        """Assign the partitions of subscribed topics; ones that appear later begin at their start.

        What is written to a new partition before it is noticed must not be missed.
        """
        for topic in self.topics:
            count = self.session.cluster.partition_count(topic)
            before = self._known_counts.get(topic)
            if count is None or count == before:
                continue
            self._known_counts[topic] = count
            readers = self.fetcher.readers
            added = [TopicPartition(topic, number) for number in range(count)]
            start: Start = self.options.start if before is None else "earliest"
            self.fetcher.assign(dict.fromkeys([*readers, *added]), start)

    def _resolve(self, deadline: float) -> Operation[None]:
        session, fetcher = self.session, self.fetcher
        queries: dict[TopicPartition, int] = {}
        waiting: dict[TopicPartition, tuple[PartitionReader, int]] = {}
        for reader in fetcher.unresolved(session.clock()):
            query = query_for(reader.start)
            if query is None:
                assert isinstance(reader.start, int)
                reader.begin(reader.start)
            else:
                queries[reader.where] = query
                waiting[reader.where] = (reader, reader.generation)
        if not queries:
            return
        try:
            found = yield from offsets_for(session, queries, deadline)
        except ClientError as error:
            topics = {where.topic for where in queries}
            fetcher.metadata_failed(topics, error, session.clock())
            return
        for where, (reader, generation) in waiting.items():
            if reader.generation == generation:
                reader.begin(found[where])


def query_for(start: Start | None) -> int | None:
    """The ListOffsets time for a start; None where the start is an offset already."""
    if start == "earliest":
        return EARLIEST
    if start == "latest":
        return LATEST
    if isinstance(start, dt.datetime):
        return max(int(start.timestamp() * 1000), 0)
    if isinstance(start, Timestamp):
        return start.ms
    return None


def offsets_for(
    session: Session, queries: dict[TopicPartition, int], deadline: float
) -> Operation[dict[TopicPartition, int]]:
    """As ``list_offsets``; where no record is as late as asked, the end of the log."""
    found = yield from list_offsets(session, queries, deadline)
    late = [where for where, offset in found.items() if offset < 0]
    if late:
        ends = yield from list_offsets(session, dict.fromkeys(late, LATEST), deadline)
        found.update(ends)
    return found


def all_offsets(
    session: Session,
    topics: Sequence[str],
    assigned: Sequence[TopicPartition],
    query: int,
    deadline: float,
) -> Operation[dict[TopicPartition, int]]:
    """Offsets of every partition of ``topics`` and of ``assigned``."""
    wanted = dict.fromkeys(assigned)
    for topic in topics:
        count = yield from partition_count(session, topic, deadline)
        wanted.update(dict.fromkeys(TopicPartition(topic, number) for number in range(count)))
    return (yield from offsets_for(session, dict.fromkeys(wanted, query), deadline))
