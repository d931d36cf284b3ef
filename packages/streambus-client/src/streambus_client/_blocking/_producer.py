"""The blocking producer: ``send`` in the caller's thread, ``submit`` through the background."""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING

from streambus_client._blocking._background import Background
from streambus_client._blocking._connection import ConnectionPool
from streambus_client._blocking._driver import BlockingClient, run
from streambus_client._blocking._futures import SendFuture, SendManyFuture, wait_for
from streambus_client._blocking._lane import Lane, Lanes
from streambus_client._callbacks import call_back
from streambus_client._encoding import encode_record
from streambus_client._idempotence import SEQUENCE_CODES
from streambus_client._operations import OVERDUE_S, answer_timeout_s
from streambus_client._options import (
    Acks,
    ClientOptions,
    Compression,
    PartitionerChoice,
    ProducerOptions,
    wall_clock_ms,
)
from streambus_client._producing import (
    OneRecord,
    ProducerCore,
    check_columns,
    check_record,
    new_sequencer,
    partition_count,
    produced_code,
    send_numbered,
    send_one,
    too_large,
)
from streambus_client._tracing import Tracing, frame_context
from streambus_client._types import Headers, RecordMetadata, TopicPartition
from streambus_client.errors import (
    BrokerError,
    ClientClosedError,
    ClientError,
    error_for,
)
from streambus_protocol import FRAME_BYTES_MAX, NO_PRODUCER, ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random
    from types import TracebackType

    from streambus_client._accumulator import Outcome
    from streambus_client._idempotence import Sequencer
    from streambus_protocol import ProducerStamp

_new_tuple = tuple.__new__


class Producer(BlockingClient):
    """Writes records to topics. Thread-safe.

    ``send`` writes to its socket from the calling thread and waits for the acknowledgement.
    ``submit`` and ``submit_many`` hand records to a background thread, which sends them in
    batches; they wait only for room in the buffer. Records of one partition keep the order of the
    calls, whichever of the three is used.

    Use it as a context manager: leaving the block flushes and closes. If the block is left by
    Ctrl-C or ``SystemExit``, what is not yet acknowledged is abandoned, and its futures say so.

    With ``acks="all"`` the producer is idempotent: what it sends again after a lost connection or a
    new leader is written once, in order. Without, a retry may write twice; ``retries_max=0`` rules
    that out, at the price of failures that the caller has to judge.

    Args:
        brokers: ``"host:port,host:port"``, or a sequence of such strings; any of the cluster.
        acks: when a send is answered. 1: written by the leader, not yet synced to disk. "all":
            durable on the in-sync replicas. 0: not answered at all; offsets are -1 and losses go
            unnoticed.
        compression: of batches: "none", "gzip", "snappy", "lz4" or "zstd".
        partitioner: "xxhash", "murmur2" (agrees with Java Kafka), "crc32" (agrees with
            librdkafka), "round_robin", "sticky", or a function (topic, key, partition count) to a
            partition.
        linger_ms: how long a submitted record waits for others to fill its batch.
        batch_bytes_max: a batch of submitted records does not grow beyond this.
        buffer_bytes_max: submitted and not acknowledged; beyond it ``submit`` waits.
        delivery_timeout_ms: from the call to the failure of a record, retries included.
        retries_max: attempts after the first; None: until the delivery deadline.
        idempotent: whether batches are numbered, so that a retry neither doubles nor reorders;
            None: with ``acks="all"``, which it needs.
        request_timeout_ms: for one request; also how long brokers may wait for replicas.
        connect_timeout_ms: for one connection.
        retry_backoff_ms: the first pause between attempts; it doubles.
        retry_backoff_ms_max: the longest.
        metadata_age_ms_max: leaders are asked for again after this, at the latest.
        client_id: how the brokers' logs name this client.
        tracing: OpenTelemetry: a span around each ``send``, its context in the frame for the
            broker and in the header ``traceparent`` for readers; ``submit`` carries the context of
            the caller's span in the header. Needs ``streambus-client[tracing]``.
        random: the dice of jitter and of sticky partitions; give a seeded one to repeat a run.
        now_ms: the wall clock of default timestamps, milliseconds since 1970-01-01 UTC.

    Raises:
        InvalidArgumentError: a value cannot be used. Nothing is connected before the first call.
    """

    def __init__(
        self,
        brokers: str | Sequence[str],
        *,
        acks: Acks = "all",
        compression: Compression = "none",
        partitioner: PartitionerChoice = "xxhash",
        linger_ms: float = 5,
        batch_bytes_max: int = 512 * 1024,
        buffer_bytes_max: int = 64 * 1024 * 1024,
        delivery_timeout_ms: float = 120_000,
        retries_max: int | None = None,
        idempotent: bool | None = None,
        request_timeout_ms: float = 30_000,
        connect_timeout_ms: float = 10_000,
        retry_backoff_ms: float = 50,
        retry_backoff_ms_max: float = 1_000,
        metadata_age_ms_max: float = 300_000,
        client_id: str = "streambus",
        tracing: bool = False,
        random: Random | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        super().__init__(
            ClientOptions.make(
                brokers,
                client_id=client_id,
                connect_timeout_ms=connect_timeout_ms,
                request_timeout_ms=request_timeout_ms,
                retry_backoff_ms=retry_backoff_ms,
                retry_backoff_ms_max=retry_backoff_ms_max,
                metadata_age_ms_max=metadata_age_ms_max,
                random=random,
            )
        )
        self._options = ProducerOptions.make(
            acks=acks,
            compression=compression,
            partitioner=partitioner,
            linger_ms=linger_ms,
            batch_bytes_max=batch_bytes_max,
            buffer_bytes_max=buffer_bytes_max,
            delivery_timeout_ms=delivery_timeout_ms,
            retries_max=retries_max,
            idempotent=idempotent,
        )
        self._now_ms = now_ms
        repeatable = self._options.repeatable
        self._answer_timeout_s = answer_timeout_s(self._session.options, 0, repeatable=repeatable)
        self._overdue_s = min(OVERDUE_S if repeatable else math.inf, self._answer_timeout_s)
        self._tracing = Tracing() if tracing else None
        self._core = ProducerCore(self._session, self._options)
        self._send_pool = ConnectionPool(self._session.options)
        self._background = Background(self._core, self._pool, self._lock)
        self._lanes = Lanes(self, self._session, self._core, self._send_pool)
        self._sequencers: list[Sequencer] = []  # those that no send uses now
        self._submitted = False  # since the background was last empty; then send goes behind it

    # --- One record -------------------------------------------------------------------------------

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send one record and wait for its acknowledgement.

        Args:
            topic: must exist.
            value: None is a record without a value, which differs from an empty one.
            key: decides the partition; None leaves it to the partitioner.
            partition: overrules the partitioner.
            headers: pairs of a name and bytes or None; order and repetitions are kept.
            timestamp_ms: milliseconds since 1970-01-01 UTC; now by default.

        Returns:
            Where it is. With ``acks=0`` the offset is -1.

        Raises:
            InvalidArgumentError: value, key, headers or timestamp are of a wrong type.
            TopicNotFoundError, PartitionNotFoundError, RecordTooLargeError: as they say.
            ClientError: it was not acknowledged before the delivery deadline, or the broker
                refused it. After ``ConnectionLostError`` and ``RequestTimedOutError`` it may be
                written nevertheless, but never twice by an idempotent producer.

        Cost:
            One ``send`` and one ``recv`` once topic and leader are known.
        """
        if self._tracing is None:
            return self._send(topic, value, key, partition, headers, timestamp_ms)
        with self._tracing.sending(topic, headers) as carried:
            return self._send(topic, value, key, partition, carried, timestamp_ms)

    def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        headers: Headers | None,
        timestamp_ms: int | None,
    ) -> RecordMetadata:
        if timestamp_ms is None:
            timestamp_ms = self._now_ms()
        lanes = self._lanes
        lane = lanes.single.get(topic) if partition is None else None
        if lane is None or lane.connection.closed or time.monotonic() >= lanes.expire_at:
            check_record(topic, value, key, headers)
            lane = lanes.find(topic, key, partition)
        if self._options.idempotent:
            offset = self._send_numbered(lane, value, key, headers, timestamp_ms)
        else:
            offset = self._send_on(lane, value, key, headers, timestamp_ms, None)
        sent: RecordMetadata = _new_tuple(
            RecordMetadata, (topic, lane.where.partition, offset, timestamp_ms)
        )
        return sent

    def _send_numbered(
        self,
        lane: Lane,
        value: bytes | None,
        key: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
    ) -> int:
        """Send with a sequencer that no other thread uses meanwhile."""
        try:
            sequencer = self._sequencers.pop()
        except IndexError:
            deadline = self._deadline(self._options.delivery_timeout_s)
            sequencer = self._run(new_sequencer(self._session, deadline))
        try:
            return self._send_on(lane, value, key, headers, timestamp_ms, sequencer)
        except BaseException:
            sequencer.restart(lane.where)
            raise
        finally:
            if not sequencer.exhausted:
                self._sequencers.append(sequencer)

    def _send_on(
        self,
        lane: Lane,
        value: bytes | None,
        key: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        sequencer: Sequencer | None,
    ) -> int:
        """Send on the lane, and where that does not succeed at once, the general way."""
        connection, codec = lane.connection, self._options.codec
        stamp: ProducerStamp | None = None
        with connection.lock:
            if not connection.closed and not self._submitted:
                if sequencer is not None:
                    stamp = sequencer.stamp(lane.where, 1)
                number = stamp or NO_PRODUCER
                correlation_id = connection.core.next_id()
                if headers or codec:
                    batch = encode_record(value, key, headers, timestamp_ms, codec, number)
                    frame = lane.template.frame(correlation_id, batch, frame_context.get())
                else:
                    frame = lane.template.record_frame(
                        correlation_id, value, key, timestamp_ms, number
                    )
                try:
                    offset = self._exchange(lane, frame, correlation_id)
                except BrokerError as error:
                    if sequencer is None or error.code not in SEQUENCE_CODES:
                        raise
                    # A first attempt: so it is not in the log.
                    sequencer.refused(lane.where, error.code)
                    offset = stamp = None
                if offset is not None:
                    return offset
        return self._send_slowly(lane.where, value, key, headers, timestamp_ms, sequencer, stamp)

    def _exchange(self, lane: Lane, frame: bytes, correlation_id: int) -> int | None:
        """Send a batch on its lane; None if it has to be tried again the general way.

        Raises:
            ClientError: a final refusal, or a failure while no retries are allowed.
        """
        if len(frame) > FRAME_BYTES_MAX:
            raise too_large(lane.where.topic, len(frame))
        connection = lane.connection
        try:
            if self._options.acks == 0:
                connection.send_bytes(frame)
                return -1
            data = connection.exchange(frame, self._overdue_s)
            if data is not None:
                offset = lane.template.read_offset(data, correlation_id)
                if offset is not None:
                    return offset
            connection.core.expect(correlation_id, ApiKey.PRODUCE)
            if data is None:
                answer = self._lanes.wait_longer(lane, correlation_id, self._answer_timeout_s)
            else:
                answer = connection.finish_with(data, correlation_id, self._answer_timeout_s)
        except ClientError as error:
            self._failed(error, lane)
            return None
        code, detail = produced_code(answer)
        if not code:
            found: int = answer.partitions[0].base_offset
            return found
        self._failed(error_for(code, str(lane.where), detail or ""), lane)
        return None

    def _failed(self, error: ClientError, lane: Lane) -> None:
        with self._lock:
            self._lanes.clear()
            self._session.cluster.mark_stale(lane.where.topic)
        if not error.retriable or self._options.retries_max == 0:
            raise error

    def _send_slowly(
        self,
        where: TopicPartition,
        value: bytes | None,
        key: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        sequencer: Sequencer | None,
        stamp: ProducerStamp | None,
    ) -> int:
        """Send with retries, or behind what was submitted to the same partition before.

        What was sent under a number already is sent again under that one.
        """
        with self._lock:
            behind = self._core.accumulator.holds(where)
            self._submitted = not self._core.accumulator.empty
        if behind and stamp is None:
            future = self.submit(
                where.topic,
                value,
                key=key,
                partition=where.partition,
                headers=headers,
                timestamp_ms=timestamp_ms,
            )
            return future.result().offset
        if self._closed:
            raise ClientClosedError("this Producer is closed")
        options = self._options

        def encode(number: ProducerStamp) -> bytes:
            return encode_record(value, key, headers, timestamp_ms, options.codec, number)

        record = OneRecord(
            where,
            encode,
            options.acks,
            self._core.ack_timeout_ms,
            self._deadline(options.delivery_timeout_s),
            options.retries_max,
        )
        if sequencer is None:
            operation = send_one(self._session, record)
        else:
            operation = send_numbered(self._session, record, sequencer, stamp)
        return run(operation, self._session, self._send_pool, self._lock)

    # --- Many records -----------------------------------------------------------------------------

    def submit(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> SendFuture:
        """Hand one record to the background, which sends it in a batch.

        Waits while the buffer is full, never fails for it. The arguments are those of ``send``.

        Returns:
            A future of the record's place.

        Raises:
            InvalidArgumentError, TopicNotFoundError, PartitionNotFoundError,
                RecordTooLargeError: found before the record was taken over; nothing was submitted.
        """
        if self._tracing is not None:
            headers = self._tracing.carrying(headers)
        if timestamp_ms is None:
            timestamp_ms = self._now_ms()
        size_bytes = check_record(topic, value, key, headers)
        count = self._session.cluster.partition_count(topic) or self.partition_count(topic)
        background = self._background
        with self._lock:
            where = self._core.place(topic, key, partition, count)
            self._wait_for_room(size_bytes)
            self._submitted = True
            batch, index = self._core.append(where, key, value, headers, timestamp_ms, size_bytes)
            if index == 0 or batch.closed:
                background.start()
                background.work.notify_all()
        return SendFuture(batch.outcome, index, where, timestamp_ms, background.done)

    def submit_many(
        self,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None = None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> SendManyFuture:
        """Hand whole columns to the background.

        Args:
            topic: must exist.
            values: one for each record.
            keys: as many, or None for no keys; then whole batches go to one partition each.
            partition: overrules the partitioner for all of them.
            timestamp_ms: of all of them; now by default.

        Returns:
            A future of the places of all records.

        Raises:
            InvalidArgumentError, TopicNotFoundError, PartitionNotFoundError,
                RecordTooLargeError: found before any record was taken over; nothing was submitted.
        """
        if timestamp_ms is None:
            timestamp_ms = self._now_ms()
        check_columns(topic, values, keys)
        count = self._session.cluster.partition_count(topic) or self.partition_count(topic)
        background = self._background
        parts: list[tuple[Outcome, int, TopicPartition, int]] = []
        with self._lock:
            runs = self._core.runs(topic, values, keys, partition, count)
        for part in runs:
            with self._lock:
                self._wait_for_room(part.size_bytes)
                self._submitted = True
                batch, index = self._core.extend(part, timestamp_ms)
                if index == 0 or batch.closed:
                    background.start()
                    background.work.notify_all()
            parts.append((batch.outcome, index, part.where, len(part.values)))
        return SendManyFuture(parts, background.done)

    def flush(self, timeout: float | None = None) -> None:
        """Send what was submitted before this call, and wait until all of it has ended.

        Args:
            timeout: seconds; None waits as long as the delivery deadlines do.

        Raises:
            TimeoutError: not all has ended in time; it goes on.
            ClientError: a submitted record failed, and no future of its batch was asked about it;
                raised for the first of them. All others have ended too.
        """
        with self._lock:
            self._core.accumulator.close_all()
            outcomes = [batch.outcome for batch in self._core.accumulator.pending()]
            self._background.work.notify_all()
        deadline = None if timeout is None else time.monotonic() + timeout
        for outcome in outcomes:
            left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            wait_for(outcome, self._background.done, left_s)
        with self._lock:
            self._core.raise_unseen()

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            TopicNotFoundError: there is no such topic.
            BrokerUnreachableError: no broker answered before the delivery deadline.
        """
        deadline = self._deadline(self._options.delivery_timeout_s)
        return self._run(partition_count(self._session, topic, deadline))

    def close(self, timeout: float | None = None) -> None:
        """Flush, end the background, and close the connections; any number of times.

        Args:
            timeout: seconds to flush for; what has not ended then is abandoned, and its futures
                raise ``ClientClosedError``. None waits as long as the delivery deadlines do.

        Raises:
            ClientError: as for ``flush``; the producer is closed nevertheless.
        """
        if self._closed:
            return
        try:
            with contextlib.suppress(TimeoutError):
                self.flush(timeout)
        finally:
            self._abandon()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.close()
        elif issubclass(exc_type, Exception):
            with contextlib.suppress(ClientError):  # the block's own error is the one to be seen
                self.close()
        else:
            self._abandon()

    def _wait_for_room(self, size_bytes: int) -> None:
        """Wait, holding the lock, until ``size_bytes`` fit the buffer."""
        if self._closed:
            raise ClientClosedError("this Producer is closed")
        accumulator, background = self._core.accumulator, self._background
        while background.broken is None and not accumulator.has_room(size_bytes):
            background.work.notify_all()
            background.room.wait()
            if self._closed:
                raise ClientClosedError("this Producer was closed while it waited for room")
        if background.broken is not None:
            raise background.broken

    def _abandon(self) -> None:
        super().close()
        self._send_pool.close()
        self._background.stop()
        with self._lock:
            callbacks = self._core.abandon(
                ClientClosedError("the producer was closed before the record was acknowledged")
            )
            self._background.done.notify_all()
            self._background.room.notify_all()
        call_back(callbacks)
