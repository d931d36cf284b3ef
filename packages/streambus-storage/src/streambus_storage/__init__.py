"""An embedded, ordered, crash-safe LSM key-value store in pure Python.

Start here: this root is the whole public API (`errors` and `testing` excepted). `LSMTree` in
`_tree` is the class around which everything revolves, and its module says how the others play
together. `_options` explains every knob, `_filesystem` and `_scheduler` are the doors to the
world.
"""

from streambus_storage._batch import WriteBatch
from streambus_storage._block import CodecMissingError
from streambus_storage._filesystem import AppendFile, FileLock, FileSystem, ReadFile, RealFileSystem
from streambus_storage._jobs import CompactionFilterError
from streambus_storage._options import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    CompactionFilter,
    FilterVerdict,
    KeyPartitioner,
    Options,
)
from streambus_storage._pressure import Pressure
from streambus_storage._scan import Scan
from streambus_storage._scheduler import Scheduler, ThreadScheduler, Worker
from streambus_storage._snapshot import Snapshot
from streambus_storage._sstable_reader import ValueLocation
from streambus_storage._stats import LevelStats, TreeStats
from streambus_storage._tree import LSMTree
from streambus_storage._verify import Problem, VerifyReport
from streambus_storage._version import __version__
from streambus_storage._wal_reader import RecoveryReport, TornTail
from streambus_storage.errors import (
    BackgroundError,
    ClosedError,
    CorruptionError,
    DiskFullError,
    FormatVersionError,
    InvalidArgumentError,
    InvalidTypeError,
    LockedError,
    NotATreeError,
    ReadOnlyError,
    StorageError,
    StorageIOError,
    TreeFailedError,
    WaitTimeoutError,
    WriteStallError,
)

__all__ = [
    "KEY_BYTES_MAX",
    "VALUE_BYTES_MAX",
    "AppendFile",
    "BackgroundError",
    "ClosedError",
    "CodecMissingError",
    "CompactionFilter",
    "CompactionFilterError",
    "CorruptionError",
    "DiskFullError",
    "FileLock",
    "FileSystem",
    "FilterVerdict",
    "FormatVersionError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "KeyPartitioner",
    "LSMTree",
    "LevelStats",
    "LockedError",
    "NotATreeError",
    "Options",
    "Pressure",
    "Problem",
    "ReadFile",
    "ReadOnlyError",
    "RealFileSystem",
    "RecoveryReport",
    "Scan",
    "Scheduler",
    "Snapshot",
    "StorageError",
    "StorageIOError",
    "ThreadScheduler",
    "TornTail",
    "TreeFailedError",
    "TreeStats",
    "ValueLocation",
    "VerifyReport",
    "WaitTimeoutError",
    "Worker",
    "WriteBatch",
    "WriteStallError",
    "__version__",
]
