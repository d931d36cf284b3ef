"""Futures of submitted records: light, because there is one for each record."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from streambus_client._types import RecordMetadata, RecordRange, TopicPartition

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from streambus_client._accumulator import Outcome


class SendFuture:
    """What will become of one submitted record. Made by ``Producer.submit``.

    Every future ends: with the record's place, or with the error that kept it from being written.
    """

    __slots__ = ("_done", "_index", "_outcome", "_timestamp_ms", "_where")

    def __init__(
        self,
        outcome: Outcome,
        index: int,
        where: TopicPartition,
        timestamp_ms: int,
        done: threading.Condition,
    ) -> None:
        self._outcome = outcome
        self._index = index
        self._where = where
        self._timestamp_ms = timestamp_ms
        self._done = done

    def done(self) -> bool:
        """Whether the record is acknowledged or has failed."""
        return self._outcome.done

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Wait for the record's place.

        Args:
            timeout: seconds; None waits until it ends, which the delivery deadline bounds.

        Raises:
            TimeoutError: it has not ended in time; it goes on.
            ClientError: why the record was not acknowledged.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        offset = self._outcome.base_offset
        return RecordMetadata(
            self._where.topic,
            self._where.partition,
            offset + self._index if offset >= 0 else -1,
            self._timestamp_ms,
        )

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait, and give the error, or None if the record was acknowledged.

        Raises:
            TimeoutError: it has not ended in time.
        """
        wait_for(self._outcome, self._done, timeout)
        self._outcome.observed = True
        return self._outcome.error

    def add_done_callback(self, callback: Callable[[SendFuture], object]) -> None:
        """Call ``callback`` with this future when it ends, in the background thread.

        At once, in this thread, if it has ended. A callback must neither block nor raise.
        """
        with self._done:
            if not self._outcome.done:
                self._outcome.observed = True
                self._outcome.when_done(lambda: _ignore(callback(self)))
                return
        callback(self)


class SendManyFuture:
    """What will become of columns that were submitted together. Made by ``submit_many``."""

    __slots__ = ("_done", "_parts")

    def __init__(
        self, parts: list[tuple[Outcome, int, TopicPartition, int]], done: threading.Condition
    ) -> None:
        self._parts = parts
        self._done = done

    def done(self) -> bool:
        """Whether all records are acknowledged or have failed."""
        return all(outcome.done for outcome, _, _, _ in self._parts)

    def result(self, timeout: float | None = None) -> list[RecordRange]:
        """Wait for the places of all records: runs of consecutive offsets, in submitted order.

        Args:
            timeout: seconds, for all together; None waits until they end.

        Raises:
            TimeoutError: not all have ended in time; they go on.
            ClientError: why the first failed batch was not acknowledged; others may have been.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return [
            RecordRange(
                where.topic,
                where.partition,
                outcome.base_offset + index if outcome.base_offset >= 0 else -1,
                count,
            )
            for outcome, index, where, count in self._parts
        ]

    def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait for all, and give the first error, or None if all were acknowledged.

        Raises:
            TimeoutError: not all have ended in time.
        """
        first: Exception | None = None
        deadline = None if timeout is None else time.monotonic() + timeout
        for outcome, _, _, _ in self._parts:
            left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            wait_for(outcome, self._done, left_s)
            outcome.observed = True
            first = first or outcome.error
        return first


def wait_for(outcome: Outcome, done: threading.Condition, timeout: float | None) -> None:
    """Block until a batch has ended.

    Raises:
        TimeoutError: it has not in time.
    """
    if outcome.done:
        return
    with done:
        if not done.wait_for(lambda: outcome.done, timeout):
            raise TimeoutError("the record is not acknowledged yet")


def _ignore(result: object) -> None:
    """Callbacks may return what they like."""
    del result
