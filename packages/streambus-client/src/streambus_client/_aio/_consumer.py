"""The async consumer: requests go out within the caller's calls, answers come in beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from streambus_client._aio._connection import AsyncConnectionPool, Reply
from streambus_client._aio._driver import AsyncClient
from streambus_client._aio._signal import Signal
from streambus_client._consuming import ConsumerCore, all_offsets, query_for
from streambus_client._operations import Looks
from streambus_client._options import ClientOptions, ConsumerOptions, OutOfRange, Start, check_start
from streambus_client._types import Record, RecordColumns, TopicPartition
from streambus_client.errors import (
    BrokerUnreachableError,
    ClientError,
    ConnectionLostError,
    InvalidArgumentError,
    RequestTimedOutError,
)
from streambus_protocol import EARLIEST, LATEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from random import Random

    from streambus_client._aio._connection import AsyncConnection
    from streambus_client._fetcher import FetchCall


class _Flight:
    """A fetch under way, as in the blocking shell."""

    __slots__ = ("call", "connection", "deadline", "looks", "reply")

    def __init__(
        self,
        call: FetchCall,
        connection: AsyncConnection,
        reply: Reply,
        overdue_at: float,
        deadline: float,
    ) -> None:
        self.call = call
        self.connection = connection
        self.reply = reply
        self.looks = Looks(overdue_at)
        self.deadline = deadline


class AsyncConsumer(AsyncClient):
    """Reads records from topics. For one task at a time; inside ``async with`` only.

    Records of one partition come in the order of their offsets; partitions take turns. While the
    caller works on what it got, the next request is already under way, up to
    ``prefetch_bytes_max``. A broker that goes away and comes back costs a pause, no record.

    Args:
        brokers: ``"host:port,host:port"``, or a sequence of such strings; any of the cluster.
        topics: a name or several, to read whole; None, to ``subscribe`` or ``assign`` later.
        start: where to begin: "earliest", "latest", an offset, a ``Timestamp`` or an aware
            ``datetime`` (the first record at or after it).
        out_of_range: at an offset that the log does not have: "error" raises
            ``OffsetOutOfRangeError``; "earliest" and "latest" go on there.
        fetch_wait_ms: how long a broker waits for ``fetch_bytes_min`` before it answers.
        fetch_bytes_min: fewer bytes than this are worth waiting for more.
        fetch_bytes_max: of one answer; one batch always fits.
        partition_bytes_max: of one partition in it.
        prefetch_bytes_max: fetched ahead of the caller; 0 asks only within the caller's calls.
        request_timeout_ms: for one request, beyond ``fetch_wait_ms``.
        connect_timeout_ms: for one connection.
        retry_backoff_ms: the first pause after a failure; it doubles.
        retry_backoff_ms_max: the longest.
        metadata_age_ms_max: new partitions are noticed after this, at the latest.
        client_rack: where this program stands, as the brokers' ``rack`` says where they do: records
            are then read from an in-sync replica there, if there is one; empty reads from leaders.
        client_id: how the brokers' logs name this client.
        random: the dice of jitter; give a seeded one to repeat a run.

    Raises:
        InvalidArgumentError: a value cannot be used. Nothing is connected before the first call.
    """

    def __init__(
        self,
        brokers: str | Sequence[str],
        topics: str | Sequence[str] | None = None,
        *,
        start: Start = "latest",
        out_of_range: OutOfRange = "error",
        fetch_wait_ms: int = 500,
        fetch_bytes_min: int = 1,
        fetch_bytes_max: int = 8 * 1024 * 1024,
        partition_bytes_max: int = 2 * 1024 * 1024,
        prefetch_bytes_max: int = 16 * 1024 * 1024,
        request_timeout_ms: float = 30_000,
        connect_timeout_ms: float = 10_000,
        retry_backoff_ms: float = 50,
        retry_backoff_ms_max: float = 1_000,
        metadata_age_ms_max: float = 300_000,
        client_rack: str = "",
        client_id: str = "streambus",
        random: Random | None = None,
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
        self._options = ConsumerOptions.make(
            start=start,
            out_of_range=out_of_range,
            fetch_wait_ms=fetch_wait_ms,
            fetch_bytes_min=fetch_bytes_min,
            fetch_bytes_max=fetch_bytes_max,
            partition_bytes_max=partition_bytes_max,
            prefetch_bytes_max=prefetch_bytes_max,
            client_rack=client_rack,
        )
        self._unreachable: BrokerUnreachableError | None = None
        self._core = ConsumerCore(self._session, self._options)
        self._fetch_pool = AsyncConnectionPool(self._session.options)
        self._flights: dict[int, _Flight] = {}
        self._arrived = Signal()
        if topics is not None:
            self._core.subscribe(topics)

    # --- What to read -----------------------------------------------------------------------------

    def subscribe(self, topics: str | Sequence[str]) -> None:
        """Read these topics whole, and no others; partitions added later are noticed.

        Raises:
            InvalidArgumentError: no topic is named.
        """
        self._core.subscribe(topics)

    def assign(self, partitions: Iterable[TopicPartition | tuple[str, int]]) -> None:
        """Read exactly these partitions; replaces a subscription.

        Partitions that were read before go on where they were.
        """
        self._core.assign(partitions)

    def assignment(self) -> list[TopicPartition]:
        """The partitions that are read. Those of a subscription appear with the first poll."""
        return list(self._core.fetcher.readers)

    async def seek(self, topic: str, partition: int, to: Start) -> None:
        """Go on reading a partition elsewhere; what was fetched of it is dropped.

        Args:
            topic: of the partition.
            partition: an assigned one.
            to: as ``start`` of the constructor.

        Raises:
            InvalidArgumentError: no place to start, or a partition that is not assigned.
        """
        await self._settled_for(topic, partition)
        self._core.seek(topic, partition, to)

    async def positions(self) -> dict[TopicPartition, int]:
        """For each partition the offset of the next record that the caller will get.

        Raises:
            BrokerUnreachableError: starts have to be resolved first, and no broker answered.
        """
        await self._settle(self._deadline())
        self._core.fetcher.raise_failure()
        self._raise_unreachable()
        return {
            where: reader.position
            for where, reader in self._core.fetcher.readers.items()
            if reader.start is None
        }

    async def pause(self, *partitions: TopicPartition | tuple[str, int]) -> None:
        """Stop reading these partitions, or all; what was fetched of them is kept.

        Raises:
            InvalidArgumentError: one is not assigned.
        """
        await self._set_paused(partitions, paused=True)

    async def resume(self, *partitions: TopicPartition | tuple[str, int]) -> None:
        """Go on reading these partitions, or all.

        Raises:
            InvalidArgumentError: one is not assigned.
        """
        await self._set_paused(partitions, paused=False)

    async def earliest(self) -> dict[TopicPartition, int]:
        """For each partition the offset of the first record kept.

        Raises:
            ClientError: brokers or topics could not be found.
        """
        return await self._offsets(EARLIEST)

    async def latest(self) -> dict[TopicPartition, int]:
        """For each partition the offset that the next record will get: the end at this moment.

        Raises:
            ClientError: brokers or topics could not be found.
        """
        return await self._offsets(LATEST)

    async def offsets_at(self, time: Start) -> dict[TopicPartition, int]:
        """For each partition the first offset at or after a time; the end where there is none.

        Raises:
            InvalidArgumentError: not a time or an end.
            ClientError: brokers or topics could not be found.
        """
        check_start(time)
        query = query_for(time)
        if query is None:
            raise InvalidArgumentError("time", f"is {time!r}; use a Timestamp or an aware datetime")
        return await self._offsets(query)

    # --- Records ----------------------------------------------------------------------------------

    async def poll(self, max_records: int = 500, timeout: float = 1.0) -> list[Record]:
        """Get records: those that are there, or the first that come.

        Args:
            max_records: at most so many, 1 or more.
            timeout: seconds to wait if there is none; 0 only looks.

        Returns:
            Records of one or several partitions; an empty list when the time is over.

        Raises:
            OffsetOutOfRangeError: see ``out_of_range``.
            TopicNotFoundError, PartitionNotFoundError: what is read does not exist.
            BrokerUnreachableError: no broker has ever been reached. Later losses only cost time.
            ProtocolViolationError: a batch is damaged. The position stays before it.
        """
        if max_records < 1:
            raise InvalidArgumentError("max_records", f"is {max_records}; use 1 or more")
        self._check_open()
        fetcher = self._core.fetcher
        if fetcher.has_records() or await self._wait(timeout):
            records = fetcher.take_records(max_records)
            if self._options.prefetch_bytes_max:
                await self._send_due()
            return records
        return []

    def batches(self, timeout: float | None = None) -> AsyncIterator[RecordColumns]:
        """Go through the records a batch at a time, as columns: the fast way.

        Args:
            timeout: end when nothing came for so many seconds; None goes on for ever.

        Raises:
            ClientError: as for ``poll``, while iterating.
        """
        return _Batches(self, timeout)

    def __aiter__(self) -> AsyncConsumer:
        """Go through the records, for ever. After ``break``, poll or iterate on: none is lost."""
        return self

    async def __anext__(self) -> Record:
        fetcher = self._core.fetcher
        while True:
            self._check_open()
            record = fetcher.take_one()
            if record is not None:
                return record
            await self._wait(self._session.options.request_timeout_s)
            if self._options.prefetch_bytes_max:
                await self._send_due()

    # --- The machinery ----------------------------------------------------------------------------

    async def _shut(self) -> None:
        await super()._shut()
        await self._fetch_pool.close()
        self._flights.clear()

    async def next_columns(self, timeout: float | None) -> RecordColumns | None:
        """The next batch; None when nothing came for ``timeout`` seconds."""
        fetcher = self._core.fetcher
        patience_s = self._session.options.request_timeout_s if timeout is None else timeout
        while True:
            self._check_open()
            if not fetcher.has_records() and not await self._wait(patience_s):
                if timeout is None:
                    continue
                return None
            if self._options.prefetch_bytes_max:
                await self._send_due()
            columns = fetcher.take_columns()
            if columns is not None:
                return columns

    async def _wait(self, timeout_s: float) -> bool:
        """Ask and receive until there is a record or the time is over."""
        fetcher = self._core.fetcher
        deadline = self._session.clock() + timeout_s
        while True:
            fetcher.raise_failure()
            await self._settle(deadline)
            fetcher.raise_failure()
            # What has come already, or is given up, leaves its broker free to be asked.
            await self._look_after_overdue()
            self._collect()
            await self._send_due()
            left_s = deadline - self._session.clock()
            if not fetcher.has_records() and left_s > 0:
                if not any(flight.reply.done for flight in self._flights.values()):
                    await self._arrived.wait(self._patience_s(left_s))
                self._collect()
            elif left_s <= 0:
                await anyio.lowlevel.checkpoint()
                self._collect()
            if fetcher.has_records():
                return True
            if deadline <= self._session.clock():
                fetcher.raise_failure()
                self._raise_unreachable()
                return False

    def _raise_unreachable(self) -> None:
        """Raise if no broker was ever reached; a loss after that is waited out."""
        if self._unreachable is not None:
            raise self._unreachable

    def _patience_s(self, left_s: float) -> float:
        """How long one wait may be: something else may become due earlier."""
        now = self._session.clock()
        due = self._core.fetcher.next_due(now)
        wait_s = left_s if due is None else max(min(left_s, due - now), 0.001)
        if not self._flights:
            return min(wait_s, self._session.options.backoff.max_s)
        first = min(min(each.deadline, each.looks.at) for each in self._flights.values())
        return max(min(wait_s, first - now), 0.001)

    async def _settle(self, deadline: float) -> None:
        now = self._session.clock()
        if not self._core.needs_settling(now):
            return
        bounded = min(max(deadline, now + 0.2), now + self._session.options.request_timeout_s)
        try:
            await self._run(self._core.settle(bounded))
        except BrokerUnreachableError as error:
            self._unreachable = error
        else:
            self._unreachable = None

    async def _settled_for(self, topic: str, partition: int) -> None:
        """A seek right after ``subscribe`` needs the assignment, which needs metadata."""
        if TopicPartition(topic, partition) not in self._core.fetcher.readers:
            await self._settle(self._deadline())

    async def _send_due(self) -> None:
        """Send every request that should be under way."""
        fetcher, session = self._core.fetcher, self._session
        for call in fetcher.plan(self._session.clock()):
            try:
                address = session.cluster.brokers.get(call.node_id)
                if address is None:
                    raise ConnectionLostError(f"broker {call.node_id}", "it left the cluster")
                connection = await self._fetch_pool.connect(
                    address,
                    session.cluster.cluster_id,
                    self._open_tasks(),
                    min(fetcher.connect_timeout_s(call.node_id), session.options.request_timeout_s),
                )
                reply = await connection.begin(call.request, on_done=self._arrived.notify)
            except ClientError as error:
                fetcher.failed(call, error, self._session.clock())
                continue
            except BaseException:
                interrupted = ConnectionLostError(f"broker {call.node_id}", "interrupted")
                fetcher.failed(call, interrupted, self._session.clock())
                raise
            wait_s = self._options.fetch_wait_ms / 1000 + session.options.request_timeout_s
            now = self._session.clock()
            self._flights[call.node_id] = _Flight(
                call, connection, reply, now + fetcher.overdue_s(), now + wait_s
            )

    async def _look_after_overdue(self) -> None:
        """Give up what is overdue where another broker is to be asked by now."""
        now, fetcher = self._session.clock(), self._core.fetcher
        overdue = [
            each for each in self._flights.values()
            if not each.reply.done and each.looks.at <= now
        ]  # fmt: skip
        if not overdue:
            return
        await self._run(self._core.look_around([flight.call for flight in overdue]))
        now = self._session.clock()
        for flight in overdue:
            flight.looks.done(now)
            if not flight.reply.done and fetcher.has_moved(flight.call, now):
                await flight.connection.close("it does not answer")

    def _collect(self) -> None:
        """Take in every answer that has come."""
        now = self._session.clock()
        for node, flight in list(self._flights.items()):
            if not flight.reply.done:
                if now < flight.deadline:
                    continue
                late = RequestTimedOutError(f"{flight.connection.name} did not answer a fetch")
                flight.connection.closed = True
                flight.reply.end(None, late)
            del self._flights[node]
            try:
                answer = flight.reply.message()
            except ClientError as error:
                self._core.fetcher.failed(flight.call, error, now)
            else:
                self._core.fetcher.answered(flight.call, answer, now)

    async def _offsets(self, query: int) -> dict[TopicPartition, int]:
        deadline = self._deadline()
        assigned = list(self._core.fetcher.readers)
        operation = all_offsets(self._session, self._core.topics, assigned, query, deadline)
        return await self._run(operation)

    async def _set_paused(
        self, partitions: Sequence[TopicPartition | tuple[str, int]], *, paused: bool
    ) -> None:
        if not partitions:
            for reader in self._core.fetcher.readers.values():
                reader.paused = paused
            return
        for topic, partition in partitions:
            await self._settled_for(topic, partition)
        readers = [self._core.reader(topic, partition) for topic, partition in partitions]
        for reader in readers:
            reader.paused = paused


class _Batches:
    """The iterator behind ``AsyncConsumer.batches``: it needs no clean-up when it is left."""

    __slots__ = ("_consumer", "_timeout")

    def __init__(self, consumer: AsyncConsumer, timeout: float | None) -> None:
        self._consumer = consumer
        self._timeout = timeout

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> RecordColumns:
        columns = await self._consumer.next_columns(self._timeout)
        if columns is None:
            raise StopAsyncIteration
        return columns
