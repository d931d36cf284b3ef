"""fallocate(2): room on the disk for a file, beyond its length.

`os.posix_fallocate` makes the file longer, so that recovery would have to tell what was written
from what was not; the system call leaves the length alone.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_KEEP_SIZE = 1
"""FALLOC_FL_KEEP_SIZE of linux/falloc.h."""

_UNSUPPORTED = frozenset((errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV))


@functools.cache
def _system_call() -> Callable[[int, int, int, int], int] | None:
    """Find the function in the C library; None: it has none. ctypes is loaded when needed."""
    if sys.platform != "linux":  # pragma: no cover - elsewhere nothing is set aside
        return None
    import ctypes

    try:
        function: Any = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):  # pragma: no cover - glibc and musl have it
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    function.restype = ctypes.c_int

    def call(fd: int, mode: int, offset: int, length: int) -> int:
        while function(fd, mode, offset, length):
            number = ctypes.get_errno()
            if number != errno.EINTR:  # pragma: no branch - a signal in this very moment
                return number
        return 0

    return call


def allocate(fd: int, path: str, length: int) -> None:
    """Set room aside for the first ``length`` bytes; do nothing where that is not supported.

    Raises:
        OSError: There is no room, or the disk fails.
    """
    call = _system_call()
    number = 0 if call is None else call(fd, _KEEP_SIZE, 0, length)
    if number and number not in _UNSUPPORTED:
        raise OSError(number, os.strerror(number), path)
