"""What a consumer reads next: positions, fetch requests, and the records that wait to be taken.

Rules:
    1. Pure, and not thread-safe.
    2. A partition has a *position*, the offset of the next record that the caller gets, and a
       *fetch offset*, where the next request goes on; between them lie the fetched batches.
    3. A seek, a new assignment, or a reset begins a new *generation* of the partition: answers to
       requests of an older one are dropped.
    4. A broker answers a fetch within ``fetch_wait_ms``. One that is overdue may be paused or cut
       off: others are asked who leads by now, and if it is not the same broker any more, it is
       given up (``has_moved``). As long as it is, its answer is waited for.
    5. A partition is read from its leader, or where that sends the consumer on (``_read_place``).
       One request per broker is under way at a time. Paused partitions are not asked for, and what
       was fetched of them stays.
    6. A batch is opened, and its checksum verified, when its records are taken.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streambus_client._cluster import NO_NODE
from streambus_client._open_batch import OpenBatch
from streambus_client._operations import OVERDUE_S, connect_patience_s
from streambus_client._partition_reader import PartitionReader
from streambus_client._read_place import ReadPlace
from streambus_client._types import Record
from streambus_client.errors import (
    BrokerError,
    ClientError,
    OffsetOutOfRangeError,
    ProtocolViolationError,
    error_for,
)
from streambus_protocol import (
    BatchFlags,
    ErrorCode,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    decode_columns,
    iterate_batches,
    read_lone_record,
)
from streambus_protocol.errors import BatchError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streambus_client._backoff import Backoff
    from streambus_client._operations import Session
    from streambus_client._options import ConsumerOptions, Start
    from streambus_client._types import RecordColumns, TopicPartition

_FOLLOW_LEADER = frozenset({ErrorCode.UNKNOWN_TOPIC, ErrorCode.UNKNOWN_PARTITION})
"""Codes that may only mean that the metadata is old: asked again before they are believed."""

_CONTROL = int(BatchFlags.CONTROL)
_new_tuple = tuple.__new__


@dataclass(frozen=True, slots=True)
class FetchCall:
    """One request for one broker, and which partitions of which generation it is for."""

    node_id: int
    request: FetchRequest
    readers: tuple[tuple[PartitionReader, int], ...]


class Fetcher:
    """All assigned partitions of one consumer.

    Args:
        session: for the cluster and the backoff.
        options: of the consumer.
    """

    def __init__(self, session: Session, options: ConsumerOptions) -> None:
        self._session = session
        self._options = options
        self._readers: dict[TopicPartition, PartitionReader] = {}
        self._busy: set[int] = set()
        self._node_blocked_until: dict[int, float] = {}
        self._node_backoffs: dict[int, Backoff] = {}
        self._turn: deque[PartitionReader] = deque()
        self._open: tuple[PartitionReader, int, OpenBatch] | None = None
        self._failure: ClientError | None = None
        self._place_s = session.options.metadata_age_s_max
        self._calm = True  # nothing waits for a pause to end
        self.changes = 0  # counts assignments and seeks

    @property
    def readers(self) -> dict[TopicPartition, PartitionReader]:
        """The assigned partitions."""
        return self._readers

    def assign(self, partitions: Iterable[TopicPartition], start: Start) -> None:
        """Read these partitions and no others; those that stay keep position and buffer."""
        self.changes += 1
        wanted = dict.fromkeys(partitions)
        for gone in [where for where in self._readers if where not in wanted]:
            self._readers.pop(gone)._drop()
        for where in wanted:
            if where not in self._readers:
                backoff, place = self._session.backoff(), ReadPlace(self._session.patient_backoff())
                self._readers[where] = PartitionReader(where, start, backoff, place)
        self._turn = deque(self._readers.values())

    def unresolved(self, now: float) -> list[PartitionReader]:
        """Partitions whose start is not an offset yet."""
        return [
            reader
            for reader in self._readers.values()
            if reader.start is not None and reader.blocked_until <= now
        ]

    def raise_failure(self) -> None:
        """Raise, once, what reading cannot go on from without the caller's decision."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # --- Requests ---------------------------------------------------------------------------------

    def topics_without_leader(self, now: float) -> list[str]:
        """Topics whose metadata is needed before their partitions can be asked for."""
        cluster = self._session.cluster
        return sorted(
            {
                reader.where.topic
                for reader in self._readers.values()
                if reader.blocked_until <= now and cluster.leader(reader.where) is None
            }
        )

    def plan(self, now: float) -> list[FetchCall]:
        """The requests that should be under way and are not."""
        wanted: dict[int, list[PartitionReader]] = {}
        held = 0
        for reader in self._turn:
            held += reader.buffered_bytes
        if held >= max(self._options.prefetch_bytes_max, 1):
            return []
        for reader in self._turn:
            if not self._askable(reader, now):
                continue
            node = self.node_for(reader, now)
            if node is None or node in self._busy or self._node_blocked_until.get(node, 0.0) > now:
                continue
            readers = wanted.setdefault(node, [])
            if readers and (
                readers[0].place.keeps_to_leader(now) != reader.place.keeps_to_leader(now)
            ):
                continue  # they are asked for with a rack, or without: next time it comes first
            readers.append(reader)
        self._turn.rotate(-1)
        return [self._call(node, readers, now) for node, readers in wanted.items()]

    def node_for(self, reader: PartitionReader, now: float) -> int | None:
        """Whom to ask for this partition; None if its leader is not known."""
        cluster = self._session.cluster
        leader = cluster.leader(reader.where)
        if leader is None or reader.place.replica == NO_NODE:
            return leader
        return reader.place.choose(leader, cluster.leader_epoch(reader.where), now)

    def connect_timeout_s(self, node: int) -> float:
        """How long connecting to a broker may take: others may be asked instead, and then again."""
        backoff = self._node_backoffs.get(node)
        patience_s = connect_patience_s(0 if backoff is None else backoff.failures)
        return min(self._session.options.connect_timeout_s, patience_s)

    def overdue_s(self) -> float:
        """How long after it was asked a broker is overdue."""
        return self._options.fetch_wait_ms / 1000 + OVERDUE_S

    def has_moved(self, call: FetchCall, now: float) -> bool:
        """Whether another broker is to be asked by now, of anything that a call is about."""
        if call.node_id not in self._session.cluster.brokers:
            return True
        return any(
            self.node_for(reader, now) not in (call.node_id, None)
            for reader, generation in call.readers
            if reader.generation == generation
        )

    def lone_reader(self) -> PartitionReader | None:
        """The only assigned partition, if it can be asked for at once; else None."""
        if len(self._turn) != 1 or not self._calm or self._busy or self._open is not None:
            return None
        reader = self._turn[0]
        if reader.start is not None or reader.paused or reader.under_way or reader.batches:
            return None
        return reader

    def began(self, reader: PartitionReader, node: int, now: float) -> FetchCall:
        """A request for this partition alone is under way to a broker."""
        return self._call(node, [reader], now)

    def took(self, reader: PartitionReader, high_watermark: int, batches: bytes) -> None:
        """Take in what a lone partition was answered."""
        reader.high_watermark = high_watermark
        if batches:
            self._keep(reader, batches)

    def took_one(
        self, reader: PartitionReader, high_watermark: int, batches: bytes
    ) -> Record | None:
        """As ``took``; a single plain record is handed out at once, and not kept."""
        record = read_lone_record(batches)
        if record is None or record[0] < reader.fetch_offset:
            self.took(reader, high_watermark, batches)
            return None
        offset, timestamp_ms, key, value = record
        reader.high_watermark = high_watermark
        reader.position = reader.fetch_offset = offset + 1
        topic, partition = reader.where
        taken: Record = _new_tuple(Record, (topic, partition, offset, timestamp_ms, key, value, ()))
        return taken

    def next_due(self, now: float) -> float | None:
        """When a partition or broker that failed is to be asked again; None if none waits."""
        if self._calm:
            return None
        times = [reader.blocked_until for reader in self._readers.values() if not reader.paused]
        times += self._node_blocked_until.values()
        due = min((time for time in times if time > now), default=None)
        self._calm = due is None
        return due

    def _askable(self, reader: PartitionReader, now: float) -> bool:
        return (
            reader.start is None
            and not reader.paused
            and not reader.under_way
            and reader.blocked_until <= now
        )

    def request(self, readers: list[PartitionReader], now: float) -> FetchRequest:
        """Ask for these partitions from where they are."""
        options = self._options
        rack = options.client_rack
        if rack is not None and readers[0].place.keeps_to_leader(now):
            rack = None
        asked = tuple(
            FetchPartition(
                reader.where.topic,
                reader.where.partition,
                reader.fetch_offset,
                self._session.cluster.leader_epoch(reader.where),
                options.partition_bytes_max,
            )
            for reader in readers
        )
        return FetchRequest(
            options.fetch_wait_ms, options.fetch_bytes_min, options.fetch_bytes_max, asked, rack
        )

    def _call(self, node: int, readers: list[PartitionReader], now: float) -> FetchCall:
        request = self.request(readers, now)
        self._busy.add(node)
        for reader in readers:
            reader.under_way = True
        return FetchCall(node, request, tuple((reader, reader.generation) for reader in readers))

    # --- Answers ----------------------------------------------------------------------------------

    def answered(self, call: FetchCall, answer: FetchResponse, now: float) -> None:
        """Take in what a broker sent."""
        self._busy.discard(call.node_id)
        self._node_backoffs.pop(call.node_id, None)
        if len(answer.partitions) != len(call.readers):
            violation = ProtocolViolationError(
                "a broker answered for other partitions than were asked"
            )
            self.failed(call, violation, now)
            return
        for (reader, generation), result in zip(call.readers, answer.partitions, strict=True):
            if reader.generation != generation:
                continue
            reader.under_way = False
            if result.error != ErrorCode.NONE:
                if reader.place.replica == call.node_id:
                    self._leave(reader, result.error, now)
                else:
                    self._refused(reader, result.error, result.detail or "", now)
                continue
            reader.backoff.succeeded()
            reader.place.served()
            reader.high_watermark = result.high_watermark
            if result.preferred_read_replica not in (NO_NODE, call.node_id):
                self._send_on(reader, result.preferred_read_replica, now)
            if result.batches:
                self._keep(reader, result.batches)

    def failed(self, call: FetchCall, error: ClientError, now: float) -> None:
        """A request was not answered: its partitions are asked for again after a pause."""
        self._busy.discard(call.node_id)
        backoff = self._node_backoffs.setdefault(call.node_id, self._session.backoff())
        self._node_blocked_until[call.node_id] = now + backoff.next_wait_s()
        self._calm = False
        for reader, generation in call.readers:
            if reader.generation != generation:
                continue
            reader.under_way = False
            if reader.place.replica == call.node_id:
                self._leave(reader, ErrorCode.NONE, now)  # its leader may be well
            else:
                self._session.cluster.mark_stale(reader.where.topic)
        if not error.retriable:
            self._failure = error

    def metadata_failed(self, topics: Iterable[str], error: ClientError, now: float) -> None:
        """Metadata could not be had: ask again after a pause, or tell the caller why not."""
        self._calm = False
        wanted = set(topics)
        for reader in self._readers.values():
            if reader.where.topic in wanted:
                reader.blocked_until = now + reader.backoff.next_wait_s()
        if not error.retriable:
            self._failure = error

    def _send_on(self, reader: PartitionReader, replica: int, now: float) -> None:
        """The leader prefers that this partition is read from another replica."""
        cluster = self._session.cluster
        cluster.changes += 1
        if replica in cluster.brokers:
            epoch, lasts_s = cluster.leader_epoch(reader.where), self._place_s
            reader.place.prefer(replica, epoch, now, lasts_s)
        else:  # it is younger than what is known of the cluster
            cluster.mark_stale(reader.where.topic)
            reader.place.failed(now)

    def _leave(self, reader: PartitionReader, code: int, now: float) -> None:
        """A preferred replica did not serve: back to the leader, which may know why."""
        cluster = self._session.cluster
        cluster.changes += 1
        reader.place.failed(now)
        if code == ErrorCode.FENCED_LEADER_EPOCH:
            cluster.mark_stale(reader.where.topic)

    def _keep(self, reader: PartitionReader, data: bytes) -> None:
        try:
            for header, view in iterate_batches(data):
                if header.next_offset <= reader.fetch_offset:
                    continue
                reader.fetch_offset = header.next_offset
                if header.flags & _CONTROL:
                    continue
                reader.batches.append(view)
                reader.buffered_bytes += len(view)
        except BatchError as error:
            self._failure = ProtocolViolationError(f"{reader.where}: {error}")
            self._failure.__cause__ = error

    def _refused(self, reader: PartitionReader, code: int, detail: str, now: float) -> None:
        self._calm = False
        error = error_for(code, str(reader.where), detail)
        if isinstance(error, OffsetOutOfRangeError):
            self._out_of_range(reader, error, now)
            return
        if error.retriable or code in _FOLLOW_LEADER:
            self._session.cluster.mark_stale(reader.where.topic)
            reader.blocked_until = now + reader.backoff.next_wait_s()
            return
        reader.blocked_until = now + reader.backoff.next_wait_s()
        self._failure = error

    def _out_of_range(self, reader: PartitionReader, error: BrokerError, now: float) -> None:
        if self._options.out_of_range != "error":
            reader.begin_at(self._options.out_of_range)
            self.changes += 1
            return
        reader.blocked_until = now + reader.backoff.next_wait_s()
        self._failure = OffsetOutOfRangeError(
            error.code,
            str(reader.where),
            f"offset {reader.fetch_offset} is not in the log; seek to another, or open the "
            'consumer with out_of_range="earliest" or "latest"',
        )

    # --- Records ----------------------------------------------------------------------------------

    def has_records(self) -> bool:
        """Whether something can be taken now."""
        if self._open is not None and self._current() is not None:
            return True
        return any(reader.batches and not reader.paused for reader in self._turn)

    def take_columns(self) -> RecordColumns | None:
        """The next batch, or what is left of one; None if nothing is there.

        Raises:
            ProtocolViolationError: a batch is damaged; its partition stays where it is.
        """
        opened = self._next_open()
        if opened is None:
            return None
        reader, batch = opened
        self._open = None
        columns = batch.rest(reader.where)
        reader.position = batch.next_offset
        return columns

    def take_one(self) -> Record | None:
        """The next record; None if none is there. Its batch is opened once for all of them.

        Raises:
            ProtocolViolationError: a batch is damaged; its partition stays where it is.
        """
        opened = self._next_open()
        if opened is None:
            return None
        reader, batch = opened
        record = batch.one(reader.where)
        if batch.exhausted:
            self._open = None
            reader.position = batch.next_offset
        else:
            reader.position = batch.position
        return record

    def take_records(self, records_max: int) -> list[Record]:
        """Up to ``records_max`` records; of several partitions if one has not enough.

        Raises:
            ProtocolViolationError: a batch is damaged; records before it were handed out before.
        """
        taken: list[Record] = []
        while len(taken) < records_max:
            try:
                opened = self._next_open()
            except ClientError as error:
                if not taken:
                    raise
                self._failure = error
                break
            if opened is None:
                break
            reader, batch = opened
            taken += batch.records(reader.where, records_max - len(taken))
            if batch.exhausted:
                self._open = None
                reader.position = batch.next_offset
            else:
                reader.position = batch.position
        return taken

    def _current(self) -> tuple[PartitionReader, OpenBatch] | None:
        if self._open is not None:
            reader, generation, batch = self._open
            if reader.generation == generation and self._readers.get(reader.where) is reader:
                return None if reader.paused else (reader, batch)
            self._open = None
        return None

    def _next_open(self) -> tuple[PartitionReader, OpenBatch] | None:
        current = self._current()
        if current is not None:
            return current
        if self._open is not None:
            reader, _, batch = self._open
            self._put_back(reader, batch)
        for _ in range(len(self._turn)):
            reader = self._turn[0]
            while reader.batches and not reader.paused:
                opened = self._open_next(reader)
                if opened is not None:
                    return reader, opened
            self._turn.rotate(-1)
        return None

    def _put_back(self, reader: PartitionReader, batch: OpenBatch) -> None:
        reader.batches.appendleft(batch.view)
        reader.buffered_bytes += len(batch.view)
        self._open = None

    def _open_next(self, reader: PartitionReader) -> OpenBatch | None:
        view = reader.batches[0]
        try:
            columns = decode_columns(view)
        except BatchError as error:
            reader.begin(reader.position)
            raise ProtocolViolationError(
                f"{reader.where} at offset {reader.position}: {error}"
            ) from error
        reader.batches.popleft()
        reader.buffered_bytes -= len(view)
        batch = OpenBatch(columns, view, reader.position)
        if batch.exhausted:
            reader.position = batch.next_offset
            return None
        self._open = (reader, reader.generation, batch)
        return batch
