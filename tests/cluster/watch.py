"""What an observer who sees every broker at once must never see, while a run goes on.

Looked at every few milliseconds of virtual time, and before a broker is killed:

- A broker's high watermark never goes back while it lives, and never lies beyond its log's end.
- In one leader epoch at most one broker leads a partition.

And at chosen moments, with a look at every disk as a loss of power would leave it:

- What a broker believes to be durable, its own records or its followers', is: also where a sync
  has failed.
- What is committed is on as many disks as it must be (min_insync_replicas).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from streambus_broker.log.keys import TOTALS_BYTES, partition_of, partition_prefix
from streambus_protocol import read_batch_header
from streambus_storage import LSMTree, NotATreeError, Options, StorageError
from streambus_storage.testing import SimulatedScheduler, random_source
from tests.cluster.follower_reads import FollowerReads
from tests.support.history import CheckFailedError

if TYPE_CHECKING:
    from streambus_broker.cluster.replica import Replica
    from streambus_broker.log.partition import PartitionLog
    from tests.cluster.hosts import Host, Hosts
    from tests.support.history import History

_PAUSE_S = 0.05
_LOOKS_AFTER_TRUNCATION = 3  # what replaced the records is being synced
_NO_DICE = random_source(0, "nothing is drawn in this mode")


class Watch:
    """See the module.

    Attributes:
        epochs: The highest leader epoch seen, by partition.
        suspicious: How many times more the disks are looked at, each time.
        reads: Looks at what consumers are given.
    """

    def __init__(self, hosts: Hosts, history: History) -> None:
        self.epochs: dict[int, int] = {}
        self._hosts = hosts
        self._history = history
        self._leaders: dict[tuple[int, int], tuple[int, int]] = {}
        self._ends: dict[PartitionLog, int] = {}
        self.suspicious = 0
        self.reads = FollowerReads(hosts, history)

    async def run(self) -> None:
        """Look again and again.

        Raises:
            CheckFailedError: There it was.
        """
        while True:
            await asyncio.sleep(_PAUSE_S)
            for host in self._hosts.all:
                self.look(host)
            if self.suspicious:
                self.suspicious -= 1
                self.look_at_disks()

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
            if log.next_offset < self._ends.get(log, 0):
                self.suspicious = _LOOKS_AFTER_TRUNCATION
            self._ends[log] = log.next_offset
            if watermark > watermarks[number]:
                watermarks[number] = watermark
            self.reads.look(host, replica)
            if replica.leading is not None:
                self._look_at_leader(host, replica)

    # --- disks ---------------------------------------------------------------------------------

    def look_at_disks(self) -> None:
        """Compare what leaders believe with what the disks hold.

        Cost: some milliseconds for each broker.

        Raises:
            CheckFailedError: They do not hold it.
        """
        ends: dict[int, dict[int, int]] = {}
        for host in self._hosts.all:
            if _is_sound(host):
                try:
                    ends[host.node_id] = _durable_ends(host)
                except StorageError:
                    if not host.failing:  # a sync that fails may leave anything behind
                        raise
        for host in self._hosts.all:
            node = host.node
            if node is None:
                continue
            for replica in list(node.replicas.values()):
                own = replica.stored.durable
                _check_belief(host.node_id, host.node_id, replica, own, ends)
                if replica.leading is not None and self._is_last(replica):
                    self._check_leader(host, replica, ends)

    def _is_last(self, replica: Replica) -> bool:
        """Whether nobody was seen to lead in a later epoch."""
        return replica.stored.log.leader_epoch >= self.epochs.get(replica.partition, 0)

    def _check_leader(self, host: Host, replica: Replica, ends: dict[int, dict[int, int]]) -> None:
        leading, partition_id = replica.leading, replica.partition_id
        assert leading is not None
        believed = {host.node_id: leading.durable}
        for follower, progress in leading.followers.items():
            other = self._hosts.hosts[follower].node
            same = None if other is None else other.replicas.get(partition_id)
            if (
                same is not None
                and same.follows == host.node_id
                and (same.record.leader_epoch == replica.record.leader_epoch)
            ):
                believed[follower] = progress.durable
        for node_id, end in believed.items():
            _check_belief(host.node_id, node_id, replica, end, ends)
        watermark = leading.high_watermark
        holders = [n for n, found in ends.items() if found.get(partition_id, 0) >= watermark]
        unknown = len(self._hosts.all) - len(ends)
        minimum = self._hosts.shape.replication_factor // 2 + 1
        if watermark and len(holders) + unknown < minimum:
            raise CheckFailedError(
                f"{replica.partition} is committed up to {watermark}; on the disks of {holders}"
            )

    def _look_at_leader(self, host: Host, replica: Replica) -> None:
        number, epoch = replica.partition, replica.stored.log.leader_epoch
        self.epochs[number] = max(self.epochs.get(number, 0), epoch)
        led = (host.node_id, host.starts)
        if self._leaders.setdefault((number, epoch), led) != led:
            raise CheckFailedError(
                f"{led} and {self._leaders[number, epoch]} both lead {number} in epoch {epoch}"
            )


def _is_sound(host: Host) -> bool:
    """Whether what was synced on the disk must be there."""
    return not (host.damaged or host.wiped)


def _check_belief(
    who: int, whose: int, replica: Replica, believed: int, ends: dict[int, dict[int, int]]
) -> None:
    """What one broker believes of its own disk or of another's, against what is there."""
    found = ends.get(whose)
    if found is not None and believed > found.get(replica.partition_id, 0):
        raise CheckFailedError(
            f"broker {who} believes that broker {whose} has partition {replica.partition} on disk"
            f" up to {believed}; it has {found.get(replica.partition_id, 0)}"
        )


def _durable_ends(host: Host) -> dict[int, int]:
    """By partition id, where the logs on a disk would end after a loss of power now."""
    disk = host.disk.power_cut(_NO_DICE, "drop")
    if not disk.exists("/broker/data"):
        return {}
    ends: dict[int, int] = {}
    try:
        tree = LSMTree.open(
            "/broker/data",
            Options(
                file_system=disk, scheduler=SimulatedScheduler(0), key_partitioner=partition_of
            ),
            create=False,
            read_only=True,
        )
    except NotATreeError:
        return {}
    with tree:
        partition_id = 0
        while True:
            with contextlib.closing(tree.scan(partition_prefix(partition_id + 1))) as scan:
                first = next(scan, None)
            if first is None:
                return ends
            partition_id = int.from_bytes(first[0][:8], "big")
            found = tree.last(prefix=partition_prefix(partition_id))
            assert found is not None
            ends[partition_id] = read_batch_header(found[1], TOTALS_BYTES).next_offset
