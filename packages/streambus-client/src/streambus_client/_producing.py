"""What both producers decide in the same way: places, sizes, batches, and failures nobody saw.

Pure, and not thread-safe: the shells hold their lock around every call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streambus_client._accumulator import (
    RECORD_OVERHEAD_BYTES,
    Accumulator,
    Outcome,
    PendingBatch,
    slices,
)
from streambus_client._encoding import check_bytes, check_column, header_bytes
from streambus_client._idempotence import SEQUENCE_CODES, Sequencer, Verdict, judge
from streambus_client._operations import (
    Operation,
    Pause,
    Session,
    ask_any,
    at_leader,
    partition_count,
)
from streambus_client._options import REQUEST_OVERHEAD_BYTES, ProducerOptions
from streambus_client._partitioners import make_partitioner
from streambus_client._sender import Sender
from streambus_client._types import Headers, TopicPartition
from streambus_client.errors import (
    BrokerError,
    ClientError,
    InvalidArgumentError,
    PartitionNotFoundError,
    RecordTooLargeError,
    error_for,
)
from streambus_protocol import (
    FRAME_BYTES_MAX,
    NO_PRODUCER,
    ErrorCode,
    InitProducerIdRequest,
    ProducePartition,
    ProduceRequest,
    ProduceResponse,
    ProducerStamp,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_UNSEEN_MAX = 100
RECORD_BYTES_MAX = FRAME_BYTES_MAX - REQUEST_OVERHEAD_BYTES


class Run(NamedTuple):
    """Records of one partition that fit a batch.

    Attributes:
        where: the partition.
        keys: a column, or None.
        values: a column.
        size_bytes: as estimated.
    """

    where: TopicPartition
    keys: Sequence[bytes | None] | None
    values: Sequence[bytes | None]
    size_bytes: int


class ProducerCore:
    """Partitioner, accumulator and sender of one producer.

    Args:
        session: of the client.
        options: of the producer.
    """

    def __init__(self, session: Session, options: ProducerOptions) -> None:
        self.session = session
        self.options = options
        self.partitioner = make_partitioner(options.partitioner, session.options.random)
        self.accumulator = Accumulator(
            linger_s=options.linger_s,
            batch_bytes_max=options.batch_bytes_max,
            buffer_bytes_max=options.buffer_bytes_max,
            delivery_timeout_s=options.delivery_timeout_s,
            on_closed=self.partitioner.batch_closed,
        )
        self.sender = Sender(session, self.accumulator, options)
        self._unseen: list[Outcome] = []
        self.ack_timeout_ms = int(session.options.request_timeout_s * 1000)

    def place(
        self, topic: str, key: bytes | None, partition: int | None, count: int
    ) -> TopicPartition:
        """Choose the partition of one record.

        Raises:
            PartitionNotFoundError: an explicit partition does not exist.
        """
        if partition is None:
            return TopicPartition(topic, self.partitioner.partition(topic, key, count))
        if not 0 <= partition < count:
            raise PartitionNotFoundError(
                ErrorCode.UNKNOWN_PARTITION,
                f"topic {topic!r}",
                f"partition {partition} does not exist; it has 0 to {count - 1}",
            )
        return TopicPartition(topic, partition)

    def append(
        self,
        where: TopicPartition,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        timestamp_ms: int,
        size_bytes: int,
    ) -> tuple[PendingBatch, int]:
        """Add one record; the shell has waited for room."""
        now = self.session.clock()
        batch, index = self.accumulator.append(
            where, key, value, headers, timestamp_ms, size_bytes, now
        )
        if index == 0:
            self._watch(batch.outcome)
        return batch, index

    def extend(self, run: Run, timestamp_ms: int) -> tuple[PendingBatch, int]:
        """Add a run of records; the shell has waited for room."""
        now = self.session.clock()
        batch, index = self.accumulator.extend(
            run.where, run.keys, run.values, timestamp_ms, run.size_bytes, now
        )
        if index == 0:
            self._watch(batch.outcome)
        return batch, index

    def runs(
        self,
        topic: str,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None] | None,
        partition: int | None,
        count: int,
    ) -> list[Run]:
        """Divide columns over the partitions and cut them to batches.

        Without keys whole slices go to one partition, without work per record.

        Raises:
            RecordTooLargeError: a record fits no request.
            PartitionNotFoundError: an explicit partition does not exist.
        """
        batch_bytes_max = self.options.batch_bytes_max
        if partition is not None or count == 1 or keys is None:
            runs = []
            for start, stop, size_bytes in slices(values, keys, batch_bytes_max):
                where = self.place(topic, None, partition, count)
                if size_bytes > RECORD_BYTES_MAX:
                    raise too_large(topic, size_bytes)
                part = None if keys is None else keys[start:stop]
                runs.append(Run(where, part, values[start:stop], size_bytes))
                if partition is None:
                    self.partitioner.batch_closed(topic, where.partition)
            return runs
        choose = self.partitioner.partition
        groups: dict[int, tuple[list[bytes | None], list[bytes | None]]] = {}
        for key, value in zip(keys, values, strict=True):
            number = choose(topic, key, count)
            group = groups.get(number)
            if group is None:
                group = groups[number] = ([], [])
            group[0].append(key)
            group[1].append(value)
        runs = [
            Run(TopicPartition(topic, number), part[start:stop], column[start:stop], size_bytes)
            for number, (part, column) in groups.items()
            for start, stop, size_bytes in slices(column, part, batch_bytes_max)
        ]
        for run in runs:
            if run.size_bytes > RECORD_BYTES_MAX:
                raise too_large(topic, run.size_bytes)
        return runs

    def raise_unseen(self) -> None:
        """Raise, once, the first failure that no future was asked about."""
        failed = [outcome for outcome in self._unseen if not outcome.observed]
        self._unseen.clear()
        for outcome in failed:
            outcome.observed = True
        if failed and failed[0].error is not None:
            raise failed[0].error

    def abandon(self, error: ClientError) -> list[Callable[[], None]]:
        """End every batch that has not ended, for a hard close. Returns callbacks."""
        callbacks: list[Callable[[], None]] = []
        for batch in self.accumulator.drain():
            callbacks += batch.outcome.fail(error)
        return callbacks

    def _watch(self, outcome: Outcome) -> None:
        def note() -> None:
            if (
                outcome.error is not None
                and not outcome.observed
                and len(self._unseen) < _UNSEEN_MAX
            ):
                self._unseen.append(outcome)

        outcome.when_done(note)


def check_record(
    topic: str, value: bytes | None, key: bytes | None, headers: Headers | None
) -> int:
    """Check one record and estimate its encoded size, in bytes.

    Raises:
        InvalidArgumentError: topic, value, key or headers are of a wrong type.
        RecordTooLargeError: no broker could accept it in one request.
    """
    check_topic(topic)
    check_bytes("value", value)
    check_bytes("key", key)
    size_bytes = RECORD_OVERHEAD_BYTES
    if value is not None:
        size_bytes += len(value)
    if key is not None:
        size_bytes += len(key)
    if headers:
        size_bytes += header_bytes(headers)
    if size_bytes > RECORD_BYTES_MAX:
        raise too_large(topic, size_bytes)
    return size_bytes


def check_columns(
    topic: str, values: Sequence[bytes | None], keys: Sequence[bytes | None] | None
) -> None:
    """Check columns as a whole.

    Raises:
        InvalidArgumentError: a wrong type somewhere, or columns of different lengths.
    """
    check_topic(topic)
    check_column("values", values)
    if keys is not None:
        check_column("keys", keys)
        if len(keys) != len(values):
            raise InvalidArgumentError(
                "keys", f"has {len(keys)} entries beside {len(values)} values"
            )


def check_topic(topic: str) -> None:
    """Refuse what is no topic name at all; the broker judges the characters.

    Raises:
        InvalidArgumentError: not a str, or empty.
    """
    if type(topic) is not str or not topic:
        raise InvalidArgumentError("topic", f"is {topic!r}, not a name")


def too_large(topic: str, size_bytes: int) -> RecordTooLargeError:
    """The error for a record that fits no request."""
    return RecordTooLargeError(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"topic {topic!r}",
        f"a record of about {size_bytes} bytes fits no request of at most {FRAME_BYTES_MAX}; "
        "split it, or store it elsewhere and send a reference",
    )


class OneRecord(NamedTuple):
    """A single record on its way, outside of the batches.

    Attributes:
        where: its partition.
        encode: makes its batch; of an idempotent producer, under the number given.
        acks: as on the wire.
        timeout_ms: for the acknowledgement.
        deadline: seconds.
        retries_max: attempts after the first; None is without limit.
    """

    where: TopicPartition
    encode: Callable[[ProducerStamp], bytes]
    acks: int
    timeout_ms: int
    deadline: float
    retries_max: int | None


def send_one(session: Session, record: OneRecord) -> Operation[int]:
    """Send a record to its leader, retrying until the deadline.

    Returns:
        Its offset; -1 with ``acks=0``.
    """
    return (yield from _send_batch(session, record, NO_PRODUCER, None))


def send_numbered(
    session: Session, record: OneRecord, sequencer: Sequencer, stamp: ProducerStamp | None
) -> Operation[int]:
    """Send a record to its leader until the deadline, so that it is written once.

    Args:
        session: of the client.
        record: to be sent.
        sequencer: nobody else uses it meanwhile. Whoever gives up restarts it.
        stamp: under which it was sent already, with what end is not known; None for a new one.

    Returns:
        Its offset; -1 where it is written and the brokers do not remember its offset.
    """
    uncertain = stamp is not None

    def attempt_failed() -> None:
        nonlocal uncertain
        uncertain = True

    backoff = session.backoff()
    while True:
        if stamp is None:
            if sequencer.exhausted:
                sequencer = yield from new_sequencer(session, record.deadline)
            stamp = sequencer.stamp(record.where, 1)
        try:
            return (yield from _send_batch(session, record, stamp, attempt_failed))
        except BrokerError as error:
            if error.code not in SEQUENCE_CODES:
                raise
            verdict = judge(error.code, uncertain=uncertain)
            if verdict is Verdict.WRITTEN:
                return -1
            now = session.clock()
            if verdict is Verdict.UNKNOWN or now >= record.deadline:
                raise
            sequencer.refused(record.where, error.code)
            stamp, uncertain = None, False
        yield Pause(min(backoff.next_wait_s(), record.deadline - now))


def _send_batch(
    session: Session,
    record: OneRecord,
    stamp: ProducerStamp,
    on_failure: Callable[[], None] | None,
) -> Operation[int]:
    where, acks = record.where, record.acks
    batch = ProducePartition(where.topic, where.partition, record.encode(stamp))
    answer: ProduceResponse | None = yield from at_leader(
        session,
        where,
        ProduceRequest(acks, record.timeout_ms, (batch,)),
        produced_code if acks else lambda _: (0, None),
        record.deadline,
        retries_max=record.retries_max,
        answered=acks != 0,
        repeatable=stamp is not NO_PRODUCER,
        on_failure=on_failure,
    )
    return -1 if answer is None else answer.partitions[0].base_offset


def new_sequencer(session: Session, deadline: float) -> Operation[Sequencer]:
    """Have the cluster give a producer id.

    Raises:
        ClientError: no broker gave one before the deadline, or it was refused for good.
    """
    backoff = session.backoff()
    request = InitProducerIdRequest(NO_PRODUCER.producer_id, NO_PRODUCER.producer_epoch)
    while True:
        answer, _ = yield from ask_any(session, request, deadline)
        if not answer.error:
            return Sequencer(answer.producer_id, answer.producer_epoch)
        failure = error_for(answer.error, "a producer id", answer.detail or "")
        now = session.clock()
        if not failure.retriable or now >= deadline:
            raise failure
        yield Pause(min(backoff.next_wait_s(), deadline - now))


def produced_code(answer: ProduceResponse) -> tuple[int, str | None]:
    """The code and detail in the answer about one partition."""
    if len(answer.partitions) != 1:
        return int(ErrorCode.MALFORMED_REQUEST), "the broker answered for other partitions"
    return answer.partitions[0].error, answer.partitions[0].detail


__all__ = [
    "OneRecord",
    "ProducerCore",
    "Run",
    "check_columns",
    "check_record",
    "new_sequencer",
    "partition_count",
    "send_numbered",
    "send_one",
]
