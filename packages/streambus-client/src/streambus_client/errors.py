"""Every error that this package raises, below one root.

What a broker answers travels as an ``ErrorCode``; ``error_for`` turns it into the typed error whose
name says what happened. ``retriable`` tells whether the same call may succeed later without
anybody changing anything: the clients try those again by themselves until their deadline, so a
retriable error reaches a caller only when time ran out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping


class ClientError(Exception):
    """The root.

    Attributes:
        code: what the broker answered, or None where the error arose on this side.
        retriable: whether the same call may succeed later as it is.
    """

    code: ErrorCode | None = None
    retriable: bool = False


class InvalidArgumentError(ClientError, ValueError):
    """A value given by the caller cannot be used; nothing was sent.

    Attributes:
        argument: the name of the argument or option.
    """

    def __init__(self, argument: str, problem: str) -> None:
        super().__init__(f"{argument} {problem}")
        self.argument = argument


class ClientClosedError(ClientError):
    """The client was closed before or during the call; open a new one."""


class BrokerUnreachableError(ClientError):
    """No broker could be reached before the deadline.

    Attributes:
        reasons: for each address that was tried, why it failed last.
    """

    retriable = True

    def __init__(self, reasons: Mapping[str, str]) -> None:
        tried = "; ".join(f"{address}: {reason}" for address, reason in reasons.items())
        super().__init__(
            f"no broker could be reached ({tried or 'none was tried'}): "
            "check the addresses, and that a broker is running there"
        )
        self.reasons = dict(reasons)


class ConnectionLostError(ClientError):
    """A connection ended while a request was under way; whether it took effect is not known.

    Attributes:
        address: of the broker.
    """

    retriable = True

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"the connection to {address} was lost: {reason}")
        self.address = address
        self.reason = reason


class RequestTimedOutError(ClientError):
    """A broker did not answer in time, or answered that the time ran out.

    Whether the request took effect is not known. Raise ``request_timeout_ms`` where brokers are
    slow rather than gone.
    """

    code = ErrorCode.REQUEST_TIMED_OUT
    retriable = True


class DeliveryTimedOutError(ClientError):
    """A record was not acknowledged before its delivery deadline.

    It may or may not have been written. The last failure is the ``__cause__``.

    Attributes:
        topic: where it was to go.
        partition: the same.
        attempts: how often it was sent.
    """

    code = ErrorCode.REQUEST_TIMED_OUT
    retriable = True

    def __init__(
        self, topic: str, partition: int, attempts: int, last: BaseException | None
    ) -> None:
        because = f"; last failure: {last}" if last is not None else ""
        super().__init__(
            f"not acknowledged within the delivery deadline by {topic}[{partition}] after "
            f"{attempts} attempt(s){because}"
        )
        self.topic = topic
        self.partition = partition
        self.attempts = attempts


class ProtocolViolationError(ClientError):
    """The peer's bytes are not StreamBus, or contradict it; the connection was closed.

    Check that the address is the data port of a StreamBus broker.
    """


class BrokerError(ClientError):
    """A broker refused a request, or a part of it; subclasses name the common reasons.

    Attributes:
        code: what it answered.
        subject: what it concerns, such as ``"topic orders"``; may be empty.
        detail: the broker's own words; may be empty.
    """

    code: ErrorCode

    def __init__(self, code: ErrorCode, subject: str = "", detail: str = "") -> None:
        self.code = code
        self.retriable = code.retriable
        self.subject = subject
        self.detail = detail
        said = detail or code.advice
        named = not subject or said.startswith(f"{subject} ")  # a broker names itself, too
        super().__init__(said if named else f"{subject}: {said}")


class TopicNotFoundError(BrokerError):
    """There is no such topic: create it first, or check its name."""


class PartitionNotFoundError(BrokerError):
    """The topic has no such partition: partitions count from 0."""


class TopicExistsError(BrokerError):
    """A topic of this name exists already."""


class InvalidTopicError(BrokerError):
    """A name, partition count or replication factor that the brokers do not accept."""


class InvalidSettingError(BrokerError):
    """A setting is unknown or outside its range."""


class RecordTooLargeError(BrokerError):
    """A record, or a batch of records, is larger than the topic or the broker accepts."""


class OffsetOutOfRangeError(BrokerError):
    """An offset is before the first record kept, or behind the last; seek to another."""


class NotLeaderError(BrokerError):
    """Another broker leads the partition, or none does at the moment; the client asks again."""


class NotEnoughReplicasError(BrokerError):
    """Fewer replicas are in sync than the topic wants; try again when they are back."""


class BrokerUnavailableError(BrokerError):
    """The broker is shutting down, over a limit, or its storage has failed or is full."""


class UnsupportedByBrokerError(BrokerError):
    """The broker does not know the request, its version or the codec: upgrade the older side."""


class WrongClusterError(BrokerError):
    """The broker belongs to another cluster: check the addresses."""


_TYPES: dict[ErrorCode, type[BrokerError]] = {
    ErrorCode.UNSUPPORTED_VERSION: UnsupportedByBrokerError,
    ErrorCode.UNSUPPORTED_API: UnsupportedByBrokerError,
    ErrorCode.UNSUPPORTED_CODEC: UnsupportedByBrokerError,
    ErrorCode.FRAME_TOO_LARGE: RecordTooLargeError,
    ErrorCode.MESSAGE_TOO_LARGE: RecordTooLargeError,
    ErrorCode.UNKNOWN_TOPIC: TopicNotFoundError,
    ErrorCode.UNKNOWN_PARTITION: PartitionNotFoundError,
    ErrorCode.TOPIC_EXISTS: TopicExistsError,
    ErrorCode.INVALID_TOPIC_NAME: InvalidTopicError,
    ErrorCode.INVALID_PARTITIONS: InvalidTopicError,
    ErrorCode.INVALID_REPLICATION_FACTOR: InvalidTopicError,
    ErrorCode.INVALID_CONFIG: InvalidSettingError,
    ErrorCode.OFFSET_OUT_OF_RANGE: OffsetOutOfRangeError,
    ErrorCode.NOT_LEADER: NotLeaderError,
    ErrorCode.LEADER_NOT_AVAILABLE: NotLeaderError,
    ErrorCode.FENCED_LEADER_EPOCH: NotLeaderError,
    ErrorCode.UNKNOWN_LEADER_EPOCH: NotLeaderError,
    ErrorCode.NOT_ENOUGH_REPLICAS: NotEnoughReplicasError,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: NotEnoughReplicasError,
    ErrorCode.STORAGE_FULL: BrokerUnavailableError,
    ErrorCode.STORAGE_FAILED: BrokerUnavailableError,
    ErrorCode.BROKER_SHUTTING_DOWN: BrokerUnavailableError,
    ErrorCode.TOO_BUSY: BrokerUnavailableError,
    ErrorCode.TOO_MANY_CONNECTIONS: BrokerUnavailableError,
    ErrorCode.NOT_CONTROLLER: NotLeaderError,
    ErrorCode.WRONG_CLUSTER: WrongClusterError,
}


def error_for(code: int, subject: str = "", detail: str = "") -> ClientError:
    """Make the typed error for a code of the wire.

    Args:
        code: not ``ErrorCode.NONE``; a number that this version does not know becomes
            ``BrokerError`` with ``ErrorCode.INTERNAL``, not retriable.
        subject: what it concerns, for the message.
        detail: the broker's own words, for the message.
    """
    try:
        known = ErrorCode(code)
    except ValueError:
        unknown = f"error code {code}, which this version does not know"
        return BrokerError(
            ErrorCode.INTERNAL, subject, f"{unknown}; {detail}" if detail else unknown
        )
    if known is ErrorCode.REQUEST_TIMED_OUT:
        said = detail or known.advice
        return RequestTimedOutError(f"{subject}: {said}" if subject else said)
    return _TYPES.get(known, BrokerError)(known, subject, detail)
