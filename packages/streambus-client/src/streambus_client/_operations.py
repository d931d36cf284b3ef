"""What a client does that takes several requests, as generators without I/O.

An operation yields ``Call`` and ``Pause``; a shell, blocking or async, carries each out and sends
the answer back in, or throws the ``ClientError`` that it met. So retries, deadlines and the search
for a leader are written once, and tested without sockets.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from streambus_client._backoff import FAILOVER_S, Backoff
from streambus_client._cluster import ClusterView
from streambus_client.errors import (
    BrokerUnreachableError,
    ClientError,
    ConnectionLostError,
    NotLeaderError,
    PartitionNotFoundError,
    RequestTimedOutError,
    error_for,
)
from streambus_protocol import (
    ErrorCode,
    ListOffsetsRequest,
    MetadataRequest,
    MetadataResponse,
    OffsetQuery,
)

if TYPE_CHECKING:
    from streambus_client._addresses import Address
    from streambus_client._options import ClientOptions
    from streambus_client._types import TopicPartition


ANSWER_S = 1.0
"""A broker that has not answered within this what it answers at once may be paused or cut off:
others are asked, and it is given twice as long the next time."""
OVERDUE_S = 0.3
"""An answer that is late by this is overdue: the broker may have a successor, and others are asked
for it. A look costs one request for metadata; giving up costs the same request once more, to a
broker that may only be slow, and follows a look alone."""
LOOK_PAUSE_S = 0.25
NO_ANSWER = (ConnectionLostError, RequestTimedOutError)
"""What says nothing of the request, and something of the broker."""
_QUICK_CONNECTS = 4
_CONNECT_S = FAILOVER_S / _QUICK_CONNECTS


def connect_patience_s(failures: int) -> float:
    """How long connecting to a leader may take after so many failures, in seconds.

    A leader that is paused has a successor within a failover: the first attempts are short, those
    after it give a slow network twice as long each time.
    """
    patience_s: float = _CONNECT_S * 2 ** min(max(failures - _QUICK_CONNECTS + 1, 0), 10)
    return patience_s


def answer_timeout_s(options: ClientOptions, failures: int, *, repeatable: bool) -> float:
    """How long a leader may owe an answer after so many failures, in seconds.

    No longer than the client's option; and less at first if the request may be put twice without
    harm: within the first time a leader that is paused, or cut off, has a successor, and one that
    is only slow gets twice as long each time.
    """
    timeout_s: float = options.request_timeout_s
    return min(timeout_s, FAILOVER_S * 2 ** min(failures, 10)) if repeatable else timeout_s


class Looks:
    """When to look for the successor of a broker that owes an answer, while it is waited for.

    Often for as long as a failover lasts. A broker that is silent for longer, and still leads, may
    only be slow, and so may those that are asked: then less often.

    Args:
        overdue_at: seconds; when the first look is due.
    """

    __slots__ = ("_overdue_at", "at")

    def __init__(self, overdue_at: float) -> None:
        self._overdue_at = self.at = overdue_at

    def done(self, now: float) -> None:
        """One look is over: set ``at`` to when the next one is due."""
        often = now - self._overdue_at < FAILOVER_S
        self.at = now + (LOOK_PAUSE_S if often else ANSWER_S)


class Call(NamedTuple):
    """Send ``request`` to ``address`` and give back the answer's message.

    The shell raises ``ConnectionLostError``, ``RequestTimedOutError``, ``ProtocolViolationError``,
    or what the broker answered to the request as a whole. Without ``answered`` nothing is waited
    for and None is given back (a produce request with ``acks=0``). Where there is no connection
    yet, connecting may take ``connect_s`` at most, and never longer than the client's option.
    While the answer is overdue, ``look`` is carried out as often as ``Looks`` says; where it gives
    True, the answer is waited for no longer, and the connection is closed.
    """

    address: Address
    request: tuple[Any, ...]
    timeout_s: float
    answered: bool = True
    connect_s: float = math.inf
    look: Look | None = None


class Pause(NamedTuple):
    """Let time pass; nothing is given back."""

    seconds: float


T = TypeVar("T")
Operation: TypeAlias = Generator[Call | Pause, Any, T]
Look: TypeAlias = Callable[[], Operation[bool]]
"""Finds out whether an answer that is overdue need not be waited for."""


class Session:
    """What the operations of one client share.

    Args:
        options: of the client.
        clock: seconds, monotonic.
    """

    def __init__(self, options: ClientOptions, clock: Callable[[], float]) -> None:
        self.options = options
        self.clock = clock
        self.cluster = ClusterView(options.addresses, options.random)

    def backoff(self) -> Backoff:
        """A fresh backoff for one operation."""
        return Backoff(self.options.random, self.options.backoff)

    def patient_backoff(self) -> Backoff:
        """As `backoff`, for what need not come back within a failover."""
        return Backoff(self.options.random, self.options.backoff, quick_for_s=0.0)


def ask_any(session: Session, request: tuple[Any, ...], deadline: float) -> Operation[Any]:
    """Put a request to any broker, one after the other, until one answers.

    Returns:
        The answer and the address that gave it.

    Raises:
        BrokerUnreachableError: none answered before the deadline; every address was tried once at
            least.
        ClientError: a broker refused the request for a reason that another would repeat.
    """
    reasons: dict[str, str] = {}
    backoff = session.backoff()
    patience_s = ANSWER_S
    while True:
        candidates = session.cluster.candidates()
        for address in candidates:
            left_s = max(deadline - session.clock(), 0.001)
            timeout_s = min(session.options.request_timeout_s, left_s)
            if len(candidates) > 1:
                timeout_s = min(timeout_s, patience_s)
            try:
                answer = yield Call(address, request, timeout_s)
            except ClientError as error:
                if not error.retriable:
                    raise
                session.cluster.note_answer(address, came=False)
                reasons[str(address)] = getattr(error, "reason", str(error))
                continue
            session.cluster.note_answer(address, came=True)
            return answer, address
        patience_s *= 2
        now = session.clock()
        if now >= deadline:
            raise BrokerUnreachableError(reasons)
        yield Pause(min(backoff.next_wait_s(), deadline - now))


def refresh(
    session: Session, topics: Iterable[str] | None, deadline: float
) -> Operation[MetadataResponse]:
    """Ask for metadata and take it in; ``None`` asks for all topics."""
    asked = None if topics is None else tuple(topics)
    answer, address = yield from ask_any(session, MetadataRequest(asked), deadline)
    session.cluster.apply(answer, asked, address, session.clock())
    return answer  # type: ignore[no-any-return]  # ask_any carries every type of answer


def look_around(
    session: Session, silent: Iterable[Address], topics: Iterable[str]
) -> Operation[None]:
    """Ask others than brokers that owe an answer who leads these topics by now."""
    for address in silent:
        session.cluster.note_answer(address, came=False)
    with contextlib.suppress(ClientError):  # nobody knows better: wait on, and ask again
        yield from refresh(session, topics, session.clock() + ANSWER_S)


def find_successor(
    session: Session, address: Address, partitions: Iterable[TopicPartition]
) -> Operation[bool]:
    """Whether a broker that owes an answer leads some of these partitions no more.

    Many may wait for the same broker: what one of them has found out just now is not asked again.
    """
    cluster = session.cluster
    partitions = tuple(partitions)
    names = sorted({where.topic for where in partitions})
    topics = cluster.needs_refresh(names, session.clock(), LOOK_PAUSE_S / 2)
    if topics:
        yield from look_around(session, (address,), topics)
    if address not in cluster.brokers.values():
        return True
    leaders = map(cluster.leader, partitions)
    return any(node is not None and cluster.brokers[node] != address for node in leaders)


def partition_count(session: Session, topic: str, deadline: float) -> Operation[int]:
    """How many partitions a topic has, from what is known or by asking.

    Raises:
        TopicNotFoundError: the brokers do not know it.
    """
    count = session.cluster.partition_count(topic)
    if count is not None:
        return count
    yield from refresh(session, [topic], deadline)
    count = session.cluster.partition_count(topic)
    if count is None:
        raise error_for(
            session.cluster.missing.get(topic, ErrorCode.UNKNOWN_TOPIC), f"topic {topic!r}"
        )
    return count


def leader(session: Session, where: TopicPartition, deadline: float) -> Operation[Address]:
    """The address of a partition's leader, waiting for one to be elected.

    Raises:
        TopicNotFoundError: the topic is unknown.
        PartitionNotFoundError: it has no such partition.
        NotLeaderError: there was no leader until the deadline.
    """
    backoff = session.backoff()
    while True:
        node = session.cluster.leader(where)
        if node is not None:
            return session.cluster.brokers[node]
        yield from refresh(session, [where.topic], deadline)
        count = yield from partition_count(session, where.topic, deadline)
        if not 0 <= where.partition < count:
            raise PartitionNotFoundError(
                ErrorCode.UNKNOWN_PARTITION,
                f"topic {where.topic!r}",
                f"partition {where.partition} does not exist; it has 0 to {count - 1}",
            )
        if session.cluster.leader(where) is not None:
            continue
        now = session.clock()
        if now >= deadline:
            raise NotLeaderError(ErrorCode.LEADER_NOT_AVAILABLE, str(where))
        yield Pause(min(backoff.next_wait_s(), deadline - now))


def at_leader(
    session: Session,
    where: TopicPartition,
    request: tuple[Any, ...],
    code_of: Callable[[Any], tuple[int, str | None]],
    deadline: float,
    *,
    retries_max: int | None = None,
    answered: bool = True,
    repeatable: bool = False,
    on_failure: Callable[[], None] | None = None,
) -> Operation[Any]:
    """Put a request to a partition's leader, following it where it moves, until the deadline.

    Args:
        session: of the client.
        where: the partition.
        request: the same for every attempt.
        code_of: finds the error code and detail of the partition in the answer.
        deadline: seconds.
        retries_max: attempts after the first; None is without limit.
        answered: False for a request without an answer.
        repeatable: whether it may be put twice without harm: then the first attempts are short,
            and end when another broker leads.
        on_failure: called after each attempt that failed and may be repeated.

    Returns:
        The answer, whose code is 0.

    Raises:
        ClientError: what the leader answered, if it is not retriable; else the last failure once
            the deadline or the retries are used up.
    """
    backoff = session.backoff()
    attempts = 0
    while True:
        address = yield from leader(session, where, deadline)
        attempts += 1
        left_s = max(deadline - session.clock(), 0.001)
        try:
            hurries = repeatable and retries_max != 0
            timeout_s = answer_timeout_s(session.options, attempts - 1, repeatable=hurries)
            timeout_s = min(timeout_s, left_s)
            connect_s = math.inf if retries_max == 0 else connect_patience_s(attempts - 1)
            look = partial(find_successor, session, address, (where,)) if hurries else None
            answer = yield Call(address, request, timeout_s, answered, connect_s, look)
            code, detail = code_of(answer)
            if not code:
                return answer
            failure = error_for(code, str(where), detail or "")
        except ClientError as error:
            if isinstance(error, NO_ANSWER):
                session.cluster.note_answer(address, came=False)
            failure = error
        if not failure.retriable:
            raise failure
        if on_failure is not None:
            on_failure()
        session.cluster.mark_stale(where.topic)
        now = session.clock()
        if now >= deadline or (retries_max is not None and attempts > retries_max):
            raise failure
        yield Pause(min(backoff.next_wait_s(), deadline - now))


def list_offsets(
    session: Session, queries: Mapping[TopicPartition, int], deadline: float
) -> Operation[dict[TopicPartition, int]]:
    """Find offsets by time, EARLIEST or LATEST; partitions of one leader share a request.

    Returns:
        For each partition its offset; -1 where no record is that late.

    Raises:
        ClientError: as for ``at_leader``, of any of the partitions.
    """
    found: dict[TopicPartition, int] = {}
    open_queries = dict(queries)
    backoff = session.backoff()
    patience_s = ANSWER_S
    while open_queries:
        by_address: dict[Address, list[TopicPartition]] = {}
        for where in open_queries:
            address = yield from leader(session, where, deadline)
            by_address.setdefault(address, []).append(where)
        failure: ClientError | None = None
        for address, partitions in by_address.items():
            error = yield from _offsets_of(
                session, address, partitions, open_queries, found, patience_s
            )
            failure = error or failure
        for where in found:
            open_queries.pop(where, None)
        patience_s *= 2
        if failure is not None:
            now = session.clock()
            if now >= deadline:
                raise failure
            yield Pause(min(backoff.next_wait_s(), deadline - now))
    return found


def _offsets_of(
    session: Session,
    address: Address,
    partitions: Sequence[TopicPartition],
    queries: Mapping[TopicPartition, int],
    found: dict[TopicPartition, int],
    patience_s: float,
) -> Operation[ClientError | None]:
    """One request; fills ``found`` and returns a retriable failure, or raises another."""
    request = ListOffsetsRequest(
        tuple(OffsetQuery(where.topic, where.partition, queries[where]) for where in partitions)
    )
    failure: ClientError | None = None
    try:
        timeout_s = min(session.options.request_timeout_s, patience_s)
        answer = yield Call(address, request, timeout_s)
    except ClientError as error:
        if not error.retriable:
            raise
        session.cluster.note_answer(address, came=False)
        for where in partitions:
            session.cluster.mark_stale(where.topic)
        return error
    if len(answer.partitions) != len(partitions):
        return RequestTimedOutError(
            f"{address} answered for other partitions than were asked about"
        )
    for where, result in zip(partitions, answer.partitions, strict=True):
        if not result.error:
            found[where] = result.offset
            continue
        refused = error_for(result.error, str(where), result.detail or "")
        if not refused.retriable:
            raise refused
        session.cluster.mark_stale(where.topic)
        failure = refused
    return failure
