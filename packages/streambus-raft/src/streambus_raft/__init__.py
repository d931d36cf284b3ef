"""Raft consensus for any Python program that has a state machine to replicate.

Start here: ``RaftServer`` is what a program uses, ``StateMachine`` what it brings. Behind the
server ``RaftCore`` is the algorithm, without clock, network, disk or dice; ``_ready`` tells what
its owner does for it.
"""

from streambus_raft._client_session import ClientSession
from streambus_raft._codec import Codec
from streambus_raft._config import Config
from streambus_raft._core import Proposal, RaftCore
from streambus_raft._entry import Entry, EntryKind, entries_bytes, limit_bytes, make_entries
from streambus_raft._envelope import SessionRequest
from streambus_raft._file_storage import FileLogStorage
from streambus_raft._files import AppendFile, DirectoryLock, FileSystem, RealFileSystem
from streambus_raft._forwarding import Forward, ForwardRefused, PeerMessage
from streambus_raft._hard_state import HardState
from streambus_raft._log_recovery import TornTail
from streambus_raft._membership import (
    Change,
    ChangeKind,
    Membership,
    decode_membership,
    new_membership,
)
from streambus_raft._memory_storage import MemoryLogStorage
from streambus_raft._memory_transport import MemoryNetwork, MemoryTransport
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
from streambus_raft._metrics import Leadership, ServerMetrics
from streambus_raft._persister import SelfSyncing
from streambus_raft._progress import ProgressState
from streambus_raft._ready import ReadState, Ready, Standing
from streambus_raft._server import RaftServer
from streambus_raft._state_machine import StateMachine
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
from streambus_raft._tcp_transport import TcpOptions, TcpTransport
from streambus_raft._transport import Receiver, Transport, TransportMetrics
from streambus_raft._types import NO_NODE, NUMBER_MAX, Dice, Index, NodeId, Role, Term
from streambus_raft._version import __version__

__all__ = [
    "EMPTY_SNAPSHOT",
    "NO_NODE",
    "NUMBER_MAX",
    "AppendFile",
    "AppendReply",
    "AppendRequest",
    "Change",
    "ChangeKind",
    "ClientSession",
    "Codec",
    "Config",
    "Dice",
    "DirectoryLock",
    "Entry",
    "EntryKind",
    "FileLogStorage",
    "FileSystem",
    "Forward",
    "ForwardRefused",
    "HardState",
    "Heartbeat",
    "HeartbeatReply",
    "Index",
    "Leadership",
    "LogReader",
    "LogStorage",
    "MemberStatus",
    "Membership",
    "MemoryLogStorage",
    "MemoryNetwork",
    "MemoryTransport",
    "Message",
    "NodeId",
    "PeerMessage",
    "ProgressState",
    "Proposal",
    "RaftCore",
    "RaftServer",
    "ReadReply",
    "ReadRequest",
    "ReadState",
    "Ready",
    "RealFileSystem",
    "Receiver",
    "Refusal",
    "Role",
    "SelfSyncing",
    "ServerMetrics",
    "SessionRequest",
    "SnapshotChunk",
    "SnapshotMeta",
    "SnapshotPiece",
    "SnapshotReply",
    "Standing",
    "StateMachine",
    "Status",
    "StorageState",
    "TcpOptions",
    "TcpTransport",
    "Term",
    "TimeoutNow",
    "TornTail",
    "Transport",
    "TransportMetrics",
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
