"""What an observer who sees every broker at once must never see, while a run goes on.

Looked at every few milliseconds of virtual time, and before a broker is killed:

- A broker's high watermark never goes back while it lives, and never lies beyond its log's end.
- In one leader epoch at most one broker leads a partition.
- What a leader holds to be committed is on the disk of every member of its in-sync set that lives:
  not written only, synced.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support.history import CheckFailedError

if TYPE_CHECKING:
    from streambus_broker.cluster.replica import Replica
    from tests.cluster.hosts import Host, Hosts
    from tests.support.history import History

_PAUSE_S = 0.02


class Watch:
    """See the module.

    Attributes:
        epochs: The highest leader epoch seen, by partition.
    """

    def __init__(self, hosts: Hosts, history: History) -> None:
        self.epochs: dict[int, int] = {}
        self._hosts = hosts
        self._history = history
        self._leaders: dict[tuple[int, int], tuple[int, int]] = {}

    async def run(self) -> None:
        """Look again and again.

        Raises:
            CheckFailedError: There it was.
        """
        while True:
            await asyncio.sleep(_PAUSE_S)
            for host in self._hosts.all:
                self.look(host)

    def look(self, host: Host) -> None:
        """Look at one broker."""
        node = host.node
        if node is None:
            return
        watermarks, lowest = self._history.watermarks, host.lowest
        for replica in list(node.replicas.values()):
            log, number = replica.stored.log, replica.partition
            watermark = log.high_watermark
            if watermark > log.next_offset:
                raise CheckFailedError(f"broker {host.node_id} has {watermark} committed in {log}")
            if watermark < lowest.get(log, 0):
                raise CheckFailedError(
                    f"broker {host.node_id} took {number} back from {lowest[log]} to {watermark}"
                )
            lowest[log] = watermark
            if watermark > watermarks[number]:
                watermarks[number] = watermark
            if replica.leading is not None:
                self._look_at_leader(host, replica)

    def _look_at_leader(self, host: Host, replica: Replica) -> None:
        number, epoch = replica.partition, replica.stored.log.leader_epoch
        self.epochs[number] = max(self.epochs.get(number, 0), epoch)
        led = (host.node_id, host.starts)
        if self._leaders.setdefault((number, epoch), led) != led:
            raise CheckFailedError(
                f"{led} and {self._leaders[number, epoch]} both lead {number} in epoch {epoch}"
            )
