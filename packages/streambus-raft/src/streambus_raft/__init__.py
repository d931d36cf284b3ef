"""Raft consensus for any Python program that has a state machine to replicate.

Start here: ``RaftCore`` is the algorithm, without clock, network, disk or dice; ``_ready`` tells
what its owner does for it.
"""

from streambus_raft._codec import Codec
from streambus_raft._config import Config
from streambus_raft._core import Proposal, RaftCore
from streambus_raft._entry import Entry, EntryKind, entries_bytes, limit_bytes, make_entries
from streambus_raft._hard_state import HardState
from streambus_raft._membership import (
    Change,
    ChangeKind,
    Membership,
    decode_membership,
    new_membership,
)
from streambus_raft._messages import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadReply,
    ReadRequest,
    Refusal,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from streambus_raft._progress import ProgressState
from streambus_raft._ready import ReadState, Ready, Standing
from streambus_raft._status import MemberStatus, Status
from streambus_raft._storage import (
    EMPTY_SNAPSHOT,
    LogReader,
    LogStorage,
    SnapshotMeta,
    SnapshotPiece,
    StorageState,
    Write,
    bootstrap_snapshot,
)
from streambus_raft._types import NO_NODE, NUMBER_MAX, Dice, Index, NodeId, Role, Term
from streambus_raft._version import __version__

__all__ = [
    "EMPTY_SNAPSHOT",
    "NO_NODE",
    "NUMBER_MAX",
    "AppendReply",
    "AppendRequest",
    "Change",
    "ChangeKind",
    "Codec",
    "Config",
    "Dice",
    "Entry",
    "EntryKind",
    "HardState",
    "Heartbeat",
    "HeartbeatReply",
    "Index",
    "LogReader",
    "LogStorage",
    "MemberStatus",
    "Membership",
    "Message",
    "NodeId",
    "ProgressState",
    "Proposal",
    "RaftCore",
    "ReadReply",
    "ReadRequest",
    "ReadState",
    "Ready",
    "Refusal",
    "Role",
    "SnapshotChunk",
    "SnapshotMeta",
    "SnapshotPiece",
    "SnapshotReply",
    "Standing",
    "Status",
    "StorageState",
    "Term",
    "TimeoutNow",
    "VoteReply",
    "VoteRequest",
    "Write",
    "__version__",
    "bootstrap_snapshot",
    "decode_membership",
    "entries_bytes",
    "limit_bytes",
    "make_entries",
    "new_membership",
]
