"""Everything this package raises; all of it descends from ``RaftError``.

Facts are attributes, and the message is built from them.
"""

from __future__ import annotations


class RaftError(Exception):
    """The root of this package's errors.

    ``retriable`` says whether the same call may succeed later, here or at another node.
    """

    retriable = False


class ConfigError(RaftError, ValueError):
    """A setting is out of range, or settings contradict each other; nothing was started."""


class NotLeaderError(RaftError):
    """This node is not the leader, or cannot act as one now; ask ``leader``, if it is known."""

    retriable = True

    def __init__(self, leader: int | None, reason: str = "not the leader") -> None:
        self.leader = leader
        self.reason = reason
        super().__init__(f"{reason}; the leader is {leader if leader else 'not known'}")


class BusyError(RaftError):
    """Too much waits already: uncommitted bytes, or reads. Nothing was taken on; try later."""

    retriable = True

    def __init__(self, pending: int, limit: int, unit: str) -> None:
        self.pending = pending
        self.limit = limit
        self.unit = unit
        super().__init__(f"{pending} {unit} wait already; the limit is {limit}")


class ProposalTooLargeError(RaftError):
    """One command exceeds ``Config.command_bytes_max``; nothing was appended."""

    def __init__(self, command_bytes: int, bytes_max: int) -> None:
        self.command_bytes = command_bytes
        self.bytes_max = bytes_max
        super().__init__(f"a command of {command_bytes} bytes; the limit is {bytes_max}")


class MembershipError(RaftError):
    """A membership change makes no sense: unknown node, no voter left, or nothing to change."""


class MembershipPendingError(RaftError):
    """A membership change is refused for now: another is under way, or the leader is too new.

    A leader changes the membership only after an entry of its own term was committed; without this
    two leaders could each take out another node and both find a majority.
    """

    retriable = True


class TransferError(RaftError):
    """Leadership cannot be transferred: the target is no voter or silent, or another one runs."""

    retriable = True


class QuarantinedError(RaftError):
    """This node takes no part, because its storage failed or has lost what it had acknowledged."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"this node is in quarantine: {reason}")


class StorageError(RaftError):
    """The root of what a ``LogStorage`` raises."""


class CompactedError(StorageError):
    """The index was compacted away; the log begins at ``first_index``."""

    def __init__(self, index: int, first_index: int) -> None:
        self.index = index
        self.first_index = first_index
        super().__init__(f"index {index} was compacted; the log begins at {first_index}")


class UnavailableError(StorageError):
    """The index is behind the end of the log, which is at ``last_index``."""

    def __init__(self, index: int, last_index: int) -> None:
        self.index = index
        self.last_index = last_index
        super().__init__(f"index {index} is behind the end of the log at {last_index}")


class SnapshotGoneError(StorageError):
    """The snapshot that is being sent was replaced or deleted; the transfer starts anew."""


class MessageError(RaftError):
    """The root of what is wrong with a message from outside; the message had no effect."""


class MessageMalformedError(MessageError):
    """Bytes that are no message: wrong shape, wrong type, or a number out of range."""


class MessageTooLargeError(MessageError):
    """A message exceeds the limit; it was not decoded."""

    def __init__(self, message_bytes: int, bytes_max: int) -> None:
        self.message_bytes = message_bytes
        self.bytes_max = bytes_max
        super().__init__(f"a message of {message_bytes} bytes; the limit is {bytes_max}")


class MessageMisdirectedError(MessageError):
    """A message for another node, or one that claims to come from this one; it had no effect."""

    def __init__(self, sender: int, to: int, node_id: int) -> None:
        self.sender = sender
        self.to = to
        self.node_id = node_id
        super().__init__(f"a message from {sender} to {to} reached node {node_id}")


class MessageVersionError(MessageError):
    """A message of a format version that this build does not know."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"message format version {version} is not known here")


class ForeignClusterError(MessageError):
    """A message of another cluster: two clusters share an address, or a setting is wrong."""

    def __init__(self, cluster: str, expected: str) -> None:
        self.cluster = cluster
        self.expected = expected
        super().__init__(f"a message of cluster {cluster!r} reached a node of {expected!r}")
