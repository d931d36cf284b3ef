"""StreamBus's own engine as a contender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streambus_storage import LSMTree, Options, WriteBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bench.storage.contenders import Pair


class StreamBus:
    """`streambus_storage.LSMTree` with its default options, but for the sizes all share."""

    name = "StreamBus"

    def __init__(
        self, path: Path, *, memtable_bytes: int, cache_bytes: int, **options: Any
    ) -> None:
        self.tree = LSMTree.open(
            str(path),
            Options(
                memtable_bytes=memtable_bytes,
                cache_bytes=cache_bytes,
                stall_seconds_max=600,  # the others make a writer wait without any limit
                **options,
            ),
        )
        self.put = self.tree.put
        self.get = self.tree.get
        self.multi_get = self.tree.multi_get
        self.first = self.tree.first
        self.last = self.tree.last
        self.delete_range = self.tree.delete_range

    def put_batch(self, pairs: Sequence[Pair]) -> None:
        """See `Contender`."""
        batch = WriteBatch()
        for key, value in pairs:
            batch.put(key, value)
        self.tree.write(batch)

    def scan(self) -> Iterable[Pair]:
        """See `Contender`."""
        return self.tree.scan()

    def scan_backward(self) -> Iterable[Pair]:
        """See `Contender`."""
        return self.tree.scan(reverse=True)

    def settle(self) -> None:
        """See `Contender`."""
        self.tree.flush()
        self.tree.compact()

    def close(self) -> None:
        """See `Contender`."""
        self.tree.close()
