"""One partition at its leader: who holds how much of it, and what is therefore committed. Pure.

Rules:

- The high watermark is the smallest *durable* position of the in-sync set, the leader's own
  included. Positions that are written and not yet synced count for nobody.
- While the in-sync set has fewer members than min_insync_replicas, the high watermark stands still
  (KIP-966): what the last replica standing takes is not committed.
- A change of the in-sync set is a request to the controller. Until it is answered, the union of
  both sets has to hold a record before it is committed (KIP-497): whichever set wins, it is there.
- The high watermark never goes back.

A follower is in sync by position (it holds everything committed, and all that the leader had when
it was elected) and by time (not longer ago than the lag limit it held what was then the end).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

UNKNOWN = -1
"""The position of a follower that has not yet reported in this leader epoch."""


class FollowerProgress:
    """What the leader knows of one follower.

    Attributes:
        fetched: The end of its log, as it last asked from there.
        durable: Up to where it has synced; never above `fetched`.
        caught_up_s: When it last held what was the end of the log.
    """

    __slots__ = ("_goal", "_goal_s", "caught_up_s", "durable", "fetched")

    def __init__(self, now_s: float) -> None:
        self.fetched = UNKNOWN
        self.durable = UNKNOWN
        self.caught_up_s = now_s
        self._goal = 0
        self._goal_s = now_s

    def note(self, log_end: int, now_s: float) -> None:
        """Judge by `durable` whether it is at the end, or was at the last goal's time."""
        if self.durable >= log_end:
            self.caught_up_s = now_s
        elif self.durable >= self._goal:
            self.caught_up_s = max(self.caught_up_s, self._goal_s)
        else:
            return
        self._goal, self._goal_s = log_end, now_s


class LeaderReplication:
    """See the module. Made anew with every leader epoch.

    Args:
        broker_id: The leader, this broker.
        replicas: Who holds the partition, the leader included.
        in_sync: The set as the controller last said.
        log_end: The end of the leader's log at its election.
        durable: Up to where the leader itself has synced.
        high_watermark: What is known to be committed.
        min_in_sync: The topic's min_insync_replicas.
        lag_s_max: The lag limit.
        now_s: A monotonic clock.
    """

    __slots__ = (
        "_requested",
        "broker_id",
        "durable",
        "epoch_start",
        "followers",
        "high_watermark",
        "in_sync",
        "lag_s_max",
        "log_end",
        "min_in_sync",
    )

    def __init__(
        self,
        broker_id: int,
        replicas: Iterable[int],
        in_sync: Iterable[int],
        *,
        log_end: int,
        durable: int,
        high_watermark: int,
        min_in_sync: int,
        lag_s_max: float,
        now_s: float,
    ) -> None:
        self.broker_id = broker_id
        self.in_sync = frozenset(in_sync)
        self.log_end = self.epoch_start = log_end
        self.durable = durable
        self.high_watermark = high_watermark
        self.min_in_sync = min_in_sync
        self.lag_s_max = lag_s_max
        self.followers: dict[int, FollowerProgress] = {}
        self._requested: frozenset[int] | None = None
        self.use_replicas(replicas, now_s)

    # --- what happens --------------------------------------------------------------------------

    def use_replicas(self, replicas: Iterable[int], now_s: float) -> None:
        """Go by another set of replicas; what is known of those that stay is kept."""
        known = self.followers
        self.followers = {
            replica: known.get(replica) or FollowerProgress(now_s)
            for replica in replicas
            if replica != self.broker_id
        }

    def use_in_sync(self, in_sync: Iterable[int]) -> int:
        """Go by the set that the controller decided on; return the high watermark."""
        self.in_sync = frozenset(in_sync)
        self._requested = None
        return self._advance()

    def appended(self, log_end: int) -> None:
        """The leader's own log has grown."""
        self.log_end = log_end

    def synced(self, durable: int) -> int:
        """The leader's own log is durable up to there; return the high watermark."""
        if durable > self.durable:
            self.durable = durable
        return self._advance()

    def fetched(self, follower: int, offset: int, durable: int, now_s: float) -> int:
        """A follower's log was found to be a beginning of this one, and ends at ``offset``.

        Returns:
            The high watermark.
        """
        known = self.followers.get(follower)
        if known is None:
            return self.high_watermark
        known.fetched = offset
        known.durable = min(durable, offset)
        known.note(self.log_end, now_s)
        return self._advance()

    def progressed(self, follower: int, durable: int, now_s: float) -> int:
        """A follower has synced up to ``durable``; return the high watermark.

        Nothing counts above `log_end`, nor before the follower has fetched in this epoch: its log
        may still have to be truncated.
        """
        known = self.followers.get(follower)
        if known is None or known.fetched == UNKNOWN:
            return self.high_watermark
        if durable > known.durable:
            known.durable = min(durable, self.log_end)
            known.fetched = max(known.fetched, known.durable)
        known.note(self.log_end, now_s)
        return self._advance()

    def lost(self, follower: int) -> None:
        """A follower's session ended: what it still holds is not known until it fetches again.

        It may come back without its disk; so not even what it had synced counts until then.
        """
        known = self.followers.get(follower)
        if known is not None:
            known.fetched = known.durable = UNKNOWN

    # --- what follows --------------------------------------------------------------------------

    def _advance(self) -> int:
        in_sync = self.in_sync
        if len(in_sync) < self.min_in_sync:
            return self.high_watermark
        counted = in_sync if self._requested is None else in_sync | self._requested
        lowest = self.durable
        for replica in counted:
            if replica != self.broker_id:
                known = self.followers.get(replica)
                position = UNKNOWN if known is None else known.durable
                if position < lowest:
                    lowest = position
        if lowest > self.high_watermark:
            self.high_watermark = lowest
        return self.high_watermark

    def wanted_in_sync(self, now_s: float, living: Collection[int]) -> tuple[int, ...] | None:
        """The in-sync set to ask the controller for; None where it is right or already asked.

        Args:
            now_s: The time.
            living: Who has a session. A dead member that had to stay for the minimum's sake leaves
                as soon as somebody else is there: nothing is committed while it counts.
        """
        if self._requested is not None:
            return None
        wanted = {self.broker_id}
        for replica, known in self.followers.items():
            if replica in self.in_sync:
                keep = replica in living and (
                    now_s - known.caught_up_s <= self.lag_s_max or known.durable >= self.log_end
                )
            else:
                keep = known.durable >= max(self.high_watermark, self.epoch_start)
            if keep:
                wanted.add(replica)
        return None if wanted == self.in_sync else tuple(sorted(wanted))

    def asked(self, in_sync: Iterable[int]) -> None:
        """The controller was asked for this set; until it answers, both sets count."""
        self._requested = frozenset(in_sync)

    def refused(self) -> None:
        """The controller has not granted the request, and never will: ask anew."""
        self._requested = None
