"""The one place where errors of the operating system become errors of this package."""

from __future__ import annotations

import errno

from streambus_storage.errors import DiskFullError, StorageError, StorageIOError

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


def translated(path: str, operation: str, cause: OSError) -> StorageError:
    """Return the error of this package that says what ``cause`` means."""
    kind = DiskFullError if cause.errno in _FULL else StorageIOError
    return kind(path, operation, cause)


class translate:  # noqa: N801 - reads as a statement: ``with translate(path, "read"):``
    """Turn an `OSError` in the block into a `StorageIOError` or a `DiskFullError`."""

    __slots__ = ("_operation", "_path")

    def __init__(self, path: str, operation: str) -> None:
        self._path = path
        self._operation = operation

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise translated(self._path, self._operation, error) from error
