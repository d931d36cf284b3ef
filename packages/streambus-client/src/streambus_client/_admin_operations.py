"""The administrator's operations: topics, offsets, cluster. Generators, as in ``_operations``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from streambus_client._addresses import Address
from streambus_client._cluster import NO_NODE
from streambus_client._operations import (
    Call,
    Operation,
    Pause,
    Session,
    ask_any,
    list_offsets,
    refresh,
)
from streambus_client._types import (
    BrokerHealth,
    BrokerInfo,
    ClusterInfo,
    ComponentStatus,
    PartitionInfo,
    PartitionOffsets,
    TopicDescription,
    TopicListing,
    TopicPartition,
)
from streambus_client.errors import ClientError, ProtocolViolationError, error_for
from streambus_protocol import (
    EARLIEST,
    LATEST,
    AlterTopicsRequest,
    CreateTopicsRequest,
    DeleteTopicsRequest,
    DescribeTopicsRequest,
    DescribeTopicsResponse,
    ErrorCode,
    HealthRequest,
    MetadataResponse,
    NewTopic,
    TopicAlteration,
    TopicInfo,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def create_topic(
    session: Session,
    name: str,
    partitions: int,
    replication_factor: int,
    config: Mapping[str, str],
    validate_only: bool,
    deadline: float,
) -> Operation[None]:
    """Create a topic, or say whether it could be.

    The topic's id is drawn here, so that an attempt whose answer was lost is not taken for somebody
    else's topic. The time is in it because a seeded client repeats its dice, and must not take the
    topic of an earlier run for its own.
    """
    drawn = session.options.random.randbytes(16)
    seed = drawn + repr((session.clock(), name)).encode()
    topic_id = hashlib.blake2b(seed, digest_size=16).digest()
    new = NewTopic(name, partitions, replication_factor, dict(config), topic_id)
    timeout_ms = _left_ms(session, deadline)
    request = CreateTopicsRequest((new,), timeout_ms, validate_only)
    yield from at_controller(session, request, f"topic {name!r}", _only_topic, deadline)


def delete_topic(
    session: Session, name: str, validate_only: bool, deadline: float
) -> Operation[None]:
    """Delete a topic with all its records, or say whether it could be.

    By its id: an attempt that is repeated, or comes late, leaves alone what somebody has made under
    this name since. A topic that was there, and is unknown once an attempt may have been carried
    out, is gone, as was wanted.
    """
    found = yield from _topic_id(session, name, deadline)
    ids = (found,) if found else ()
    request = DeleteTopicsRequest((name,), _left_ms(session, deadline), validate_only, ids)
    done = None if validate_only or found is None else ErrorCode.UNKNOWN_TOPIC
    yield from at_controller(session, request, f"topic {name!r}", _only_topic, deadline, done)
    if not validate_only:
        session.cluster.topics.pop(name, None)


def _topic_id(session: Session, name: str, deadline: float) -> Operation[bytes | None]:
    """A topic's id; empty where the broker does not tell, None for one that it does not know."""

    def code_of(answer: DescribeTopicsResponse) -> tuple[int, str | None]:
        found = _only(answer.topics, "the topic")
        return (0, None) if found.error == ErrorCode.UNKNOWN_TOPIC else (found.error, found.detail)

    request = DescribeTopicsRequest((name,))
    answer: DescribeTopicsResponse = yield from at_controller(
        session, request, f"topic {name!r}", code_of, deadline
    )
    found = answer.topics[0]
    return None if found.error else found.topic_id


def alter_topic(
    session: Session,
    name: str,
    partitions: int,
    config: Mapping[str, str | None],
    validate_only: bool,
    deadline: float,
) -> Operation[None]:
    """Change a topic, whole or not at all, or say whether it could be.

    To ask twice for the same change, because the first answer was lost, changes nothing more.
    """
    change = TopicAlteration(name, partitions, dict(config))
    request = AlterTopicsRequest((change,), _left_ms(session, deadline), validate_only)
    yield from at_controller(session, request, f"topic {name!r}", _only_topic, deadline)
    session.cluster.mark_stale(name)


def list_topics(session: Session, deadline: float) -> Operation[list[TopicListing]]:
    """List all topics by name."""
    answer = yield from refresh(session, None, deadline)
    return [
        TopicListing(topic.name, len(topic.partitions), _replication(topic))
        for topic in sorted(answer.topics, key=lambda topic: topic.name)
        if not topic.error
    ]


def describe_topic(session: Session, name: str, deadline: float) -> Operation[TopicDescription]:
    """Everything about one topic; partitions without a leader have offsets -1."""
    topic = yield from _topic(session, name, deadline)
    settings, _ = yield from ask_any(session, DescribeTopicsRequest((name,)), deadline)
    described = _only(settings.topics, "the settings")
    if described.error:
        raise error_for(described.error, f"topic {name!r}", described.detail or "")
    led = [entry.partition for entry in topic.partitions if entry.leader != NO_NODE]
    where = [TopicPartition(name, partition) for partition in led]
    earliest = yield from list_offsets(session, dict.fromkeys(where, EARLIEST), deadline)
    latest = yield from list_offsets(session, dict.fromkeys(where, LATEST), deadline)
    partitions = tuple(
        PartitionInfo(
            partition=entry.partition,
            leader=entry.leader,
            leader_epoch=entry.leader_epoch,
            replicas=tuple(entry.replicas),
            in_sync=tuple(entry.in_sync),
            earliest=earliest.get(TopicPartition(name, entry.partition), -1),
            latest=latest.get(TopicPartition(name, entry.partition), -1),
        )
        for entry in sorted(topic.partitions, key=lambda entry: entry.partition)
    )
    return TopicDescription(
        name=name,
        partitions=partitions,
        config={setting.name: setting.value for setting in described.settings},
        config_sources={setting.name: setting.source for setting in described.settings},
        replication_factor=_replication(topic),
    )


def topic_offsets(
    session: Session, name: str, time_ms: int | None, deadline: float
) -> Operation[list[PartitionOffsets]]:
    """The ends of every partition, and the offsets for a time."""
    topic = yield from _topic(session, name, deadline)
    where = [TopicPartition(name, number) for number in range(len(topic.partitions))]
    earliest = yield from list_offsets(session, dict.fromkeys(where, EARLIEST), deadline)
    latest = yield from list_offsets(session, dict.fromkeys(where, LATEST), deadline)
    at_time: dict[TopicPartition, int] = {}
    if time_ms is not None:
        at_time = yield from list_offsets(session, dict.fromkeys(where, time_ms), deadline)
    return [
        PartitionOffsets(
            partition=one.partition,
            earliest=earliest[one],
            latest=latest[one],
            at_time=None if time_ms is None else _or_latest(at_time[one], latest[one]),
        )
        for one in where
    ]


def cluster_info(session: Session, deadline: float) -> Operation[ClusterInfo]:
    """The cluster as one broker sees it."""
    answer: MetadataResponse = yield from refresh(session, None, deadline)
    offline, under_replicated, partition_total = [], [], 0
    for topic in answer.topics:
        for entry in topic.partitions:
            partition_total += 1
            where = TopicPartition(topic.name, entry.partition)
            if entry.leader == NO_NODE:
                offline.append(where)
            if len(entry.in_sync) < len(entry.replicas):
                under_replicated.append(where)
    return ClusterInfo(
        cluster_id=answer.cluster_id,
        controller=answer.controller,
        brokers=tuple(
            BrokerInfo(broker.broker_id, broker.host, broker.port, broker.rack)
            for broker in sorted(answer.brokers)
        ),
        topic_count=len(answer.topics),
        partition_count=partition_total,
        offline=tuple(offline),
        under_replicated=tuple(under_replicated),
    )


def broker_health(session: Session, deadline: float) -> Operation[list[BrokerHealth]]:
    """Ask every broker how it is; one that does not answer is reported as not live."""
    info: ClusterInfo = yield from cluster_info(session, deadline)
    healths = []
    for broker in info.brokers:
        left_s = max(min(deadline - session.clock(), session.options.connect_timeout_s), 0.1)
        try:
            answer = yield Call(Address(broker.host, broker.port), HealthRequest(), left_s)
        except ClientError as error:
            lost = ComponentStatus("connection", "failed", str(error))
            healths.append(BrokerHealth(broker.node_id, False, False, 0, (lost,)))
            continue
        healths.append(
            BrokerHealth(
                node_id=answer.broker_id,
                live=answer.live,
                ready=answer.ready,
                uptime_ms=answer.uptime_ms,
                components=tuple(
                    ComponentStatus(part.name, part.status, part.reason or "")
                    for part in answer.components
                ),
            )
        )
    return healths


def at_controller(
    session: Session,
    request: tuple[Any, ...],
    subject: str,
    code_of: Callable[[Any], tuple[int, str | None]],
    deadline: float,
    done_code: int | None = None,
) -> Operation[Any]:
    """Put a request to the controller, following it where it moves, until the deadline.

    Args:
        session: Of the client.
        request: What is asked, the same at every attempt.
        subject: What it is about, for errors.
        code_of: Finds the code and the detail in an answer.
        deadline: Seconds.
        done_code: The refusal that says, after an attempt that may have been carried out, that it
            was.
    """
    backoff = session.backoff()
    uncertain = False
    while True:
        if session.cluster.controller not in session.cluster.brokers:
            yield from refresh(session, (), deadline)
        address = session.cluster.brokers.get(session.cluster.controller)
        failure: ClientError
        if address is None:
            failure = error_for(
                ErrorCode.NOT_CONTROLLER, subject, "there is no controller at the moment"
            )
        else:
            left_s = max(deadline - session.clock(), 0.001)
            timeout_s = min(session.options.request_timeout_s, left_s)
            try:
                answer = yield Call(address, request, timeout_s)
                code, detail = code_of(answer)
                if not code or (uncertain and code == done_code):
                    return answer
                failure = error_for(code, subject, detail or "")
                uncertain |= code == ErrorCode.REQUEST_TIMED_OUT
            except ClientError as error:
                failure = error
                uncertain = True
        now = session.clock()
        if not failure.retriable or now >= deadline:
            raise failure
        session.cluster.controller = NO_NODE
        yield Pause(min(backoff.next_wait_s(), deadline - now))


def _topic(session: Session, name: str, deadline: float) -> Operation[TopicInfo]:
    answer = yield from refresh(session, (name,), deadline)
    topic: TopicInfo = _only(answer.topics, "the topic")
    if topic.error:
        raise error_for(topic.error, f"topic {name!r}")
    return topic


def _only_topic(answer: Any) -> tuple[int, str | None]:
    result = _only(answer.topics, "the topic")
    return result.error, result.detail


def _only(entries: Sequence[Any], what: str) -> Any:
    if len(entries) != 1:
        raise ProtocolViolationError(
            f"a broker answered {len(entries)} times about {what}, not once"
        )
    return entries[0]


def _replication(topic: TopicInfo) -> int:
    return max((len(entry.replicas) for entry in topic.partitions), default=0)


def _or_latest(offset: int, latest: int) -> int:
    return latest if offset < 0 else offset


def _left_ms(session: Session, deadline: float) -> int:
    return max(1, int((deadline - session.clock()) * 1000))
