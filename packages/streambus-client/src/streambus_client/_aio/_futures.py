"""Futures of records submitted to the async producer: awaited, and light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from streambus_client._types import RecordMetadata, RecordRange, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from streambus_client._accumulator import Outcome
    from streambus_client._aio._signal import Signal


class AsyncSendFuture:
    """What will become of one submitted record. Made by ``AsyncProducer.submit``; awaitable.

    Every future ends: with the record's place, or with the error that kept it from being written.
    """

    __slots__ = ("_done", "_index", "_outcome", "_timestamp_ms", "_where")

    def __init__(
        self,
        outcome: Outcome,
        index: int,
        where: TopicPartition,
        timestamp_ms: int,
        done: Signal,
    ) -> None:
        self._outcome = outcome
        self._index = index
        self._where = where
        self._timestamp_ms = timestamp_ms
        self._done = done

    def __await__(self) -> Generator[object, object, RecordMetadata]:
        return self.result().__await__()

    def done(self) -> bool:
        """Whether the record is acknowledged or has failed."""
        return self._outcome.done

    async def result(self, timeout: float | None = None) -> RecordMetadata:
        """Wait for the record's place.

        Args:
            timeout: seconds; None waits until it ends, which the delivery deadline bounds.

        Raises:
            TimeoutError: it has not ended in time; it goes on.
            ClientError: why the record was not acknowledged.
        """
        error = await self.exception(timeout)
        if error is not None:
            raise error
        offset = self._outcome.base_offset
        return RecordMetadata(
            self._where.topic,
            self._where.partition,
            offset + self._index if offset >= 0 else -1,
            self._timestamp_ms,
        )

    async def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait, and give the error, or None if the record was acknowledged.

        Raises:
            TimeoutError: it has not ended in time.
        """
        outcome = self._outcome
        if not outcome.done:
            with anyio.fail_after(timeout):
                await wait_for(outcome, self._done)
        outcome.observed = True
        return outcome.error

    def add_done_callback(self, callback: Callable[[AsyncSendFuture], object]) -> None:
        """Call ``callback`` with this future when it ends; at once if it has ended.

        A callback must neither block nor raise.
        """

        def call() -> None:
            callback(self)

        self._outcome.observed = True
        self._outcome.when_done(call)


class AsyncSendManyFuture:
    """What will become of columns that were submitted together; awaitable."""

    __slots__ = ("_done", "_parts")

    def __init__(self, parts: list[tuple[Outcome, int, TopicPartition, int]], done: Signal) -> None:
        self._parts = parts
        self._done = done

    def __await__(self) -> Generator[object, object, list[RecordRange]]:
        return self.result().__await__()

    def done(self) -> bool:
        """Whether all records are acknowledged or have failed."""
        return all(outcome.done for outcome, _, _, _ in self._parts)

    async def result(self, timeout: float | None = None) -> list[RecordRange]:
        """Wait for the places of all records: runs of consecutive offsets, in submitted order.

        Args:
            timeout: seconds, for all together; None waits until they end.

        Raises:
            TimeoutError: not all have ended in time; they go on.
            ClientError: why the first failed batch was not acknowledged; others may have been.
        """
        error = await self.exception(timeout)
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

    async def exception(self, timeout: float | None = None) -> Exception | None:
        """Wait for all, and give the first error, or None if all were acknowledged.

        Raises:
            TimeoutError: not all have ended in time.
        """
        first: Exception | None = None
        with anyio.fail_after(timeout):
            for outcome, _, _, _ in self._parts:
                await wait_for(outcome, self._done)
                outcome.observed = True
                first = first or outcome.error
        return first


async def wait_for(outcome: Outcome, done: Signal) -> None:
    """Wait until a batch has ended."""
    while not outcome.done:
        await done.wait()
