"""An embedded, ordered, crash-safe LSM key-value store in pure Python.

Start here: this root is the whole public API (`errors` and `testing` excepted). `_options`
explains every knob, `_filesystem` and `_scheduler` are the doors to the world.
"""

from streambus_storage._filesystem import AppendFile, FileLock, FileSystem, ReadFile, RealFileSystem
from streambus_storage._options import (
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    FilterVerdict,
    Options,
)
from streambus_storage._scheduler import Scheduler, ThreadScheduler, Worker
from streambus_storage._version import __version__
from streambus_storage.errors import (
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
    "ClosedError",
    "CorruptionError",
    "DiskFullError",
    "FileLock",
    "FileSystem",
    "FilterVerdict",
    "FormatVersionError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "LockedError",
    "NotATreeError",
    "Options",
    "ReadFile",
    "ReadOnlyError",
    "RealFileSystem",
    "Scheduler",
    "StorageError",
    "StorageIOError",
    "ThreadScheduler",
    "TreeFailedError",
    "WaitTimeoutError",
    "Worker",
    "WriteStallError",
    "__version__",
]
