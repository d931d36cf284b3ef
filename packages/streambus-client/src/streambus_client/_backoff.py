"""How long to wait before trying again: exponential, capped, with jitter, against a deadline.

Pure: the caller owns clock and sleep, the dice are injected. Jitter keeps clients that lost the
same broker from coming back in step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """The shape of the waits between attempts.

    Args:
        first_s: the wait after the first failure, seconds, before jitter; positive.
        max_s: no wait is longer than this, jitter included; at least ``first_s``.
        factor: growth from one wait to the next; at least 1.
        jitter: each wait is drawn from ``[1 - jitter, 1]`` of its nominal length; 0 to 1.
    """

    first_s: float = 0.05
    max_s: float = 1.0
    factor: float = 2.0
    jitter: float = 0.5


class Backoff:
    """The waits of one thing that is tried again and again.

    Not thread-safe; one object for each operation that retries.
    """

    __slots__ = ("_failures", "_policy", "_random")

    def __init__(self, random: Random, policy: BackoffPolicy | None = None) -> None:
        self._random = random
        self._policy = policy or BackoffPolicy()
        self._failures = 0

    @property
    def failures(self) -> int:
        """How many failures in a row have been counted."""
        return self._failures

    def next_wait_s(self) -> float:
        """Count a failure and return how long to wait, in seconds, in ``(0, max_s]``."""
        policy = self._policy
        nominal_s = min(policy.max_s, policy.first_s * policy.factor ** min(self._failures, 64))
        self._failures += 1
        return nominal_s * (1.0 - policy.jitter * self._random.random())

    def succeeded(self) -> None:
        """Forget the failures: the next wait is the first again."""
        self._failures = 0


def wait_before_retry_s(
    backoff: Backoff, *, now: float, deadline: float, attempts: int, retries_max: int | None
) -> float | None:
    """Decide whether to try again, and after how long.

    Args:
        backoff: of this operation; a failure is counted if the answer is to wait.
        now: seconds, on the clock of the deadline.
        deadline: seconds; no attempt begins after it.
        attempts: how many attempts were made, at least 1.
        retries_max: how many attempts may follow the first; None is without limit.

    Returns:
        Seconds to wait, or None to give up. A wait never reaches past the deadline: the last
        attempt may come early rather than not at all.
    """
    if now >= deadline or (retries_max is not None and attempts > retries_max):
        return None
    return min(backoff.next_wait_s(), max(deadline - now, 0.0))
