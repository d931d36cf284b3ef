"""The names of the files in a tree's directory."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

LOCK = "LOCK"
CURRENT = "CURRENT"
TEMPORARY = ".tmp"
RESERVE = "RESERVE"

_SEGMENT = re.compile(r"(\d{6,})\.wal")
_TABLE = re.compile(r"(\d{6,})\.sst")
_MANIFEST = re.compile(r"MANIFEST-(\d{6,})")


def segment_path(directory: str, number: int) -> str:
    """Return the path of a segment of the write-ahead log."""
    return os.path.join(directory, f"{number:06d}.wal")


def table_path(directory: str, number: int) -> str:
    """Return the path of a table."""
    return os.path.join(directory, f"{number:06d}.sst")


def manifest_path(directory: str, number: int) -> str:
    """Return the path of a manifest."""
    return os.path.join(directory, f"MANIFEST-{number:06d}")


class Listing(NamedTuple):
    """The files of a directory by kind; numbers ascending.

    Attributes:
        segments: Numbers of log segments.
        tables: Numbers of tables.
        manifests: Numbers of manifests.
        temporary: Names of files that were being written.
        has_current: Whether there is a CURRENT.
        has_reserve: Whether there is a RESERVE.
        foreign: Names that are none of ours.
    """

    segments: list[int]
    tables: list[int]
    manifests: list[int]
    temporary: list[str]
    has_current: bool
    has_reserve: bool
    foreign: list[str]


def sort_names(names: list[str]) -> Listing:
    """Sort the names of a directory by kind."""
    listing = Listing([], [], [], [], CURRENT in names, RESERVE in names, [])
    for name in sorted(names):
        if segment := _SEGMENT.fullmatch(name):
            listing.segments.append(int(segment[1]))
        elif table := _TABLE.fullmatch(name):
            listing.tables.append(int(table[1]))
        elif manifest := _MANIFEST.fullmatch(name):
            listing.manifests.append(int(manifest[1]))
        elif name.endswith(TEMPORARY):
            listing.temporary.append(name)
        elif name not in (LOCK, CURRENT, RESERVE):
            listing.foreign.append(name)
    for numbers in (listing.segments, listing.tables, listing.manifests):
        numbers.sort()
    return listing
