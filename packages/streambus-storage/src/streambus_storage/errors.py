"""Every error that this package raises on purpose, under one root.

`StorageError` is the root. Facts (path, offset, ...) are attributes; messages are built from
them. Errors of the operating system never escape bare: they arrive as `StorageIOError` or
`DiskFullError`, raised ``from`` the `OSError`.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BackgroundError",
    "ClosedError",
    "CorruptionError",
    "DiskFullError",
    "FormatVersionError",
    "InvalidArgumentError",
    "InvalidTypeError",
    "LockedError",
    "NotATreeError",
    "ReadOnlyError",
    "StorageError",
    "StorageIOError",
    "TreeFailedError",
    "WaitTimeoutError",
    "WriteStallError",
]


class StorageError(Exception):
    """The root: catch it to catch everything that this package raises on purpose.

    All of them can be pickled: they cross from one process to another whole.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[StorageError], arguments: tuple[Any, ...]) -> StorageError:
    """Make an error from its message; its facts follow."""
    error = kind.__new__(kind)
    error.args = arguments
    return error


class InvalidArgumentError(StorageError, ValueError):
    """An argument has the right type and an impossible value, such as an inverted range.

    Nothing was changed. Correct the call.
    """


class InvalidTypeError(StorageError, TypeError):
    """A key or a value is not bytes-like.

    Nothing was changed. Encode the object first: the engine stores bytes and nothing else.
    """


class ClosedError(StorageError):
    """The tree, the snapshot or the scan was closed (or belongs to the parent of this fork).

    Open it again.
    """


class BackgroundError(StorageError):
    """Flush or compaction met an error that is none of storage's: a key partitioner raised, say.

    Nothing is lost, and the work is tried again; ``__cause__`` is what was raised.
    """


class ReadOnlyError(StorageError):
    """A write was asked of a tree that was opened with ``read_only=True``."""


class LockedError(StorageError):
    """Another process, or this one, has the tree open for writing.

    Attributes:
        path: The lock file. The lock is of the kernel's kind and goes with its process: a file
            that merely lies there does not lock anything, and need not be removed.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: the tree is already open for writing")
        self.path = path


class NotATreeError(StorageError):
    """The directory holds no tree and was not to become one.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: not a tree: {reason}")
        self.path = path
        self.reason = reason


class CorruptionError(StorageError):
    """Stored bytes are not what was written, at a place that had been made durable.

    The engine never skips such bytes. Restore the file from a checkpoint, or salvage what
    ``python -m streambus_storage dump`` can still read.

    Attributes:
        path: The damaged file.
        offset: Where in it, in bytes; 0 where the file as a whole is wrong or missing.
        reason: What was found.
    """

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__(f"{path} at byte {offset}: {reason}")
        self.path = path
        self.offset = offset
        self.reason = reason


class FormatVersionError(StorageError):
    """A file was written in a format that this version does not know; nothing was touched.

    Attributes:
        path: The file.
        found: The format version in it.
        supported: The newest version that can be read.
    """

    def __init__(self, path: str, found: int, supported: int) -> None:
        super().__init__(f"{path}: format version {found}, only up to {supported} is known")
        self.path = path
        self.found = found
        self.supported = supported


class StorageIOError(StorageError):
    """The operating system refused an operation on a file.

    Attributes:
        path: The file or directory.
        operation: What was tried, such as ``"read"``.
        errno: The number of the system's error, or None.
    """

    def __init__(self, path: str, operation: str, cause: OSError) -> None:
        super().__init__(f"{path}: {operation} failed: {cause.strerror or cause}")
        self.path = path
        self.operation = operation
        self.errno = cause.errno


class DiskFullError(StorageIOError):
    """There is no room (or no quota) left. The write did not happen, reads go on.

    Writes succeed again as soon as there is room; nothing needs to be reopened.
    """


class TreeFailedError(StorageError):
    """The tree refuses writes for good, because it can no longer promise durability.

    Raised after a failed sync of the write-ahead log or of the manifest. A failed sync is
    final: the system may have dropped the unwritten pages, so a second attempt that succeeds
    proves nothing. Reads go on. Close and reopen: recovery tells what survived.

    Attributes:
        cause: The error that ended it.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"the tree refuses writes since: {cause}")
        self.cause = cause


class WriteStallError(StorageError):
    """A write waited its full time for flush and compaction to catch up; it did not happen.

    Attributes:
        waited_seconds: How long it waited.
        reason: What it waited for.
    """

    def __init__(self, waited_seconds: float, reason: str) -> None:
        super().__init__(f"write gave up after {waited_seconds:.3f} s: {reason}")
        self.waited_seconds = waited_seconds
        self.reason = reason


class WaitTimeoutError(StorageError, TimeoutError):
    """`wait_durable` ran out of its timeout. The write stays, and may become durable later."""
