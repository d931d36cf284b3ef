"""All partitions that one broker follows from one leader, in one session. Pure.

The session belongs to a connection. Its first request names every partition with its position,
later ones only those whose position changed or that came or went; the answer names only partitions
that have something new. An empty answer to an unchanged session is a long poll that ran out.
Requests are answered in their order; what is answered to one that was made before a partition was
named anew says nothing of the log as it is now.

What the leader finds is answered as an action on the log: append, truncate, start over. After each
the shell tells the new end by `positioned`, and the partition is named again.

A partition is *in step* when the leader of its epoch has taken its position in this session and
told what is committed, and answers what was asked lately: then consumers may read here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from streambus_broker.cluster.epochs import EpochEnd
from streambus_protocol import ErrorCode, ReplicaPosition

if TYPE_CHECKING:
    from streambus_protocol import ReplicaData


@dataclass(slots=True)
class FollowedPartition:
    """What the follower knows of one partition.

    Attributes:
        leader_epoch: The epoch of the leader that is followed.
        log_end: The end of the local log.
        last_epoch: The epoch of its last record, -1 for none.
        durable: Up to where it is synced; truncation takes it back.
        retry_s: When to name it again after an error; 0 for no error.
        named_in: The number of the request that named it last.
        in_step: Whether the leader has taken its position, and told what is committed, in this
            session.
    """

    leader_epoch: int
    log_end: int
    last_epoch: int
    durable: int
    retry_s: float = 0.0
    named_in: int = 0
    in_step: bool = False


class Append(NamedTuple):
    """Append these batches, which begin at the log's end; then go by the leader's watermarks."""

    partition_id: int
    batches: bytes
    high_watermark: int
    log_start_offset: int


class Truncate(NamedTuple):
    """The logs differ: go back to the common end with the leader's end of an epoch."""

    partition_id: int
    leader_end: EpochEnd


class StartOver(NamedTuple):
    """The leader keeps nothing that this log could be continued with: begin at its start."""

    partition_id: int
    log_start_offset: int


Action = Append | Truncate | StartOver

RETRY_S = 0.25


class FollowerSession:
    """See the module."""

    def __init__(self) -> None:
        self.partitions: dict[int, FollowedPartition] = {}
        self._changed: dict[int, None] = {}
        self._forgotten: dict[int, None] = {}
        self._heard_s = -math.inf
        self._requests = 0  # on this connection
        self._answers = 0

    def follow(
        self, partition_id: int, leader_epoch: int, log_end: int, last_epoch: int, durable: int
    ) -> None:
        """Follow a partition, or follow it in another leader epoch."""
        self.partitions[partition_id] = FollowedPartition(
            leader_epoch, log_end, last_epoch, durable
        )
        self._changed[partition_id] = None
        self._forgotten.pop(partition_id, None)

    def forget(self, partition_id: int) -> None:
        """Follow a partition no more."""
        if self.partitions.pop(partition_id, None) is not None:
            self._changed.pop(partition_id, None)
            self._forgotten[partition_id] = None

    def restart(self) -> None:
        """The connection is a new one: the leader knows nothing."""
        self._forgotten.clear()
        self._requests = self._answers = 0
        self.lost()
        for partition_id, known in self.partitions.items():
            known.retry_s = 0.0
            known.in_step = False
            self._changed[partition_id] = None

    def lost(self) -> None:
        """The connection is gone: nothing is in step before the next one has been heard of."""
        self._heard_s = -math.inf

    def in_step(self, partition_id: int, now_s: float, silence_s_max: float) -> bool:
        """Whether the leader has told about a partition, and answered what was asked lately."""
        known = self.partitions.get(partition_id)
        return known is not None and known.in_step and now_s - self._heard_s <= silence_s_max

    def positioned(self, partition_id: int, log_end: int, last_epoch: int) -> None:
        """The local log ends there now; what lies behind is not durable any more."""
        known = self.partitions.get(partition_id)
        if known is None:
            return
        known.log_end, known.last_epoch = log_end, last_epoch
        known.durable = min(known.durable, log_end)
        known.retry_s = 0.0
        self._changed[partition_id] = None

    def rests(self, partition_id: int, now_s: float) -> None:
        """What was answered could not be carried out: name the partition again a little later."""
        known = self.partitions.get(partition_id)
        if known is not None:
            known.retry_s = now_s + RETRY_S
            known.in_step = False
            self._changed[partition_id] = None

    def synced(self, partition_id: int, leader_epoch: int, durable: int) -> bool:
        """The local log was found durable up to there; return whether the leader should know.

        A sync that was asked for in an earlier leader epoch may speak of records that were
        truncated since: it does not count.
        """
        known = self.partitions.get(partition_id)
        if known is None or known.leader_epoch != leader_epoch:
            return False
        durable = min(durable, known.log_end)
        if durable <= known.durable:
            return False
        known.durable = durable
        return True

    def request(self, now_s: float) -> tuple[tuple[ReplicaPosition, ...], tuple[int, ...]]:
        """What the next request names and forgets; it counts as said from here on."""
        self._requests += 1
        later: dict[int, None] = {}
        named = []
        for partition_id in self._changed:
            known = self.partitions[partition_id]
            if known.retry_s > now_s:
                later[partition_id] = None
                continue
            known.named_in = self._requests
            named.append(
                ReplicaPosition(
                    partition_id, known.leader_epoch, known.log_end, known.last_epoch,
                    known.durable,
                )
            )  # fmt: skip
        forgotten = tuple(self._forgotten)
        self._changed = later
        self._forgotten = {}
        return tuple(named), forgotten

    @property
    def retry_at_s(self) -> float | None:
        """When a partition that met an error is due again; None where there is none."""
        return min((self.partitions[i].retry_s for i in self._changed), default=None)

    def received(
        self, answers: tuple[ReplicaData, ...], now_s: float, asked_s: float | None = None
    ) -> list[Action]:
        """Turn the answer to the next request that has none into what to do with the logs.

        Args:
            answers: What the leader said.
            now_s: The time.
            asked_s: When it was asked, by default just now: however long the answer was on its
                way, it says nothing of what came after it.
        """
        self._heard_s = max(self._heard_s, now_s if asked_s is None else asked_s)
        self._answers += 1
        actions: list[Action] = []
        for answer in answers:
            known = self.partitions.get(answer.partition_id)
            if known is None or known.leader_epoch != answer.leader_epoch:
                continue  # it belongs to an epoch that is over here
            if known.named_in > self._answers:
                continue  # the leader said so before it knew where the log ends by now
            if answer.error or answer.diverging_end >= 0:
                known.in_step = False
            if answer.partition_id in self._changed:
                continue  # the log was moved meanwhile, or rests: ask again from where it ends
            action = self._judge(answer, known, now_s)
            if action is not None:
                actions.append(action)
        return actions

    def _judge(self, answer: ReplicaData, known: FollowedPartition, now_s: float) -> Action | None:
        partition_id = answer.partition_id
        if answer.error == ErrorCode.OFFSET_OUT_OF_RANGE:
            return StartOver(partition_id, answer.log_start_offset)
        if answer.error:
            # Either side may be the one whose metadata is behind: ask again a little later.
            self.rests(partition_id, now_s)
            return None
        if answer.diverging_end >= 0:
            return Truncate(partition_id, EpochEnd(answer.diverging_epoch, answer.diverging_end))
        known.in_step = True
        return Append(partition_id, answer.batches, answer.high_watermark, answer.log_start_offset)
