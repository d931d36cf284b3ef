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

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from streambus_client._backoff import Backoff, wait_before_retry_s
from streambus_client._idempotence import SEQUENCE_CODES, Verdict, judge
from streambus_client._operations import (
    NO_ANSWER,
    answer_timeout_s,
    connect_patience_s,
    find_successor,
)
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
    from streambus_client._idempotence import Sequencer
    from streambus_client._operations import Look, Session

Callbacks = list[Callable[[], None]]

_LOOK_AROUND_S_MIN, _LOOK_AROUND_S_MAX = 0.1, 5.0
_PAUSE_S_MIN = 0.001
_OVERDUE_PAUSE_S = 0.02
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

    Attributes:
        sequencer: numbers the batches of an idempotent producer, once the shell has got it.
    """

    def __init__(
        self, session: Session, accumulator: Accumulator, options: ProducerOptions
    ) -> None:
        self._session = session
        self._accumulator = accumulator
        self._options = options
        self._busy: set[int] = set()
        self._backoffs: dict[TopicPartition, Backoff] = {}
        self.sequencer: Sequencer | None = None

    @property
    def _cluster(self) -> ClusterView:
        return self._session.cluster

    def needs_sequencer(self, now: float) -> bool:
        """Whether batches are due that cannot be numbered yet: nothing is taken before they can."""
        return not self._can_number and bool(self._accumulator.sendable(now))

    @property
    def _can_number(self) -> bool:
        if not self._options.idempotent:
            return True
        return self.sequencer is not None and not self.sequencer.exhausted

    def nodes_due(self, now: float) -> set[int]:
        """Brokers that have something to be sent and nothing under way."""
        if not self._can_number:
            return set()
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

    def pause_s(self, now: float) -> float | None:
        """How long whoever finds nothing to do now may wait, unless woken; None: until woken.

        What is due and was not taken waits for a leader, a number or another answer, whose coming
        wakes everybody; a leader that came to be known by another request is seen soon.
        """
        due = self._accumulator.next_due(after=now)
        pause_s = None if due is None else max(due - now, _PAUSE_S_MIN)
        if self._accumulator.sendable(now):
            return _OVERDUE_PAUSE_S if pause_s is None else min(pause_s, _OVERDUE_PAUSE_S)
        return pause_s

    def look_around_until(self, now: float) -> float:
        """The deadline of a request for leaders or for a producer id: the next thing may be due."""
        until = now + min(self._session.options.request_timeout_s, _LOOK_AROUND_S_MAX)
        due = self._accumulator.next_due()
        return until if due is None else min(until, max(due, now + _LOOK_AROUND_S_MIN))

    def take(self, node_id: int, now: float) -> ProduceCall | None:
        """Give out the next request for a broker; None if it has none now or one under way."""
        if node_id in self._busy or not self._can_number:
            return None
        room = FRAME_BYTES_MAX - REQUEST_OVERHEAD_BYTES
        batches: list[PendingBatch] = []
        for where in self._accumulator.sendable(now):
            if self._cluster.leader(where) != node_id:
                continue
            batch = self._accumulator.take(where)
            self._number(batch)
            batches.append(batch)
            room -= batch.size_bytes + _PER_PARTITION_BYTES
            if room < self._options.batch_bytes_max:
                break
        if not batches:
            return None
        self._busy.add(node_id)
        return ProduceCall(node_id, batches)

    def patience_s(self, call: ProduceCall, now: float) -> float:
        """How long to wait for this call's answer: no longer than any of its batches lives.

        Numbered batches may be sent twice without harm: they do not wait long for a silent leader.
        """
        last = max(batch.deadline for batch in call.batches)
        failures = max(batch.attempts for batch in call.batches) - 1
        repeatable = self._options.repeatable
        timeout_s = answer_timeout_s(self._session.options, failures, repeatable=repeatable)
        return min(timeout_s, max(last - now, 0.05))

    def connect_patience_s(self, call: ProduceCall) -> float:
        """How long connecting for this call may take, in seconds: another may lead soon."""
        if self._options.retries_max == 0:
            return math.inf
        return connect_patience_s(max(batch.attempts for batch in call.batches) - 1)

    def look(self, call: ProduceCall) -> Look | None:
        """How to find out, while the answer is overdue, whether it need not be waited for.

        None where only the answer tells what became of the batches.
        """
        address = self._cluster.brokers.get(call.node_id)
        if address is None or not self._options.repeatable:
            return None
        partitions = [TopicPartition(batch.topic, batch.partition) for batch in call.batches]
        return partial(find_successor, self._session, address, partitions)

    def encode_ahead(self, call: ProduceCall) -> PendingBatch | None:
        """A batch that will follow this call's and is not encoded yet."""
        for batch in call.batches:
            follower = self._accumulator.peek_closed(TopicPartition(batch.topic, batch.partition))
            if follower is not None and follower.encoded is None and self._can_number:
                self._number(follower)
                return follower
        return None

    def unencodable(self, call: ProduceCall, batch: PendingBatch, error: ClientError) -> Callbacks:
        """A batch of a call that was not sent yet cannot be encoded: it ends here."""
        call.batches.remove(batch)
        return self._give_up(batch, error)

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
            error = error_for(
                result.error, f"{batch.topic}[{batch.partition}]", result.detail or ""
            )
            if result.error in SEQUENCE_CODES and batch.stamp is not None:
                callbacks += self._refused_for_its_number(batch, result.error, error, now)
            else:
                callbacks += self._end([batch], error, now)
        return callbacks

    def failed(self, call: ProduceCall, error: ClientError, now: float) -> Callbacks:
        """The request as a whole was not answered, or refused."""
        self._busy.discard(call.node_id)
        address = self._cluster.brokers.get(call.node_id)
        if address is not None and isinstance(error, NO_ANSWER):
            self._cluster.note_answer(address, came=False)
        return self._end(call.batches, error, now)

    def sequencer_failed(self, error: ClientError, now: float) -> Callbacks:
        """No producer id could be had: a final answer ends the batches that are due."""
        callbacks: Callbacks = []
        for where in self._accumulator.sendable(now):
            callbacks += self._end([self._accumulator.take(where)], error, now)
        return callbacks

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
            self._restart(batch)
            callbacks += batch.outcome.fail(self._timed_out(batch))
        return callbacks

    def _end(self, batches: Iterable[PendingBatch], error: ClientError, now: float) -> Callbacks:
        callbacks: Callbacks = []
        for batch in batches:
            if batch.outcome.done:  # abandoned by a hard close
                continue
            if not error.retriable:
                callbacks += self._give_up(batch, error)
                continue
            batch.uncertain = True
            self._cluster.mark_stale(batch.topic)
            callbacks += self._again(batch, error, now)
        return callbacks

    def _again(self, batch: PendingBatch, error: ClientError, now: float) -> Callbacks:
        """Let a batch leave again after a pause, unless its time or its retries are used up."""
        where = TopicPartition(batch.topic, batch.partition)
        wait_s = wait_before_retry_s(
            self._backoffs.setdefault(where, self._session.backoff()),
            now=now,
            deadline=batch.deadline,
            attempts=batch.attempts,
            retries_max=self._options.retries_max,
        )
        if wait_s is not None:
            self._accumulator.put_back(batch, now + wait_s, error)
            return []
        if now >= batch.deadline:
            batch.last_error = error
            error = self._timed_out(batch)
        return self._give_up(batch, error)

    # --- Numbers of an idempotent producer -------------------------------------------------------

    def _number(self, batch: PendingBatch) -> None:
        if batch.stamp is None and self.sequencer is not None:
            where = TopicPartition(batch.topic, batch.partition)
            batch.stamp = self.sequencer.stamp(where, batch.count)

    def _refused_for_its_number(
        self, batch: PendingBatch, code: int, error: ClientError, now: float
    ) -> Callbacks:
        verdict = judge(code, uncertain=batch.uncertain)
        if verdict is Verdict.WRITTEN:
            return self._accumulator.acknowledge(batch, -1)
        if verdict is Verdict.UNKNOWN:
            return self._give_up(batch, error)
        self._restart(batch, code)
        return self._again(batch, error, now)

    def _give_up(self, batch: PendingBatch, error: ClientError) -> Callbacks:
        self._restart(batch)
        return self._accumulator.fail(batch, error)

    def _restart(self, batch: PendingBatch, code: int = ErrorCode.NONE) -> None:
        """Number a partition anew from this batch on; those behind it may have numbers already."""
        if batch.stamp is None or self.sequencer is None:
            return
        where = TopicPartition(batch.topic, batch.partition)
        if batch.stamp.producer_id == self.sequencer.producer_id:
            self.sequencer.refused(where, code)
        else:  # the refusal says nothing of the id that came after it
            self.sequencer.restart(where)
        for each in (batch, *self._accumulator.of_partition(where)):
            each.stamp = each.encoded = None
            each.uncertain = False

    def _timed_out(self, batch: PendingBatch) -> DeliveryTimedOutError:
        error = DeliveryTimedOutError(
            batch.topic, batch.partition, batch.attempts, batch.last_error
        )
        error.__cause__ = batch.last_error
        return error
