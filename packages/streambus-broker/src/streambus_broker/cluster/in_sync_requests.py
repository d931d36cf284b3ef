"""What a leader does so that its partitions' in-sync sets are what they should be: it asks.

All that is due at the same time is asked in few commands: a broker that comes back is due in
thousands of sets at once. What is asked counts from that moment on (`LeaderReplication.asked`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from streambus_broker.cluster import commands as c
from streambus_broker.cluster.group import UncertainError
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from streambus_broker.cluster.group import MetadataGroup
    from streambus_broker.cluster.leader import LeaderReplication
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.replica import Replica

_CHECK_S = 0.1
_LOOKED_AT_ONCE = 2_000
"""Led partitions: some milliseconds, in which nobody is answered."""
_ASKED_AT_ONCE = 1_000
"""In-sync sets in one command: some tens of kilobytes."""


class _Asked(NamedTuple):
    """A request for an in-sync set that is under way."""

    replica: Replica
    leading: LeaderReplication
    row: tuple[str, int, int, int, int, tuple[tuple[int, int], ...]]


class InSyncRequests:
    """See the module.

    Args:
        node: Whose partitions.
        group: Whom to ask.
    """

    def __init__(self, node: ClusterNode, group: MetadataGroup) -> None:
        self._node = node
        self._group = group
        self._asking: set[int] = set()
        self._looked = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Ask for other in-sync sets where they are due, for ever."""
        node = self._node
        while True:
            await asyncio.sleep(_CHECK_S)
            node.sessions.sweep()
            if node.me is None:
                continue
            due = self._due(node.loop.time())
            for first in range(0, len(due), _ASKED_AT_ONCE):
                asked = due[first : first + _ASKED_AT_ONCE]
                task = node.loop.create_task(self._ask_in_sync(asked))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _due(self, now_s: float) -> list[_Asked]:
        """The partitions whose in-sync sets should change; it counts as asked from here on."""
        led = self._next_led()
        if not led:
            return []
        brokers = self._node.state.brokers
        living = {each.broker_id for each in brokers.values() if each.keeps_up}
        due = []
        for replica, leading in led:
            if replica.partition_id in self._asking:
                continue
            wanted = _possible(leading, leading.wanted_in_sync(now_s, living), living)
            if wanted is None:
                continue
            record = replica.record
            members = tuple((each, brokers[each].epoch) for each in wanted if each in brokers)
            row = (
                replica.topic, replica.partition, record.partition_id, record.leader_epoch,
                record.partition_epoch, members,
            )  # fmt: skip
            self._asking.add(replica.partition_id)
            # From this moment on: a record that were committed before the command is sent, by the
            # old set alone, would be missing where the new member has not got it.
            leading.asked(wanted)
            due.append(_Asked(replica, leading, row))
        return due

    def _next_led(self) -> list[tuple[Replica, LeaderReplication]]:
        """What this broker leads; of very many partitions the next ones, round after round."""
        replicas = list(self._node.replicas.values())
        first, self._looked = self._looked, 0
        led: list[tuple[Replica, LeaderReplication]] = []
        for place in range(first, len(replicas)):
            leading = replicas[place].leading
            if leading is not None:
                if len(led) == _LOOKED_AT_ONCE:
                    self._looked = place
                    break
                led.append((replicas[place], leading))
        return led

    async def _ask_in_sync(self, asked: list[_Asked]) -> None:
        rows = tuple(each.row for each in asked)
        command = c.AlterInSyncs(self._node.config.node_id, rows)
        try:
            _settle(asked, await self._group.propose(command))
        except CommandError:
            _settle(asked, None)
        except UncertainError:
            # It may yet be granted: both sets count until the metadata or a later answer says.
            await self._ask_again(command, asked)
        finally:
            self._asking.difference_update(each.replica.partition_id for each in asked)

    async def _ask_again(self, command: c.AlterInSyncs, asked: list[_Asked]) -> None:
        while any(each.replica.leading is each.leading for each in asked):
            await asyncio.sleep(_CHECK_S)
            try:
                _settle(asked, await self._group.propose(command))
            except UncertainError:
                continue
            except CommandError as error:
                if error.code != ErrorCode.NO_QUORUM:
                    _settle(asked, None)  # settled: granted already, or it never will be
                    return
            else:
                return


def _possible(
    leading: LeaderReplication, wanted: tuple[int, ...] | None, living: set[int]
) -> tuple[int, ...] | None:
    """Leave out what the controller would refuse; None where nothing is left to ask."""
    if wanted is None:
        return None
    now = leading.in_sync
    stay = {each for each in wanted if each in now or each in living}
    missing = leading.min_in_sync - len(stay)
    if missing > 0:  # the set does not shrink below its minimum
        stay |= set(sorted(now - stay)[:missing])
    return None if stay == now else tuple(sorted(stay))


def _settle(asked: list[_Asked], codes: list[int] | None) -> None:
    """Tell leaders what was refused; what was granted they hear from the metadata.

    Args:
        asked: What was asked.
        codes: The answer for each, 0 for granted; None where all were refused.
    """
    for place, each in enumerate(asked):
        if codes is None or codes[place]:
            each.leading.refused()
