"""The async producer: ``send`` in the caller's task, ``submit`` through the background."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio

from streambus_client._aio._background import AsyncBackground
from streambus_client._aio._connection import AsyncConnectionPool
from streambus_client._aio._driver import AsyncClient
from streambus_client._aio._futures import AsyncSendFuture, AsyncSendManyFuture, wait_for
from streambus_client._callbacks import call_back
from streambus_client._encoding import encode_record
from streambus_client._operations import partition_count, refresh
from streambus_client._options import (
    Acks,
    ClientOptions,
    Compression,
    PartitionerChoice,
    ProducerOptions,
    wall_clock_ms,
)
from streambus_client._producing import (
    RECORD_BYTES_MAX,
    OneRecord,
    ProducerCore,
    check_columns,
    check_record,
    new_sequencer,
    send_numbered,
    send_one,
    too_large,
)
from streambus_client._tracing import Tracing
from streambus_client._types import Headers, RecordMetadata, TopicPartition
from streambus_client.errors import ClientClosedError, ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from streambus_client._accumulator import Outcome
    from streambus_client._idempotence import Sequencer
    from streambus_protocol import ProducerStamp

_SENDS_AT_ONCE_MAX = 64
"""Of an idempotent producer: each send under way needs a producer id for itself."""


class AsyncProducer(AsyncClient):
    """Writes records to topics. For the tasks of one event loop; inside ``async with`` only.

    ``send`` waits for the acknowledgement; tasks that send at the same time share a connection.
    ``submit`` and ``submit_many`` hand records to a background task, which sends them in batches;
    they wait only for room in the buffer. Records of one partition keep the order of the calls,
    if one task makes them.

    Leaving the block flushes and closes. If the block is left by cancellation, Ctrl-C or
    ``SystemExit``, what is not yet acknowledged is abandoned, and its futures say so.

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
        self._tracing = Tracing() if tracing else None
        self._core = ProducerCore(self._session, self._options)
        self._sends = anyio.Semaphore(_SENDS_AT_ONCE_MAX)
        self._sequencers: list[Sequencer] = []  # those that no send uses now
        self._send_pool = AsyncConnectionPool(self._session.options)
        self._batch_pool = AsyncConnectionPool(self._session.options)
        self._background = AsyncBackground(self._core, self._batch_pool, self._run)

    async def send(
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
        """
        if self._tracing is None:
            return await self._send(topic, value, key, partition, headers, timestamp_ms)
        with self._tracing.sending(topic, headers) as carried:
            return await self._send(topic, value, key, partition, carried, timestamp_ms)

    async def _send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int | None,
        headers: Headers | None,
        timestamp_ms: int | None,
    ) -> RecordMetadata:
        check_record(topic, value, key, headers)
        if timestamp_ms is None:
            timestamp_ms = self._now_ms()
        count = await self._fresh_count(topic)
        where = self._core.place(topic, key, partition, count)
        self._core.partitioner.batch_closed(topic, where.partition)
        if self._core.accumulator.holds(where):
            future = await self.submit(
                topic,
                value,
                key=key,
                partition=where.partition,
                headers=headers,
                timestamp_ms=timestamp_ms,
            )
            return await future
        options = self._options

        def encode(number: ProducerStamp) -> bytes:
            batch = encode_record(value, key, headers, timestamp_ms, options.codec, number)
            if len(batch) > RECORD_BYTES_MAX:
                raise too_large(topic, len(batch))
            return batch

        record = OneRecord(
            where,
            encode,
            options.acks,
            self._core.ack_timeout_ms,
            self._deadline(options.delivery_timeout_s),
            options.retries_max,
        )
        if options.idempotent:
            async with self._sends:
                offset = await self._send_numbered(record)
        else:
            offset = await self._run(send_one(self._session, record), self._send_pool)
        return RecordMetadata(topic, where.partition, offset, timestamp_ms)

    async def _send_numbered(self, record: OneRecord) -> int:
        """Send with a sequencer that no other task uses meanwhile."""
        if self._sequencers:
            sequencer = self._sequencers.pop()
        else:
            sequencer = await self._run(new_sequencer(self._session, record.deadline))
        try:
            operation = send_numbered(self._session, record, sequencer, None)
            return await self._run(operation, self._send_pool)
        except BaseException:
            sequencer.restart(record.where)
            raise
        finally:
            if not sequencer.exhausted:
                self._sequencers.append(sequencer)

    async def submit(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
    ) -> AsyncSendFuture:
        """Hand one record to the background, which sends it in a batch.

        Waits while the buffer is full, never fails for it. The arguments are those of ``send``.

        Returns:
            A future of the record's place, to be awaited.

        Raises:
            InvalidArgumentError, TopicNotFoundError, PartitionNotFoundError,
                RecordTooLargeError: found before the record was taken over; nothing was submitted.
        """
        if self._tracing is not None:
            headers = self._tracing.carrying(headers)
        if timestamp_ms is None:
            timestamp_ms = self._now_ms()
        size_bytes = check_record(topic, value, key, headers)
        self._check_open()
        count = self._known_count(topic) or await self._fresh_count(topic)
        where = self._core.place(topic, key, partition, count)
        if not self._core.accumulator.has_room(size_bytes):
            await self._wait_for_room(size_bytes)
        batch, index = self._core.append(where, key, value, headers, timestamp_ms, size_bytes)
        if index == 0 or batch.closed:
            self._background.start(self._open_tasks())
            self._background.work.notify()
        return AsyncSendFuture(batch.outcome, index, where, timestamp_ms, self._background.done)

    async def submit_many(
        self,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None = None,
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> AsyncSendManyFuture:
        """Hand whole columns to the background.

        Args:
            topic: must exist.
            values: one for each record.
            keys: as many, or None for no keys; then whole batches go to one partition each.
            partition: overrules the partitioner for all of them.
            timestamp_ms: of all of them; now by default.

        Returns:
            A future of the places of all records, to be awaited.

        Raises:
            InvalidArgumentError, TopicNotFoundError, PartitionNotFoundError,
                RecordTooLargeError: found before any record was taken over; nothing was submitted.
        """
        if timestamp_ms is None:
            timestamp_ms = self._now_ms()
        check_columns(topic, values, keys)
        count = await self._fresh_count(topic)
        parts: list[tuple[Outcome, int, TopicPartition, int]] = []
        for part in self._core.runs(topic, values, keys, partition, count):
            await self._wait_for_room(part.size_bytes)
            batch, index = self._core.extend(part, timestamp_ms)
            if index == 0 or batch.closed:
                self._background.start(self._open_tasks())
                self._background.work.notify()
            parts.append((batch.outcome, index, part.where, len(part.values)))
        return AsyncSendManyFuture(parts, self._background.done)

    async def flush(self, timeout: float | None = None) -> None:
        """Send what was submitted before this call, and wait until all of it has ended.

        Args:
            timeout: seconds; None waits as long as the delivery deadlines do.

        Raises:
            TimeoutError: not all has ended in time; it goes on.
            ClientError: a submitted record failed, and no future of its batch was asked about it;
                raised for the first of them. All others have ended too.
        """
        self._core.accumulator.close_all()
        outcomes = [batch.outcome for batch in self._core.accumulator.pending()]
        self._background.work.notify()
        with anyio.fail_after(timeout):
            for outcome in outcomes:
                await wait_for(outcome, self._background.done)
        self._core.raise_unseen()

    async def partition_count(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            TopicNotFoundError: there is no such topic.
            BrokerUnreachableError: no broker answered before the delivery deadline.
        """
        deadline = self._deadline(self._options.delivery_timeout_s)
        return await self._run(partition_count(self._session, topic, deadline))

    async def close(self, timeout: float | None = None) -> None:
        """Flush and close the connections; any number of times.

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
                await self.flush(timeout)
        finally:
            await super().close()

    async def _leave(self, exc_type: type[BaseException] | None) -> None:
        if exc_type is None:
            await self.close()
        elif issubclass(exc_type, Exception):
            with contextlib.suppress(ClientError):  # the block's own error is the one to be seen
                await self.close()

    async def _shut(self) -> None:
        await super()._shut()
        await self._send_pool.close()
        await self._batch_pool.close()
        callbacks = self._core.abandon(
            ClientClosedError("the producer was closed before the record was acknowledged")
        )
        self._background.done.notify()
        self._background.room.notify()
        call_back(callbacks)

    async def _fresh_count(self, topic: str) -> int:
        """The partition count, from metadata that is not older than it may be."""
        self._check_open()
        known = self._known_count(topic)
        if known is not None:
            return known
        if topic in self._session.cluster.topics:
            await self._run(refresh(self._session, [topic], self._deadline()))
        return await self.partition_count(topic)

    def _known_count(self, topic: str) -> int | None:
        """The partition count, if it need not be asked for."""
        session = self._session
        route = session.cluster.topics.get(topic)
        if route is None or session.clock() - route.fetched_at > session.options.metadata_age_s_max:
            return None
        return len(route.partitions)

    async def _wait_for_room(self, size_bytes: int) -> None:
        while not self._core.accumulator.has_room(size_bytes):
            self._background.work.notify()
            await self._background.room.wait()
            if self._closed:
                raise ClientClosedError("this AsyncProducer was closed while it waited for room")
