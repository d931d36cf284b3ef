"""Many answers for one waiting task: a future for each would cost more than the proposals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator

    from streambus_raft._event_loop import Waiter


class Collector:
    """Answers its waiter once all of its slots have theirs.

    Args:
        waiter: Gets the list of answers, or the failure of the first slot that failed, after all.
        count: How many slots, 1 or more.
    """

    __slots__ = ("_answers", "_first_failed", "_left", "_waiter", "failure")

    def __init__(self, waiter: Waiter[list[Any]], count: int) -> None:
        self._waiter = waiter
        self._answers: list[Any] = [None] * count
        self._left = count
        self._first_failed = count
        self.failure: BaseException | None = None

    def slots(self) -> list[Slot]:
        """The slots in order, each a ``Waiter`` that nobody awaits."""
        return [Slot(self, position) for position in range(len(self._answers))]

    def settle(self, position: int, value: Any, failure: BaseException | None) -> None:
        """A slot has its answer."""
        self._answers[position] = value
        if failure is not None and position < self._first_failed:
            self._first_failed, self.failure = position, failure
        self._left -= 1
        if self._left or self._waiter.done():
            return
        if self.failure is not None:
            self._waiter.set_exception(self.failure)
        else:
            self._waiter.set_result(self._answers)


class Slot:
    """One answer of a :class:`Collector`."""

    __slots__ = ("_collector", "_done", "_position")

    def __init__(self, collector: Collector, position: int) -> None:
        self._collector = collector
        self._position = position
        self._done = False

    def done(self) -> bool:
        """Whether it was answered."""
        return self._done

    def set_result(self, value: Any) -> None:
        """Answer."""
        self._done = True
        self._collector.settle(self._position, value, None)

    def set_exception(self, exception: BaseException) -> None:
        """Answer with a failure."""
        self._done = True
        self._collector.settle(self._position, None, exception)

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError("the collector's waiter is awaited, not a slot")
