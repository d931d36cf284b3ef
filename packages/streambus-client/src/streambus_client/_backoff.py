"""How long to wait before trying again: exponential, capped, with jitter, against a deadline.

Pure: the caller owns clock and sleep, the dice are injected. Jitter keeps clients that lost the
same broker from coming back in step.

Most of what fails in a cluster is over within the time that a failover takes. So for so long the
waits grow only to `QUICK_MAX_S`: a wait of a second would often begin just before there is a new
leader, and last longer than the election. What lasts longer is asked about less and less often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


FAILOVER_S = 3.0
"""As long as it takes a cluster, at most, to have another leader in the place of a silent one:
waits that sum up to this, before jitter, are quick."""
QUICK_MAX_S = 0.15


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

    __slots__ = ("_failures", "_policy", "_quick", "_quick_for_s", "_random", "_waited_s")

    def __init__(
        self,
        random: Random,
        policy: BackoffPolicy | None = None,
        *,
        quick_for_s: float = FAILOVER_S,
    ) -> None:
        self._random = random
        self._quick_for_s = quick_for_s
        self._policy = policy or BackoffPolicy()
        self._failures = 0
        self._quick = 0
        self._waited_s = 0.0

    @property
    def failures(self) -> int:
        """How many failures in a row have been counted."""
        return self._failures

    def next_wait_s(self) -> float:
        """Count a failure and return how long to wait, in seconds, in ``(0, max_s]``."""
        policy = self._policy
        growth = policy.factor ** min(self._failures - self._quick, 64)
        nominal_s = min(policy.max_s, policy.first_s * growth)
        if nominal_s > QUICK_MAX_S >= policy.first_s and self._waited_s < self._quick_for_s:
            nominal_s = QUICK_MAX_S
            self._quick += 1
        self._waited_s += nominal_s
        self._failures += 1
        return nominal_s * (1.0 - policy.jitter * self._random.random())

    def succeeded(self) -> None:
        """Forget the failures: the next wait is the first again."""
        self._failures = self._quick = 0
        self._waited_s = 0.0


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
