"""The blocking consumer: requests go out and answers come in within the caller's own calls."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from streambus_client._blocking._connection import BlockingConnection
from streambus_client._blocking._driver import BlockingClient
from streambus_client._blocking._flight import Flight, QuickFetch, readable
from streambus_client._consuming import ConsumerCore, all_offsets, query_for
from streambus_client._options import ClientOptions, ConsumerOptions, OutOfRange, Start, check_start
from streambus_client._quick_fetch import FetchTemplate
from streambus_client._types import Record, RecordColumns, TopicPartition
from streambus_client.errors import (
    BrokerUnreachableError,
    ClientClosedError,
    ClientError,
    ConnectionLostError,
    InvalidArgumentError,
    RequestTimedOutError,
)
from streambus_protocol import EARLIEST, LATEST, ApiKey, plain_fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from random import Random

    from streambus_client._connection import Answer
    from streambus_client._fetcher import FetchCall
    from streambus_client._partition_reader import PartitionReader


class Consumer(BlockingClient):
    """Reads records from topics. For one thread at a time.

    Records of one partition come in the order of their offsets; partitions take turns. While the
    caller works on what it got, the next request is already under way, up to
    ``prefetch_bytes_max``. A broker that goes away and comes back costs a pause, no record.

    Use it as a context manager, or close it.

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
        self._quick: QuickFetch | None = None
        self._unreachable: BrokerUnreachableError | None = None
        self._core = ConsumerCore(self._session, self._options)
        self._connections: dict[int, BlockingConnection] = {}
        self._flights: dict[int, Flight] = {}
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

    def seek(self, topic: str, partition: int, to: Start) -> None:
        """Go on reading a partition elsewhere; what was fetched of it is dropped.

        Args:
            topic: of the partition.
            partition: an assigned one.
            to: as ``start`` of the constructor.

        Raises:
            InvalidArgumentError: no place to start, or a partition that is not assigned.
        """
        self._settled_for(topic, partition)
        self._core.seek(topic, partition, to)

    def positions(self) -> dict[TopicPartition, int]:
        """For each partition the offset of the next record that the caller will get.

        Raises:
            BrokerUnreachableError: starts have to be resolved first, and no broker answered.
        """
        self._settle(self._deadline())
        self._core.fetcher.raise_failure()
        self._raise_unreachable()
        return {
            where: reader.position
            for where, reader in self._core.fetcher.readers.items()
            if reader.start is None
        }

    def pause(self, *partitions: TopicPartition | tuple[str, int]) -> None:
        """Stop reading these partitions, or all; what was fetched of them is kept.

        Raises:
            InvalidArgumentError: one is not assigned.
        """
        self._set_paused(partitions, paused=True)

    def resume(self, *partitions: TopicPartition | tuple[str, int]) -> None:
        """Go on reading these partitions, or all.

        Raises:
            InvalidArgumentError: one is not assigned.
        """
        self._set_paused(partitions, paused=False)

    def earliest(self) -> dict[TopicPartition, int]:
        """For each partition the offset of the first record kept.

        Raises:
            ClientError: brokers or topics could not be found.
        """
        return self._offsets(EARLIEST)

    def latest(self) -> dict[TopicPartition, int]:
        """For each partition the offset that the next record will get: the end at this moment.

        Raises:
            ClientError: brokers or topics could not be found.
        """
        return self._offsets(LATEST)

    def offsets_at(self, time: Start) -> dict[TopicPartition, int]:
        """For each partition the first offset at or after a time; the end where there is none.

        Raises:
            InvalidArgumentError: not a time or an end.
            ClientError: brokers or topics could not be found.
        """
        check_start(time)
        query = query_for(time)
        if query is None:
            raise InvalidArgumentError("time", f"is {time!r}; use a Timestamp or an aware datetime")
        return self._offsets(query)

    # --- Records ----------------------------------------------------------------------------------

    def poll(self, max_records: int = 500, timeout: float = 1.0) -> list[Record]:
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
        quick = self._quick
        if quick is not None and timeout > 0 and not self._flights:
            began = time.monotonic()
            if self._may_fetch_quickly(quick, began):
                record = self._fetch_quickly(quick, timeout, fetcher.took_one)
                if record is not None:
                    if self._options.prefetch_bytes_max:
                        self._send_due()
                    return [record]
                timeout -= time.monotonic() - began
        if fetcher.has_records() or self._wait(timeout):
            records = fetcher.take_records(max_records)
            if self._options.prefetch_bytes_max:
                self._send_due()
            return records
        return []

    def batches(self, timeout: float | None = None) -> Iterator[RecordColumns]:
        """Go through the records a batch at a time, as columns: the fast way.

        Args:
            timeout: end when nothing came for so many seconds; None goes on for ever.

        Raises:
            ClientError: as for ``poll``.
        """
        fetcher = self._core.fetcher
        patience_s = self._session.options.request_timeout_s if timeout is None else timeout
        while True:
            self._check_open()
            if not fetcher.has_records() and not self._wait(patience_s):
                if timeout is None:
                    continue
                return
            if self._options.prefetch_bytes_max:
                self._send_due()
            columns = fetcher.take_columns()
            if columns is not None:
                yield columns

    def __iter__(self) -> Iterator[Record]:
        """Go through the records, for ever. After ``break``, poll or iterate on: none is lost."""
        patience_s = self._session.options.request_timeout_s
        while True:
            self._check_open()
            fetcher = self._core.fetcher
            if fetcher.has_records() or self._wait(patience_s):
                if self._options.prefetch_bytes_max:
                    self._send_due()
                while (record := fetcher.take_one()) is not None:
                    yield record

    def close(self) -> None:
        """Close the connections; any number of times."""
        super().close()
        self._flights.clear()
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    # --- The machinery ----------------------------------------------------------------------------

    def _wait(self, timeout: float) -> bool:
        """Ask and receive until there is a record or the time is over."""
        fetcher, clock = self._core.fetcher, time.monotonic
        deadline = clock() + timeout
        if timeout > 0 and not self._flights:
            quick = self._quick
            if quick is None or not self._may_fetch_quickly(quick, deadline - timeout):
                quick = self._prepare_quickly(deadline - timeout)
            if quick is not None:
                self._fetch_quickly(quick, timeout, fetcher.took)
                if fetcher.has_records():
                    return True
        left_s = deadline - clock()
        while True:
            fetcher.raise_failure()
            self._settle(deadline)
            fetcher.raise_failure()
            self._send_due()
            if self._flights:
                self._receive(self._patience_s(left_s))
                self._look_after_overdue()
            else:
                self._idle(left_s)
            if fetcher.has_records():
                return True
            left_s = deadline - clock()
            if left_s <= 0:
                fetcher.raise_failure()
                self._raise_unreachable()
                return False

    def _may_fetch_quickly(self, quick: QuickFetch, now: float) -> bool:
        """Whether a prepared request still is what the general way would send now."""
        reader = self._core.fetcher.lone_reader()
        return (
            reader is not None
            and quick.serves(reader, self._session.cluster.changes, now)
            and not self._core.needs_settling(now)
        )

    def _fetch_quickly(
        self,
        quick: QuickFetch,
        timeout_s: float,
        take: Callable[[PartitionReader, int, bytes], Record | None],
    ) -> Record | None:
        """Fetch a lone partition by a prepared request, and give what ``take`` makes of the answer.

        Where the answer is late or out of the ordinary, the request stays under way as any other.
        """
        connection, reader, began = quick.connection, quick.reader, time.monotonic()
        timeout_s = min(timeout_s, self._core.fetcher.overdue_s())
        correlation_id = connection.core.next_id()
        frame = quick.template.frame(correlation_id, reader.fetch_offset)
        try:
            data = connection.exchange(frame, timeout_s)
        except ConnectionLostError:
            return None
        fetched = None if data is None else quick.answer.read(data, correlation_id)
        if fetched is not None:
            return take(reader, *fetched)
        connection.core.expect(correlation_id, ApiKey.FETCH)
        call = self._core.fetcher.began(reader, quick.node, began)
        flight = self._flight(call, connection, began)
        if data is not None:
            self._arrived(flight, lambda: connection.receive_first(data))
        return None

    def _prepare_quickly(self, now: float) -> QuickFetch | None:
        """Prepare a lone partition's request, if there is one, and a connection to its broker."""
        self._quick = None
        fetcher, cluster = self._core.fetcher, self._session.cluster
        reader = fetcher.lone_reader()
        if reader is None or self._core.needs_settling(now):
            return None
        node = fetcher.node_for(reader, now)
        connection = None if node is None else self._connections.get(node)
        if node is None or connection is None or connection.closed:
            return None
        if connection.core.broker is None:
            return None
        version = connection.core.version(ApiKey.FETCH)
        template = FetchTemplate(fetcher.request([reader], now), version)
        answer, until = plain_fetched(version), reader.place.settled_until(now)
        self._quick = QuickFetch(reader, node, connection, template, answer, cluster.changes, until)
        return self._quick

    def _raise_unreachable(self) -> None:
        """Raise if no broker was ever reached; a loss after that is waited out."""
        if self._unreachable is not None:
            raise self._unreachable

    def _patience_s(self, left_s: float) -> float:
        """How long one receive may wait: something else may become due earlier."""
        now = time.monotonic()
        due = self._core.fetcher.next_due(now)
        if due is not None:
            left_s = min(left_s, due - now)
        for flight in self._flights.values():
            left_s = min(left_s, flight.looks.at - now)
        return max(left_s, 0.0)

    def _look_after_overdue(self) -> None:
        """Give up what is overdue where another broker is to be asked by now."""
        now, fetcher = time.monotonic(), self._core.fetcher
        overdue = [flight for flight in self._flights.values() if flight.looks.at <= now]
        if not overdue:
            return
        self._run(self._core.look_around([flight.call for flight in overdue]))
        now = time.monotonic()
        for flight in overdue:
            flight.looks.done(now)
            if fetcher.has_moved(flight.call, now):
                flight.connection.close()
                moved = ConnectionLostError(flight.connection.name, "it does not answer")
                del self._flights[flight.call.node_id]
                fetcher.failed(flight.call, moved, now)

    def _idle(self, left_s: float) -> None:
        now = time.monotonic()
        due = self._core.fetcher.next_due(now)
        wait_s = left_s if due is None else min(left_s, due - now)
        if wait_s > 0:
            time.sleep(min(wait_s, self._session.options.backoff.max_s))

    def _settle(self, deadline: float) -> None:
        now = time.monotonic()
        if not self._core.needs_settling(now):
            return
        bounded = min(max(deadline, now + 0.2), now + self._session.options.request_timeout_s)
        try:
            self._run(self._core.settle(bounded))
        except BrokerUnreachableError as error:
            self._unreachable = error
        else:
            self._unreachable = None

    def _settled_for(self, topic: str, partition: int) -> None:
        """A seek right after ``subscribe`` needs the assignment, which needs metadata."""
        if TopicPartition(topic, partition) not in self._core.fetcher.readers:
            self._settle(self._deadline())

    def _send_due(self) -> None:
        """Send every request that should be under way."""
        now = time.monotonic()
        for call in self._core.fetcher.plan(now):
            try:
                connection = self._connection(call.node_id)
                connection.begin(call.request)
            except ClientError as error:
                self._core.fetcher.failed(call, error, time.monotonic())
                continue
            self._flight(call, connection, time.monotonic())

    def _flight(self, call: FetchCall, connection: BlockingConnection, began: float) -> Flight:
        """Note that a request is under way since a time."""
        wait_s = self._options.fetch_wait_ms / 1000 + self._session.options.request_timeout_s
        overdue_at = began + self._core.fetcher.overdue_s()
        flight = Flight(call, connection, overdue_at, began + wait_s)
        self._flights[call.node_id] = flight
        return flight

    def _receive(self, timeout_s: float) -> None:
        """Receive once from whoever has something, waiting for the first."""
        if len(self._flights) == 1:
            ready = list(self._flights.values())
        else:
            ready = readable(list(self._flights.values()), max(timeout_s, 0.0))
            timeout_s = 0.0
        for flight in ready:
            self._arrived(flight, partial(flight.connection.receive, timeout_s))

    def _arrived(self, flight: Flight, receive: Callable[[], list[Answer]]) -> None:
        """Take in what ``receive`` gives of a flight: nothing yet, the answer, or its end."""
        node, fetcher = flight.call.node_id, self._core.fetcher
        try:
            answers = receive()
            now = time.monotonic()
            if not answers and now >= flight.deadline:
                flight.connection.close()
                raise RequestTimedOutError(f"{flight.connection.name} did not answer a fetch")
        except ClientError as error:
            del self._flights[node]
            fetcher.failed(flight.call, error, time.monotonic())
            return
        except BaseException:
            self._forget_flights()
            raise
        for answer in answers:
            del self._flights[node]
            if answer.error is not None:
                fetcher.failed(flight.call, answer.error, now)
            else:
                fetcher.answered(flight.call, answer.message, now)

    def _forget_flights(self) -> None:
        """After an interruption the streams may be out of step: begin them anew."""
        for node, flight in list(self._flights.items()):
            flight.connection.close()
            lost = ConnectionLostError(flight.connection.name, "interrupted")
            self._core.fetcher.failed(flight.call, lost, time.monotonic())
            del self._flights[node]

    def _connection(self, node: int) -> BlockingConnection:
        connection = self._connections.get(node)
        session = self._session
        address = session.cluster.brokers.get(node)
        if address is None:
            raise ConnectionLostError(f"broker {node}", "it left the cluster")
        if connection is None or connection.closed or connection.address != address:
            if connection is not None:
                connection.close()
            connection = BlockingConnection(
                address,
                session.options,
                session.cluster.cluster_id,
                min(self._core.fetcher.connect_timeout_s(node), session.options.request_timeout_s),
                lambda opening: self._connections.__setitem__(node, opening),
            )
        return connection

    def _offsets(self, query: int) -> dict[TopicPartition, int]:
        deadline = self._deadline()
        assigned = list(self._core.fetcher.readers)
        return self._run(all_offsets(self._session, self._core.topics, assigned, query, deadline))

    def _set_paused(
        self, partitions: Sequence[TopicPartition | tuple[str, int]], *, paused: bool
    ) -> None:
        if not partitions:
            for reader in self._core.fetcher.readers.values():
                reader.paused = paused
            return
        for topic, partition in partitions:
            self._settled_for(topic, partition)
        readers = [self._core.reader(topic, partition) for topic, partition in partitions]
        for reader in readers:
            reader.paused = paused

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("this Consumer is closed")
