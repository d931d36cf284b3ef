"""Which fetches wait for records, and when one of them has waited enough: pure bookkeeping.

A waiting fetch is registered with every partition that it reads. When one of them grows, the
bytes are added to the fetch's count; it is due when it has what it asked for. Nobody polls.
"""

from __future__ import annotations

from typing import Any


class Wait:
    """One fetch that waits.

    Attributes:
        payload: Whatever the caller needs to answer it.
        missing_bytes: What must still arrive; it is due at 0 or below.
        partition_ids: The partitions that it reads.
        timer: The caller's handle for its deadline, or None.
        over: True once it was answered, timed out or cancelled.
    """

    __slots__ = ("missing_bytes", "over", "partition_ids", "payload", "timer")

    def __init__(self, payload: Any, missing_bytes: int, partition_ids: tuple[int, ...]) -> None:
        self.payload = payload
        self.missing_bytes = missing_bytes
        self.partition_ids = partition_ids
        self.timer: Any = None
        self.over = False


class WaitSet:
    """All waiting fetches, by partition."""

    def __init__(self) -> None:
        self.by_partition: dict[int, list[Wait]] = {}
        self.count = 0

    def add(self, wait: Wait) -> None:
        """Let a fetch wait."""
        self.count += 1
        for partition_id in wait.partition_ids:
            self.by_partition.setdefault(partition_id, []).append(wait)

    def remove(self, wait: Wait) -> None:
        """End a wait, whatever the reason; a second call does nothing."""
        if wait.over:
            return
        wait.over = True
        self.count -= 1
        for partition_id in wait.partition_ids:
            waiting = self.by_partition.get(partition_id)
            if waiting is not None:
                waiting.remove(wait)
                if not waiting:
                    del self.by_partition[partition_id]

    def grown(self, partition_id: int, size_bytes: int) -> list[Wait]:
        """Count readable bytes that were added; return the waits that are now due, removed."""
        waiting = self.by_partition.get(partition_id)
        if waiting is None:
            return []
        due = []
        for wait in waiting:
            wait.missing_bytes -= size_bytes
            if wait.missing_bytes <= 0:
                due.append(wait)
        for wait in due:
            self.remove(wait)
        return due

    def all_of(self, partition_id: int) -> list[Wait]:
        """Take every wait of a partition out: it was deleted or lost its leader."""
        due = list(self.by_partition.get(partition_id, ()))
        for wait in due:
            self.remove(wait)
        return due

    def everything(self) -> list[Wait]:
        """Take every wait out: the broker shuts down."""
        due = list({wait: None for waits in self.by_partition.values() for wait in waits})
        for wait in due:
            self.remove(wait)
        return due
