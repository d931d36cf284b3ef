"""Which leader epoch wrote which part of a log: the memory that truncation goes by.

A list of (epoch, first offset), both ascending. A follower whose log ends in an epoch that the
leader's log ends earlier in, or does not know, holds records that were never committed; it goes
back to the point where both agree (KIP-101), epoch by epoch where needed (KIP-279).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple, Self

import msgpack

NO_EPOCH = -1
"""The last epoch of an empty log."""


class EpochEnd(NamedTuple):
    """Where an epoch ends in a log.

    Attributes:
        epoch: The largest known epoch at or below the one asked for; NO_EPOCH for none.
        end_offset: The offset behind its last record; -1 for none.
    """

    epoch: int
    end_offset: int


NOWHERE = EpochEnd(NO_EPOCH, -1)


class LeaderEpochs:
    """See the module. Both lists have the same length and ascend strictly."""

    __slots__ = ("epochs", "starts")

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.starts: list[int] = []

    @property
    def latest(self) -> int:
        """The epoch of the last record, NO_EPOCH where there was none."""
        return self.epochs[-1] if self.epochs else NO_EPOCH

    def copy(self) -> LeaderEpochs:
        """The same, to be changed apart."""
        made = LeaderEpochs()
        made.epochs, made.starts = list(self.epochs), list(self.starts)
        return made

    def begin(self, epoch: int, start_offset: int) -> bool:
        """Take note that ``epoch`` writes from ``start_offset`` on; return whether that is news.

        An epoch that wrote nothing leaves no trace: a later one from the same offset replaces it.
        """
        if epoch <= self.latest:
            return False
        self.cut(start_offset)
        self.epochs.append(epoch)
        self.starts.append(start_offset)
        return True

    def end_of(self, epoch: int, log_end: int) -> EpochEnd:
        """Where ``epoch``, or the largest one before it, ends in a log that ends at ``log_end``."""
        index = bisect_right(self.epochs, epoch)
        if not index:
            return NOWHERE
        end = self.starts[index] if index < len(self.starts) else log_end
        return EpochEnd(self.epochs[index - 1], end)

    def epoch_before(self, offset: int) -> int:
        """The epoch of the record just before ``offset``; NO_EPOCH where none is known."""
        index = bisect_right(self.starts, offset - 1)
        return self.epochs[index - 1] if index else NO_EPOCH

    def divergence(self, offset: int, last_epoch: int, log_end: int) -> EpochEnd | None:
        """Judge a follower that wants to read on from ``offset``.

        Args:
            offset: The end of the follower's log.
            last_epoch: The epoch of its last record, NO_EPOCH for an empty log.
            log_end: The end of this log, the leader's.

        Returns:
            None where the follower's log is a beginning of this one; else where this log's part of
            that epoch ends (NOWHERE where nothing that old is kept).
        """
        if last_epoch == NO_EPOCH:
            return None
        end = self.end_of(last_epoch, log_end)
        if end.epoch == last_epoch and offset <= end.end_offset:
            return None
        return end

    def common_end(self, leader_end: EpochEnd, log_end: int) -> int:
        """Where a follower with these epochs goes back to, told the leader's ``leader_end``."""
        mine = self.end_of(leader_end.epoch, log_end)
        return max(0, min(mine.end_offset, leader_end.end_offset))

    def cut(self, offset: int) -> None:
        """Forget the epochs that begin at ``offset`` or later: the log was truncated there."""
        while self.starts and self.starts[-1] >= offset:
            self.starts.pop()
            self.epochs.pop()

    def delete_before(self, offset: int) -> None:
        """Forget what lies before ``offset``; the epoch that reaches over it begins there."""
        index = bisect_right(self.starts, offset) - 1
        if index > 0:
            del self.starts[:index], self.epochs[:index]
        if self.starts and self.starts[0] < offset:
            self.starts[0] = offset

    def encode(self) -> bytes:
        """For storing beside the log."""
        packed: bytes = msgpack.packb([self.epochs, self.starts])
        return packed

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Self:
        """Read what `encode` made.

        Raises:
            ValueError: It is something else.
        """
        try:
            epochs, starts = msgpack.unpackb(data)
            if len(epochs) != len(starts) or epochs != sorted(set(epochs)):
                raise ValueError("the epochs do not ascend")
        except (TypeError, ValueError, msgpack.UnpackException) as exc:
            raise ValueError(f"not a list of leader epochs: {exc}") from exc
        known = cls()
        known.epochs, known.starts = epochs, starts
        return known
