"""Directories that survive a loss of power."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streambus_storage._filesystem import FileSystem


def make_durable_directory(file_system: FileSystem, path: str) -> None:
    """Create a directory and all that is missing above it, each name durable; or do nothing.

    Raises:
        OSError: That failed; some of them may have been made.
    """
    missing: list[str] = []
    ancestor = os.path.abspath(path)
    while not file_system.exists(ancestor):
        missing.append(ancestor)
        ancestor = os.path.dirname(ancestor)
    if missing:
        file_system.make_directory(missing[0])
    for directory in reversed(missing):
        file_system.sync_directory(os.path.dirname(directory))
