"""What the background of a producer does: which batches leave now, and what an answer means.

Rules:
    1. Pure, and not thread-safe: the shell calls it under its lock, and calls the returned
       callbacks without it.
    2. One request per broker is under way at a time; it carries a batch of every partition that is
       due and led there.
    3. A batch that was given out comes back exactly once, by ``succeeded`` or ``failed``.
    4. A batch ends with its offset, with the first error that is not retriable, or with
       ``DeliveryTimedOutError`` at its deadline; nothing else ends it, so no future is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streambus_client._backoff import Backoff, wait_before_retry_s
from streambus_client._options import REQUEST_OVERHEAD_BYTES, ProducerOptions
from streambus_client._types import TopicPartition
from streambus_client.errors import (
    ClientError,
    DeliveryTimedOutError,
    ProtocolViolationError,
    error_for,
)
from streambus_protocol import (
    FRAME_BYTES_MAX,
    ErrorCode,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
)

if TYPE_CHECKING:
    from streambus_client._accumulator import Accumulator, PendingBatch
    from streambus_client._cluster import ClusterView
    from streambus_client._operations import Session

Callbacks = list[Callable[[], None]]

_PER_PARTITION_BYTES = 300
"""The most that one partition's name and framing add to a request."""


@dataclass(slots=True)
class ProduceCall:
    """One request for one broker.

    Attributes:
        node_id: the broker.
        batches: in the order of the request; encoded by the shell before ``request``.
    """

    node_id: int
    batches: list[PendingBatch]

    def request(self, acks: int, timeout_ms: int) -> ProduceRequest:
        """The message; every batch has its ``encoded``."""
        return ProduceRequest(
            acks,
            timeout_ms,
            tuple(
                ProducePartition(batch.topic, batch.partition, batch.encoded or b"")
                for batch in self.batches
            ),
        )


class Sender:
    """Moves batches from the accumulator to the leaders' answers.

    Args:
        session: for the cluster, the backoff and the options.
        accumulator: of the same producer.
        options: of the producer.
    """

    def __init__(
        self, session: Session, accumulator: Accumulator, options: ProducerOptions
    ) -> None:
        self._session = session
        self._accumulator = accumulator
        self._options = options
        self._busy: set[int] = set()
        self._backoffs: dict[TopicPartition, Backoff] = {}

    @property
    def _cluster(self) -> ClusterView:
        return self._session.cluster

    def nodes_due(self, now: float) -> set[int]:
        """Brokers that have something to be sent and nothing under way."""
        nodes = {self._cluster.leader(where) for where in self._accumulator.sendable(now)}
        return {node for node in nodes if node is not None} - self._busy

    def topics_without_leader(self, now: float) -> list[str]:
        """Topics with due batches whose leader is not known: ask for metadata."""
        return sorted(
            {
                where.topic
                for where in self._accumulator.sendable(now)
                if self._cluster.leader(where) is None
            }
        )

    def next_due(self) -> float | None:
        """When to look again if nothing happens before, in seconds; None: only when woken."""
        return self._accumulator.next_due()

    def take(self, node_id: int, now: float) -> ProduceCall | None:
        """Give out the next request for a broker; None if it has none now or one under way."""
        if node_id in self._busy:
            return None
        room = FRAME_BYTES_MAX - REQUEST_OVERHEAD_BYTES
        batches: list[PendingBatch] = []
        for where in self._accumulator.sendable(now):
            if self._cluster.leader(where) != node_id:
                continue
            batch = self._accumulator.take(where)
            batches.append(batch)
            room -= batch.size_bytes + _PER_PARTITION_BYTES
            if room < self._options.batch_bytes_max:
                break
        if not batches:
            return None
        self._busy.add(node_id)
        return ProduceCall(node_id, batches)

    def patience_s(self, call: ProduceCall, now: float) -> float:
        """How long to wait for this call's answer: no longer than any of its batches lives."""
        last = max(batch.deadline for batch in call.batches)
        return min(self._session.options.request_timeout_s, max(last - now, 0.05))

    def encode_ahead(self, call: ProduceCall) -> PendingBatch | None:
        """A batch that will follow this call's and is not encoded yet."""
        for batch in call.batches:
            follower = self._accumulator.peek_closed(TopicPartition(batch.topic, batch.partition))
            if follower is not None and follower.encoded is None:
                return follower
        return None

    def unencodable(self, call: ProduceCall, batch: PendingBatch, error: ClientError) -> Callbacks:
        """A batch of a call that was not sent yet cannot be encoded: it ends here."""
        call.batches.remove(batch)
        return self._accumulator.fail(batch, error)

    def given_back(self, call: ProduceCall) -> None:
        """A call that became empty before it was sent is over."""
        self._busy.discard(call.node_id)

    def succeeded(self, call: ProduceCall, answer: ProduceResponse | None, now: float) -> Callbacks:
        """A broker answered; with ``acks=0`` the answer is None, and sent counts as written."""
        self._busy.discard(call.node_id)
        if answer is None:
            return [
                callback
                for batch in call.batches
                if not batch.outcome.done
                for callback in self._accumulator.acknowledge(batch, -1)
            ]
        if len(answer.partitions) != len(call.batches):
            problem = ProtocolViolationError(
                "a broker answered for other partitions than were sent"
            )
            return self._end(call.batches, problem, now)
        callbacks: Callbacks = []
        for batch, result in zip(call.batches, answer.partitions, strict=True):
            if batch.outcome.done:  # abandoned by a hard close
                continue
            if result.error == ErrorCode.NONE:
                self._backoffs.pop(TopicPartition(batch.topic, batch.partition), None)
                callbacks += self._accumulator.acknowledge(batch, result.base_offset)
                continue
            where = f"{batch.topic}[{batch.partition}]"
            error = error_for(result.error, where, result.detail or "")
            callbacks += self._end([batch], error, now)
        return callbacks

    def failed(self, call: ProduceCall, error: ClientError, now: float) -> Callbacks:
        """The request as a whole was not answered, or refused."""
        self._busy.discard(call.node_id)
        return self._end(call.batches, error, now)

    def missing_error(self, topic: str, code: int | None) -> ClientError | None:
        """Why a topic has no leader after metadata was asked for; None if it has one."""
        if code:
            return error_for(code, f"topic {topic!r}")
        for where in self._accumulator.partitions():
            if where.topic == topic and self._cluster.leader(where) is None:
                return error_for(ErrorCode.LEADER_NOT_AVAILABLE, str(where))
        return None

    def metadata_failed(self, topics: Iterable[str], error: ClientError, now: float) -> Callbacks:
        """Metadata could not be had: a final answer ends the waiting batches of these topics."""
        callbacks: Callbacks = []
        wanted = set(topics)
        for where in self._accumulator.sendable(now):
            if where.topic in wanted and self._cluster.leader(where) is None:
                batch = self._accumulator.take(where)
                callbacks += self._end([batch], error, now)
        return callbacks

    def expire(self, now: float) -> Callbacks:
        """End the batches whose deadline has passed."""
        callbacks: Callbacks = []
        for batch in self._accumulator.expired(now):
            callbacks += batch.outcome.fail(self._timed_out(batch))
        return callbacks

    def _end(self, batches: Iterable[PendingBatch], error: ClientError, now: float) -> Callbacks:
        callbacks: Callbacks = []
        for batch in batches:
            if batch.outcome.done:  # abandoned by a hard close
                continue
            where = TopicPartition(batch.topic, batch.partition)
            if not error.retriable:
                callbacks += self._accumulator.fail(batch, error)
                continue
            self._cluster.mark_stale(batch.topic)
            backoff = self._backoffs.setdefault(where, self._session.backoff())
            wait_s = wait_before_retry_s(
                backoff,
                now=now,
                deadline=batch.deadline,
                attempts=batch.attempts,
                retries_max=self._options.retries_max,
            )
            if wait_s is not None:
                self._accumulator.put_back(batch, now + wait_s, error)
            elif now >= batch.deadline:
                batch.last_error = error
                callbacks += self._accumulator.fail(batch, self._timed_out(batch))
            else:
                callbacks += self._accumulator.fail(batch, error)
        return callbacks

    def _timed_out(self, batch: PendingBatch) -> DeliveryTimedOutError:
        error = DeliveryTimedOutError(
            batch.topic, batch.partition, batch.attempts, batch.last_error
        )
        error.__cause__ = batch.last_error
        return error
