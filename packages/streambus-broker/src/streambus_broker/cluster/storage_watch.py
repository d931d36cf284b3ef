"""Whether this broker's storage takes writes, and what that means for its leadership.

A broker whose disk is full or hangs, whose log has stopped, or which cannot read what it has to
know of producers, could only refuse what is written to the partitions that it leads, while others
hold the same and have room. So it tells the metadata group (SetReadOnly), which elects others; it
goes on as a follower that falls behind. It does not rely on what happens to be written to find out
that there is room again: it tries, with as much as a batch may have, and more and more seldom where
that succeeded and writes failed again soon after.

Damage that a merge in the background finds ends the broker's part, as any other does: it would go
on merging in vain, and stop to take records once too much waits for that.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from streambus_broker.cluster import commands as c
from streambus_broker.cluster.group import UncertainError
from streambus_broker.log.keys import TRIAL_KEY
from streambus_broker.metadata.registry import CommandError
from streambus_storage import CorruptionError, DiskFullError, StorageError

if TYPE_CHECKING:
    from streambus_broker.cluster.group import MetadataGroup
    from streambus_broker.cluster.node import ClusterNode
    from streambus_storage import LSMTree

_LOOK_S = 0.1
_PAUSE_S_MIN, _PAUSE_S_MAX = 1.0, 32.0
_SOUND_S = 60.0
_TRIAL_BYTES_MAX = 1 << 20


class Trials:
    """When a storage that refused writes is tried, and whether it is known to take them. Pure.

    Attributes:
        sound: A trial has passed since the last failure, or since the start.
    """

    __slots__ = ("_due_s", "_passed_s", "_pause_s", "_trying", "sound")

    def __init__(self) -> None:
        self.sound = False
        self._due_s = -math.inf
        self._pause_s = _PAUSE_S_MIN
        self._passed_s = -math.inf
        self._trying = False

    def broke(self, now_s: float) -> None:
        """A write was refused, other than a trial."""
        if not self.sound:
            return
        self.sound = False
        soon = now_s - self._passed_s < _SOUND_S
        self._pause_s = min(2 * self._pause_s, _PAUSE_S_MAX) if soon else _PAUSE_S_MIN
        self._due_s = now_s + self._pause_s

    def begin(self, now_s: float) -> bool:
        """Whether to try now; if so, nothing more is tried before this trial has an end."""
        if self.sound or self._trying or now_s < self._due_s:
            return False
        self._trying = True
        return True

    def ended(self, now_s: float, *, passed: bool) -> None:
        """A trial has its end."""
        self._trying = False
        self.sound = passed
        if passed:
            self._passed_s = now_s
        else:
            self._due_s = now_s + self._pause_s


class StorageWatch:
    """See the module.

    Args:
        node: Whose storage.
        group: Whom to tell.
        trees: In which a merge may find damage.
    """

    def __init__(self, node: ClusterNode, group: MetadataGroup, *trees: LSMTree) -> None:
        self.trials = Trials()
        self._trees = trees
        self._node = node
        self._group = group
        self._sync: int | None = None
        self._looks = 0
        self._learns_s = -math.inf

    async def run(self) -> None:
        """Watch for ever."""
        node, trials = self._node, self.trials
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look_for_damage()
            now_s, me, error, hangs = node.loop.time(), node.me, node.storage_error, self._hangs()
            if error is not None or hangs:
                trials.broke(now_s)
            suspect = error is not None or (me is not None and me.read_only)
            if suspect and not node.storage_is_final and trials.begin(now_s):
                self._try()
            if me is None:
                continue
            refuses = (
                node.storage_is_final
                or isinstance(error, DiskFullError)
                or hangs
                or self._knows_too_little(now_s)
            )
            if refuses != me.read_only and (refuses or trials.sound):
                await self._tell(c.SetReadOnly(me.broker_id, me.epoch, refuses))

    def _look_for_damage(self) -> None:
        """Tell of damage that a merge has found: nobody may have read there, and nobody would."""
        for tree in self._trees:
            if isinstance(tree.background_error, CorruptionError):
                self._node.damaged(tree.background_error)

    def _hangs(self) -> bool:
        """Whether a sync takes longer than a leader allows its followers.

        Looks are counted, not time: a process that was stopped finds its sync done.
        """
        sync, before = self._node.durability.under_way, self._sync
        self._sync = sync
        self._looks = self._looks + 1 if sync is not None and sync == before else 0
        return self._looks * _LOOK_S * 1000 >= self._node.config.replica_lag_ms_max

    def _knows_too_little(self, now_s: float) -> bool:
        """Whether there are producers that it cannot find out; tried again once a second."""
        unlearnt = self._node.unlearnt
        if unlearnt and now_s >= self._learns_s:
            self._learns_s = now_s + _PAUSE_S_MIN
            for replica in list(unlearnt.values()):
                self._node.learn_producers(replica)
        return bool(unlearnt)

    def _try(self) -> None:
        """Write something, have it synced, and delete it."""
        node, tree = self._node, self._node.store.tree
        size_bytes = min(_TRIAL_BYTES_MAX, node.config.memtable_bytes // 4)
        failures = node.storage_errors

        def ended(error: Exception | None) -> None:
            # What failed meanwhile may have been larger.
            passed = error is None and node.storage_errors == failures
            self.trials.ended(node.loop.time(), passed=passed)
            if passed:
                node.storage_tried()

        try:
            tree.put(TRIAL_KEY, node.random.randbytes(size_bytes))
            sequence = tree.delete(TRIAL_KEY)
        except StorageError as error:
            node.storage_failed("try", error)
            ended(error)
        else:
            node.durability.when_durable(sequence, ended)

    async def _tell(self, command: c.SetReadOnly) -> None:
        """Have others lead, or be one of those who may; what fails is tried again."""
        logger = self._node.cluster_logger
        try:
            await self._group.propose(command)
        except (CommandError, UncertainError) as error:
            logger.info("read_only", f"not told yet: {error}", category="storage", sparse=True)
            return
        if command.on:
            event = "storage takes no writes: others lead, where they can"
            logger.warning("read_only", event, category="storage")
        else:
            logger.info("read_only", "storage takes writes: may lead again", category="storage")
