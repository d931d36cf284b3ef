"""How fast replicas that are not in sync may be copied: a token bucket, pure.

Only partitions outside the in-sync set count: throttling a replica that acknowledgements wait for
would throttle the producers.
"""

from __future__ import annotations

UNLIMITED = -1


class Throttle:
    """Bytes per second with a burst of one second.

    Attributes:
        bytes_per_s: The limit; UNLIMITED for none.
    """

    __slots__ = ("_tokens", "_updated_s", "bytes_per_s")

    def __init__(self, bytes_per_s: int = UNLIMITED) -> None:
        self.bytes_per_s = bytes_per_s
        self._tokens = float(max(0, bytes_per_s))
        self._updated_s: float | None = None

    def limit(self, bytes_per_s: int) -> None:
        """Go by another limit from now on."""
        self.bytes_per_s = bytes_per_s
        self._tokens = min(self._tokens, float(max(0, bytes_per_s)))

    def room(self, now_s: float) -> int | None:
        """How many bytes may be taken now; None for as many as there are."""
        if self.bytes_per_s == UNLIMITED:
            return None
        if self._updated_s is not None:
            self._tokens += (now_s - self._updated_s) * self.bytes_per_s
            self._tokens = min(self._tokens, float(self.bytes_per_s))
        self._updated_s = now_s
        return max(0, int(self._tokens))

    def took(self, size_bytes: int) -> None:
        """Account for bytes; may go below zero by one batch, which later ones wait for."""
        if self.bytes_per_s != UNLIMITED:
            self._tokens -= size_bytes
