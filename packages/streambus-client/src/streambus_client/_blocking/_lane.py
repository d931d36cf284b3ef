"""What a single ``send`` to one partition needs, prepared once and used until something changes."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING

from streambus_client._encoding import ProduceTemplate
from streambus_client._operations import (
    OVERDUE_S,
    connect_patience_s,
    find_successor,
    leader,
    refresh,
)
from streambus_client._producing import partition_count
from streambus_client.errors import ConnectionLostError, RequestTimedOutError
from streambus_protocol import ApiKey

if TYPE_CHECKING:
    from streambus_client._blocking._connection import BlockingConnection, ConnectionPool
    from streambus_client._blocking._driver import BlockingClient
    from streambus_client._operations import Session
    from streambus_client._producing import ProducerCore
    from streambus_client._types import TopicPartition
    from streambus_protocol import ProduceResponse


class Lane:
    """What a ``send`` to one partition needs, prepared: the leader's connection and the frame."""

    __slots__ = ("connection", "template", "where")

    def __init__(
        self, connection: BlockingConnection, template: ProduceTemplate, where: TopicPartition
    ) -> None:
        self.connection = connection
        self.template = template
        self.where = where


class Lanes:
    """All lanes of one producer.

    Args:
        client: The producer: it carries operations out, and has the lock.
        session: Its session.
        core: Its decisions.
        pool: Its connections for single sends.

    Attributes:
        single: The lanes of topics with one partition, by topic: there is nothing to choose.
        expire_at: When the metadata behind all lanes is too old; monotonic, seconds.
    """

    def __init__(
        self, client: BlockingClient, session: Session, core: ProducerCore, pool: ConnectionPool
    ) -> None:
        self._client = client
        self._session = session
        self._core = core
        self._pool = pool
        self._lanes: dict[TopicPartition, Lane] = {}
        self.single: dict[str, Lane] = {}
        self.expire_at = 0.0

    def clear(self) -> None:
        """Prepare all of them anew when they are next needed. Under the client's lock."""
        self._lanes.clear()
        self.single.clear()

    def find(self, topic: str, key: bytes | None, partition: int | None) -> Lane:
        """Choose the partition of a record and find or prepare its lane.

        Raises:
            ClientError: there is no such topic or partition, or no broker was reached in time.
        """
        core, client = self._core, self._client
        if self._lanes and time.monotonic() >= self.expire_at:
            self._renew(topic)
        count = client._run(partition_count(self._session, topic, self._deadline()))
        with client._lock:
            where = core.place(topic, key, partition, count)
            core.partitioner.batch_closed(topic, where.partition)
            lane = self._lanes.get(where)
        if lane is None or lane.connection.closed:
            lane = self._prepare(where)
            self._lanes[where] = lane
            if count == 1 and not callable(core.options.partitioner):
                self.single[topic] = lane
        return lane

    def wait_longer(self, lane: Lane, correlation_id: int, timeout_s: float) -> ProduceResponse:
        """Wait for an answer that is overdue, and see who leads by now, where it may be given up.

        Args:
            lane: where the request was sent.
            correlation_id: of the request.
            timeout_s: how long the answer may take in all; seconds.

        Raises:
            ClientError: there is none.
        """
        gives_up, left_s = None, 0.0
        if self._core.options.repeatable:
            gives_up, left_s = partial(self._has_successor, lane), timeout_s - OVERDUE_S
        answer: ProduceResponse = lane.connection.finish(
            correlation_id, left_s, gives_up, overdue_s=0.0
        )
        return answer

    def _has_successor(self, lane: Lane) -> bool:
        look = find_successor(self._session, lane.connection.address, (lane.where,))
        return self._client._run(look)

    def _prepare(self, where: TopicPartition) -> Lane:
        options = self._core.options
        address = self._client._run(leader(self._session, where, self._deadline()))
        backoff = self._session.backoff()
        deadline = self._deadline()
        # Another broker may lead by the time that one which does not answer is given up.
        failures = 0
        while True:
            hurry_s = math.inf if options.retries_max == 0 else connect_patience_s(failures)
            try:
                connection = self._pool.connect(
                    address,
                    self._session.cluster.cluster_id,
                    min(hurry_s, max(deadline - time.monotonic(), 0.05)),
                )
                break
            except (ConnectionLostError, RequestTimedOutError):
                if time.monotonic() >= deadline or options.retries_max == 0:
                    raise
                failures += 1
                self._session.cluster.mark_stale(where.topic)
                time.sleep(backoff.next_wait_s())
                address = self._client._run(leader(self._session, where, deadline))
        template = ProduceTemplate(
            where.topic,
            where.partition,
            options.acks,
            self._core.ack_timeout_ms,
            connection.core.version(ApiKey.PRODUCE),
        )
        if self.expire_at == 0.0:
            self.expire_at = time.monotonic() + self._session.options.metadata_age_s_max
        return Lane(connection, template, where)

    def _renew(self, topic: str) -> None:
        """Ask for metadata again and prepare all lanes anew."""
        client = self._client
        client._run(refresh(self._session, [topic], client._deadline()))
        with client._lock:
            self.clear()
            self.expire_at = time.monotonic() + self._session.options.metadata_age_s_max

    def _deadline(self) -> float:
        return self._client._deadline(self._core.options.delivery_timeout_s)
