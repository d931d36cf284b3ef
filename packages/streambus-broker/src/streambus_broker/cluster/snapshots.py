"""When the metadata's state is written down, and its log begun anew. Pure.

By the bytes of the log alone that would be late: that a broker came or went is said in a few of
them, and changes every partition that it holds. Whoever starts goes through all that again. So a
snapshot is taken, too, when the log holds more changes of partitions than there are partitions:
then reading the state is less work than going through how it came to be.
"""

from __future__ import annotations

CHANGES_MIN = 500
"""Fewer are gone through in some hundredths of a second."""


def worth_a_snapshot(changes: int, partitions: int) -> bool:
    """Whether to take a snapshot, after so many changes of partitions since the last one."""
    return changes >= max(CHANGES_MIN, partitions)
