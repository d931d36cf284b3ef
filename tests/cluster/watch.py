"""What an observer who sees every broker at once must never see, while a run goes on.

Looked at every few milliseconds of virtual time, and before a broker is killed:

- A broker's high watermark never goes back while it lives, and never lies beyond its log's end.
- In one leader epoch at most one broker leads a partition.
- Whoever is in sync, by the newest metadata that any broker ever had, holds everything that was
  ever committed: so whoever is elected next does.
- What a broker knows beside a log (leader epochs, producers, batches in memory) speaks of nothing
  beyond the log's end.
- Where any broker knows that a living one's session is over, that one's lease is over too, whether
  it runs or not; and with its lease over a leader neither appends nor lets clients read.

When a record is acknowledged by all: it is on as many disks as it must be, as far as the brokers
that live believe.

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
from tests.cluster.watch_logs import look_at_followers, look_at_sessions
from tests.cluster.watch_metadata import MetadataWatch
from tests.support.history import CheckFailedError

if TYPE_CHECKING:
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.replica import Replica
    from streambus_broker.log.partition import PartitionLog
    from streambus_broker.metadata.records import PartitionRecord
    from tests.cluster.hosts import Host, Hosts
    from tests.support.history import History, Sent

_PAUSE_S = 0.05
_LOOKS_AFTER_TRUNCATION = 3  # what replaced the records is being synced
SENT_WHAT_DOES_NOT_FIT = "a leader sent what cannot be appended"
"""As `cluster.fetcher` says it."""
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
        self._newest: dict[int, PartitionRecord] = {}
        self._led: dict[PartitionLog, int] = {}  # in which epoch its broker led it; -1 for none
        self.suspicious = 0
        self.reads = FollowerReads(hosts, history)
        self._minimum = hosts.shape.replication_factor // 2 + 1
        self._metadata = MetadataWatch()
        hosts.opened, hosts.heard, hosts.given = self._opened, self._heard, self._given

    async def run(self) -> None:
        """Look again and again.

        Raises:
            CheckFailedError: There it was.
        """
        while True:
            await asyncio.sleep(_PAUSE_S)
            for host in self._hosts.all:
                self.look(host)
            self._look_at_in_sync_sets()
            if self.suspicious:
                self.suspicious -= 1
                self.look_at_disks()

    def look(self, host: Host) -> None:
        """Look at one broker."""
        if self._metadata.problem is not None:
            raise CheckFailedError(self._metadata.problem)
        node = host.node
        if node is None:
            return
        lowest = host.lowest
        for replica in node.replicas.values():
            log, leads = replica.stored.log, replica.leading is not None
            watermark, end = log.high_watermark, log.next_offset
            self._note(replica)
            if watermark > end:
                raise CheckFailedError(f"broker {host.node_id} has {watermark} committed in {log}")
            if watermark < lowest.get(log, 0):
                raise CheckFailedError(
                    f"broker {host.node_id} took {replica.partition} back from {lowest[log]} to"
                    f" {watermark}"
                )
            lowest[log] = watermark
            before = self._ends.get(log, end)  # what it was opened with is no news
            if end < before:
                self.suspicious = _LOOKS_AFTER_TRUNCATION
            elif end > before and self._led.get(log) == log.leader_epoch:
                self._look_at_append(host, node, replica)
            self._led[log] = log.leader_epoch if leads else -1
            self._ends[log] = end
            self.reads.look(host, replica)
            if leads:
                self._look_at_leader(host, replica)
                look_at_followers(self._hosts, host, replica)
            self._look_beside(host, replica)
        self._look_at_lease(host, node)
        look_at_sessions(host, node)

    def _note(self, replica: Replica) -> None:
        """Take note of what a replica's broker knows of the partition."""
        number, watermark = replica.partition, replica.stored.log.high_watermark
        known = self._newest.get(number)
        if known is None or known.partition_epoch < replica.record.partition_epoch:
            self._newest[number] = replica.record
        if watermark > self._history.watermarks[number]:
            self._history.watermarks[number] = watermark

    def _given(self, node: ClusterNode, log: PartitionLog) -> None:
        """Note what is committed by whoever gives it to clients, at that moment.

        Nobody else may know yet, and before the next look, or before the answer arrives, that
        broker may have died, or hold the partition no more: a move has ended.
        """
        replica = node.replicas.get(log.partition_id)
        if replica is not None:
            self._note(replica)

    def _opened(self, host: Host) -> None:
        self._metadata.attach(host)
        self.reads.attach(host)

    def _heard(self, host: Host, operation: str, event: str) -> None:
        """A broker logs something: look at what it has just truncated, and whether it is in need.

        It is in need where its leader sends what does not fit, and nobody's disk was damaged.
        """
        node = host.node
        if node is None or self._metadata.problem is not None:
            return
        try:
            if operation == "truncate":
                for replica in node.replicas.values():
                    self._look_beside(host, replica)
            elif event == SENT_WHAT_DOES_NOT_FIT and all(map(_is_sound, self._hosts.all)):
                raise CheckFailedError(f"broker {host.node_id}: {event}")
        except CheckFailedError as error:  # for whoever looks next: a broker would catch it
            self._metadata.problem = str(error)

    def _look_at_in_sync_sets(self) -> None:
        for number, record in self._newest.items():
            watermark = self._history.watermarks[number]
            for member in record.in_sync:
                host = self._hosts.hosts[member]
                if host.node is None or not _is_sound(host) or not host.node.knows_latest:
                    continue  # until it is registered, sets speak of the life before this one
                held = host.node.replicas.get(record.partition_id)
                if held is None or held.stored.durable >= watermark:
                    continue
                raise CheckFailedError(
                    f"broker {member} is in sync for partition {number} with"
                    f" {held.stored.durable} of {watermark} committed records"
                )

    # --- leases --------------------------------------------------------------------------------

    def _look_at_append(self, host: Host, node: ClusterNode, replica: Replica) -> None:
        """A log has grown: not on a leader whose lease was over before and is not renewed."""
        over_since_s = host.lapsed_s
        if over_since_s is not None and node.leads_until_s <= over_since_s:
            raise CheckFailedError(
                f"broker {host.node_id} appended to {replica.stored.log} without a lease"
            )

    def _look_at_lease(self, host: Host, node: ClusterNode) -> None:
        if host.read_without_lease:
            raise CheckFailedError(f"broker {host.node_id} let clients read without a lease")
        if node.lapsed():
            host.lapsed_s = node.leads_until_s
            return
        host.lapsed_s = None
        mine = node.me
        if mine is None or node.closing:
            return
        for other in self._hosts.all:
            knows = None if other.node is None else other.node.state.brokers.get(host.node_id)
            if (
                knows is not None
                and knows.fenced
                and knows.incarnation == node.incarnation
                and knows.epoch >= mine.epoch
            ):
                raise CheckFailedError(
                    f"broker {other.node_id} knows that the session of broker {host.node_id} is"
                    f" over; its lease lasts {node.leads_until_s - node.steady_s():.3f} s more"
                )

    # --- logs ----------------------------------------------------------------------------------

    @staticmethod
    def _look_beside(host: Host, replica: Replica) -> None:
        """What is known beside a log must not speak of what was truncated."""
        stored = replica.stored
        end = stored.log.next_offset
        starts = stored.epochs.starts
        empty = end == stored.log.log_start_offset  # an epoch of nothing is one of what comes
        epoch = -1 if empty or not starts else starts[-1]
        batch = stored.producers.last_offset
        in_memory = stored.store.tail.end_of(replica.partition_id) - 1
        if epoch < end and batch < end and in_memory < end:
            return
        raise CheckFailedError(
            f"broker {host.node_id} knows an epoch at {epoch}, a producer's batch at {batch}, a"
            f" batch in memory at {in_memory}: {stored.log}"
        )

    def acknowledged(self, record: Sent) -> None:
        """A record was acknowledged by all: see that enough brokers believe to have it on disk.

        Raises:
            CheckFailedError: They do not.
        """
        holders, unknown, offset = [], 0, record.offset
        for host in self._hosts.all:
            found = None if host.damaged or host.wiped or host.failing else host.node
            replica = None if found is None else _replica_of(found, record.partition)
            if replica is None:
                unknown += 1
            elif replica.stored.durable > offset:
                holders.append(host.node_id)
            if len(holders) + unknown == self._minimum:
                return
        raise CheckFailedError(f"{record} was acknowledged; only {holders} believe to hold it")

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
        if watermark and len(holders) + unknown < self._minimum:
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


def _replica_of(node: ClusterNode, partition: int) -> Replica | None:
    """A broker's replica of a partition, if it has one."""
    for replica in node.replicas.values():
        if replica.partition == partition:
            return replica
    return None


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
