"""The error codes of the wire, and which of them a client may try again.

A code never changes its meaning and is never reused. ``retriable`` says that the same request may
succeed later or at another broker without anybody changing anything; whether it is safe to send it
again is the sender's decision (see the idempotent producer).
"""

from __future__ import annotations

from enum import IntEnum


class ErrorCode(IntEnum):
    """What went wrong with a request, or with one topic or partition of it."""

    NONE = 0
    INTERNAL = 1
    MALFORMED_REQUEST = 2
    UNSUPPORTED_VERSION = 3
    UNSUPPORTED_API = 4
    FRAME_TOO_LARGE = 5
    CORRUPT_BATCH = 6
    MESSAGE_TOO_LARGE = 7
    UNSUPPORTED_CODEC = 8
    UNKNOWN_TOPIC = 9
    UNKNOWN_PARTITION = 10
    TOPIC_EXISTS = 11
    INVALID_TOPIC_NAME = 12
    INVALID_PARTITIONS = 13
    INVALID_REPLICATION_FACTOR = 14
    INVALID_CONFIG = 15
    INVALID_REQUEST = 16
    OFFSET_OUT_OF_RANGE = 17
    NOT_LEADER = 18
    LEADER_NOT_AVAILABLE = 19
    NOT_ENOUGH_REPLICAS = 20
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 21
    FENCED_LEADER_EPOCH = 22
    UNKNOWN_LEADER_EPOCH = 23
    REQUEST_TIMED_OUT = 24
    STORAGE_FULL = 25
    STORAGE_FAILED = 26
    BROKER_SHUTTING_DOWN = 27
    TOO_BUSY = 28
    NOT_CONTROLLER = 29
    WRONG_CLUSTER = 30
    TOO_MANY_CONNECTIONS = 31
    UNKNOWN_PRODUCER_ID = 32
    OUT_OF_ORDER_SEQUENCE = 33
    INVALID_PRODUCER_EPOCH = 34
    STALE_BROKER_EPOCH = 35
    STALE_PARTITION_EPOCH = 36
    DUPLICATE_BROKER = 37
    UNKNOWN_BROKER = 38
    NO_REASSIGNMENT = 39
    OFFSET_NOT_AVAILABLE = 40
    NO_QUORUM = 41
    DUPLICATE_SEQUENCE = 42

    @property
    def retriable(self) -> bool:
        """Whether the same request may succeed later, or elsewhere, as it is."""
        return self in _RETRIABLE

    @property
    def advice(self) -> str:
        """One sentence for a person: what the code means and what to do."""
        return _ADVICE[self]


_RETRIABLE = frozenset(
    {
        ErrorCode.CORRUPT_BATCH,  # damaged on the way: the sender's copy may be whole
        ErrorCode.NOT_LEADER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.STORAGE_FULL,
        ErrorCode.STORAGE_FAILED,  # another replica may take over, or an operator restart it
        ErrorCode.BROKER_SHUTTING_DOWN,
        ErrorCode.TOO_BUSY,
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.TOO_MANY_CONNECTIONS,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.NO_QUORUM,
    }
)

_ADVICE: dict[ErrorCode, str] = {
    ErrorCode.NONE: "No error.",
    ErrorCode.INTERNAL: "The broker met an error of its own; see its log.",
    ErrorCode.MALFORMED_REQUEST: "The request could not be read; the sender errs.",
    ErrorCode.UNSUPPORTED_VERSION: "Client and broker share no version; upgrade the older.",
    ErrorCode.UNSUPPORTED_API: "The broker does not know this request; upgrade the broker.",
    ErrorCode.FRAME_TOO_LARGE: "The frame is larger than accepted; send smaller requests.",
    ErrorCode.CORRUPT_BATCH: "The checksum or the layout of the batch is wrong; send it again.",
    ErrorCode.MESSAGE_TOO_LARGE: "The batch is larger than the topic's max_message_bytes allows.",
    ErrorCode.UNSUPPORTED_CODEC: "The codec is unknown; use none, gzip, snappy, lz4 or zstd.",
    ErrorCode.UNKNOWN_TOPIC: "There is no such topic; create it first, or check its name.",
    ErrorCode.UNKNOWN_PARTITION: "The topic has no such partition; partitions count from 0.",
    ErrorCode.TOPIC_EXISTS: "A topic of this name exists already.",
    ErrorCode.INVALID_TOPIC_NAME: "Use 1 to 249 of the characters a-z A-Z 0-9 . _ - (not . or ..).",
    ErrorCode.INVALID_PARTITIONS: "Ask for at least one partition, and never for fewer than now.",
    ErrorCode.INVALID_REPLICATION_FACTOR: "Ask for at least 1 and at most as many as brokers.",
    ErrorCode.INVALID_CONFIG: "A setting is unknown or out of its range.",
    ErrorCode.INVALID_REQUEST: "The request contradicts itself.",
    ErrorCode.OFFSET_OUT_OF_RANGE: "The offset is before the first or after the last one kept.",
    ErrorCode.NOT_LEADER: "Another broker leads this partition; refresh the metadata.",
    ErrorCode.LEADER_NOT_AVAILABLE: "The partition has no leader at the moment; try again.",
    ErrorCode.NOT_ENOUGH_REPLICAS: "Fewer in-sync replicas than min_insync_replicas; try again.",
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "Written, but by too few replicas; try again.",
    ErrorCode.FENCED_LEADER_EPOCH: "The leader epoch is an old one; refresh the metadata.",
    ErrorCode.UNKNOWN_LEADER_EPOCH: "The leader epoch is newer than the broker's; try again.",
    ErrorCode.REQUEST_TIMED_OUT: "The time given with the request ran out.",
    ErrorCode.STORAGE_FULL: "The broker's disk is full; make room, writing resumes by itself.",
    ErrorCode.STORAGE_FAILED: "The broker's log stopped after a disk error; see its log.",
    ErrorCode.BROKER_SHUTTING_DOWN: "The broker is shutting down; try again.",
    ErrorCode.TOO_BUSY: "The broker is over a limit; try again after a pause.",
    ErrorCode.NOT_CONTROLLER: "Another broker is the controller; refresh the metadata.",
    ErrorCode.WRONG_CLUSTER: "This broker belongs to another cluster; check the address.",
    ErrorCode.TOO_MANY_CONNECTIONS: "The broker has as many connections as it allows; try later.",
    ErrorCode.UNKNOWN_PRODUCER_ID: "The producer id is not known here (any more); take a new one.",
    ErrorCode.OUT_OF_ORDER_SEQUENCE: "A batch before this one is missing; nothing was appended.",
    ErrorCode.INVALID_PRODUCER_EPOCH: "A newer producer has taken over this producer id.",
    ErrorCode.STALE_BROKER_EPOCH: "The broker's session is over; it has to register anew.",
    ErrorCode.STALE_PARTITION_EPOCH: "The partition has changed meanwhile; look again.",
    ErrorCode.DUPLICATE_BROKER: "Another broker has this node id; give each its own.",
    ErrorCode.UNKNOWN_BROKER: "There is no broker of this id; see the list of members.",
    ErrorCode.NO_REASSIGNMENT: "No reassignment of this partition is under way.",
    ErrorCode.OFFSET_NOT_AVAILABLE: "This broker does not know the log so far yet; try again.",
    ErrorCode.DUPLICATE_SEQUENCE: "The batch is in the log already, its offset is not known.",
    ErrorCode.NO_QUORUM: "No majority of the voters can be reached; try again.",
}
