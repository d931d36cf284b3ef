"""Directories that survive a loss of power."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from streambus_storage.errors import InvalidArgumentError, InvalidTypeError

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


def as_path(path: str | os.PathLike[str]) -> str:
    """Return the path of a directory as text.

    Raises:
        InvalidTypeError: It is neither text nor a `os.PathLike` of text.
        InvalidArgumentError: It is empty, or no name of a file can be like it.
    """
    text: object = path
    if isinstance(path, os.PathLike):
        text = os.fspath(path)
    if not isinstance(text, str):
        raise InvalidTypeError(f"a path must be str or os.PathLike, not {type(path).__name__}")
    if not text or "\0" in text:
        raise InvalidArgumentError(f"{text!r} names no directory")
    return text
