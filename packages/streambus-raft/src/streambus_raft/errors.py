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


class StorageFullError(StorageError):
    """A storage has no room for a write at present; it has written nothing of it.

    The node takes no part for as long, as if it were paused: others lead. It makes the same write
    again by itself, and goes on when there is room.
    """

    retriable = True

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"the storage takes no writes at present: {problem}")


class StorageFailedError(StorageError):
    """The disk failed while reading or writing. Final: the storage accepts nothing any more.

    What was written since the last good sync may or may not exist. Restart the node on a sound
    disk; if the log does not open there, remove the node from the cluster and add it anew.
    """

    def __init__(self, path: str, cause: OSError) -> None:
        self.path = path
        self.cause = cause
        super().__init__(f"{path}: {cause}")


class LogDamagedError(StorageError):
    """Something that was durable is not as it was: flipped bits, or a file that was tampered with.

    Nothing was changed on the disk. The node must not take part with this log: remove it from the
    cluster and add it anew with an empty directory, or restore the file.
    """

    def __init__(self, path: str, offset: int, problem: str) -> None:
        self.path = path
        self.offset = offset
        self.problem = problem
        super().__init__(f"{path} is damaged at byte {offset}: {problem}")


class StorageLockedError(StorageError):
    """Another process, or another object in this one, has the directory open."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} is open elsewhere")


class StorageMissingError(StorageError):
    """There is no log in the directory, and none was to be created: an emptied or mixed-up disk."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"there is no log in {path}")


class StorageEmptyError(StorageError):
    """The storage holds nothing, and the node was neither to found a cluster nor to join one.

    Found a new cluster with ``bootstrap=True``, once. A node that has taken part before has lost
    its disk: start it with ``join=True``, and have the leader make it a learner and then a voter.
    """

    def __init__(self, node: int) -> None:
        self.node = node
        super().__init__(
            f"the storage of node {node} is empty; bootstrap=True founds a cluster, once,"
            " join=True waits to be taken into one, as after the loss of a disk"
        )


class ForeignStorageError(StorageError):
    """The directory holds the log of another node or cluster; nothing was changed."""

    def __init__(
        self, path: str, found_node: int, found_cluster: str, node: int, cluster: str
    ) -> None:
        self.path = path
        self.found_node = found_node
        self.found_cluster = found_cluster
        super().__init__(
            f"{path} belongs to node {found_node} of {found_cluster!r},"
            f" not to node {node} of {cluster!r}"
        )


class SnapshotMismatchError(StorageError):
    """What arrived as a snapshot does not fit together; what arrived was dropped."""

    def __init__(self, index: int, problem: str) -> None:
        self.index = index
        self.problem = problem
        super().__init__(f"the snapshot at {index}: {problem}")


class StateMachineError(RaftError):
    """The state machine raised, or gave the wrong number of answers; this node has stopped.

    Its state is not known from there on. Mend the state machine and restart the node: it begins
    from its last snapshot.
    """

    def __init__(self, index: int, doing: str, problem: str) -> None:
        self.index = index
        self.doing = doing
        self.problem = problem
        super().__init__(f"the state machine failed to {doing} at index {index}: {problem}")


class StoppedError(RaftError):
    """The server is not running (any more); nothing was proposed by this call."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the server is not running: {reason}")


class ProposalDroppedError(RaftError):
    """The command was not applied, and never will be by this attempt; it may be repeated."""

    retriable = True


class ProposalUnknownError(RaftError):
    """Whether the command was or will be applied is not known.

    Repeat it only if applying it twice does no harm, or use a client session, which repeats it
    safely.
    """


class EnvelopeError(RaftError):
    """A committed entry cannot be read: a newer version wrote it, or not this library.

    The node cannot apply it, nor anything after it, and stops taking part.
    """


class SessionError(RaftError):
    """The root of why a session's request was refused; this attempt was not applied."""


class SessionExpiredError(SessionError):
    """The session is not known (any more): whether an earlier attempt was applied is unknown.

    Open a new session, and find out from the state whether the command must be repeated.
    """

    def __init__(self, session: int) -> None:
        self.session = session
        super().__init__(f"session {session} has expired or was never opened")


class AnswerForgottenError(SessionError):
    """The request is too old: its answer was acknowledged, or pushed out by newer ones."""

    def __init__(self, session: int, sequence: int) -> None:
        self.session = session
        self.sequence = sequence
        super().__init__(f"the answer to request {sequence} of session {session} is gone")


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
