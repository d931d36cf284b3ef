"""The one place where errors of the operating system become errors of this package."""

from __future__ import annotations

import copy
import errno
from typing import TYPE_CHECKING

from streambus_storage.errors import DiskFullError, StorageError, StorageIOError

if TYPE_CHECKING:
    from typing import TypeVar

    SomeError = TypeVar("SomeError", bound=StorageError)

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT))


def translated(path: str, operation: str, cause: OSError) -> StorageError:
    """Return the error of this package that says what ``cause`` means."""
    kind = DiskFullError if cause.errno in _FULL else StorageIOError
    return kind(path, operation, cause)


def frameless(error: SomeError) -> SomeError:
    """Take the frames out of an error that is kept, and of its causes; return it.

    The frames of a merge that failed hold its tables, whose files could not go as long.
    """
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__
    return error


def again(error: SomeError) -> SomeError:
    """Return a copy of an error that is kept, to be raised.

    One that is raised itself, time and again, gathers the frames of all who met it.
    """
    fresh = copy.copy(error)
    fresh.__cause__ = error
    return fresh


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
