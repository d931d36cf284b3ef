"""Numbers batches so that a batch sent again is recognised: no retry doubles or reorders.

A broker remembers, for each producer id and partition, which sequence number comes next, and what
the last batches were. A batch that is already there is answered with the offset that it has.

Rules:
    1. Pure, and not thread-safe: whoever holds a sequencer is alone with it.
    2. Under one producer id one batch of a partition is under way at a time; it is sent again with
       the same number and the same bytes until its fate is known or its time is over. So the
       background has a sequencer of its own, and every ``send`` under way at the same time another.
    3. A batch that is given up may be in the log or not. What follows it would wait for ever, or
       be refused; so the partition goes on in the next epoch of the id, from number 0. Should the
       old batch arrive later still, it is refused as one of an older epoch.

An epoch belongs to a partition here: brokers keep it for each partition apart, and no other
producer has the id. That is why nobody is asked for the next one.

Source: KIP-98, KIP-360.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from streambus_protocol import ErrorCode, ProducerStamp

if TYPE_CHECKING:
    from streambus_client._types import TopicPartition

SEQUENCE_MASK = 2**31 - 1
EPOCH_MAX = 2**15 - 1

SEQUENCE_CODES = frozenset(
    {
        ErrorCode.OUT_OF_ORDER_SEQUENCE,
        ErrorCode.DUPLICATE_SEQUENCE,
        ErrorCode.UNKNOWN_PRODUCER_ID,
        ErrorCode.INVALID_PRODUCER_EPOCH,
    }
)
"""How a broker refuses a batch for its number."""

_new_stamp = tuple.__new__


class Sequencer:
    """One producer id, and the numbers given under it.

    Args:
        producer_id: given by the cluster to nobody else.
        epoch: the first that may be used.

    Attributes:
        exhausted: no epoch is left for some partition, or another has written under this id; no
            further number may be given: take a sequencer with a new id.
    """

    __slots__ = ("_epoch", "_marks", "exhausted", "producer_id")

    def __init__(self, producer_id: int, epoch: int = 0) -> None:
        self.producer_id = producer_id
        self.exhausted = False
        self._epoch = epoch
        self._marks: dict[TopicPartition, tuple[int, int]] = {}  # epoch and next number

    def stamp(self, where: TopicPartition, count: int) -> ProducerStamp:
        """Number the next batch of a partition.

        Args:
            where: the partition.
            count: records in the batch, at least 1.
        """
        epoch, base = self._marks.get(where) or (self._epoch, 0)
        self._marks[where] = (epoch, (base + count) & SEQUENCE_MASK)
        stamp: ProducerStamp = _new_stamp(ProducerStamp, (self.producer_id, epoch, base))
        return stamp

    def restart(self, where: TopicPartition) -> None:
        """Go on in the next epoch of a partition: a batch of this one was given up (rule 3)."""
        mark = self._marks.get(where)
        if mark is None:
            return
        epoch = mark[0] + 1
        self._marks[where] = (min(epoch, EPOCH_MAX), 0)
        if epoch > EPOCH_MAX:
            self.exhausted = True

    def refused(self, where: TopicPartition, code: int) -> None:
        """Go on in the next epoch, after a batch was refused with ``code``.

        A newer epoch of this id, which we never used, was forged by somebody: then the id is
        given up, rather than all the epochs up to that one tried.
        """
        self.restart(where)
        if code == ErrorCode.INVALID_PRODUCER_EPOCH:
            self.exhausted = True


class Verdict(Enum):
    """What the refusal of a batch for its number means."""

    RENUMBER = "it is not in the log: send it with a new number, in the next epoch"
    WRITTEN = "it is in the log, at an offset that nobody remembers"
    UNKNOWN = "it may be in the log; the caller has to judge"


def judge(code: int, *, uncertain: bool) -> Verdict:
    """Judge one of ``SEQUENCE_CODES``.

    Args:
        code: the answer.
        uncertain: whether the batch was sent before, and that attempt may have been written.
    """
    if not uncertain or code == ErrorCode.OUT_OF_ORDER_SEQUENCE:
        return Verdict.RENUMBER
    return Verdict.WRITTEN if code == ErrorCode.DUPLICATE_SEQUENCE else Verdict.UNKNOWN
