"""What consumers may be given, and by whom, with followers that serve them.

- Nobody is given a record that is not committed: that lies beyond every high watermark there is.
- A leader sends consumers only to a follower that holds what they ask for, as far as it knows.
- A follower that serves is at most `STALE_S` behind what the latest leader knows to be committed;
  one that is out of touch refuses.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from streambus_broker.api.fetch import NO_REPLICA
from tests.support.history import CheckFailedError

if TYPE_CHECKING:
    from streambus_broker.cluster.broker import ClusterBroker
    from streambus_broker.cluster.replica import Replica
    from streambus_broker.log.partition import PartitionLog
    from tests.cluster.hosts import Host, Hosts
    from tests.support.history import History

STALE_S = 2.0
"""A leader is silent for a second at most (`cluster.fetcher`), and tells its watermark twice in
one; the rest is the network's."""


class FollowerReads:
    """See the module.

    Args:
        hosts: The brokers.
        history: What clients know; asks here whether a record may be read.

    Attributes:
        problem: To whom a consumer was sent in vain; the next look raises it.
    """

    def __init__(self, hosts: Hosts, history: History) -> None:
        self._hosts = hosts
        self._history = history
        self._marks: dict[int, tuple[int, deque[tuple[float, int]]]] = {}
        self._served: dict[ClusterBroker, int] = {}
        self.problem: str | None = None
        history.committed = self.committed

    @property
    def served(self) -> int:
        """Answers with records that followers gave."""
        return sum(self._served.values())

    def attach(self, host: Host) -> None:
        """Look at whom a broker sends its consumers to from now on."""
        assert host.broker is not None
        node, api = host.broker.node, host.broker.apis.fetch
        closer = api.closer

        def watched(log: PartitionLog, offset: int, rack: str) -> int:
            chosen: int = closer(log, offset, rack)
            if chosen != NO_REPLICA:
                leading = node.replicas[log.partition_id].leading
                known = None if leading is None else leading.followers.get(chosen)
                if known is None or known.fetched < offset:
                    self.problem = (
                        f"broker {host.node_id} sends a consumer of {log} at {offset} to broker"
                        f" {chosen}, which holds less"
                    )
            return chosen

        api.closer = watched  # type: ignore[method-assign]  # of this one broker

    def committed(self, partition: int) -> int:
        """Up to where a partition is committed, as some living broker knows now."""
        known = [self._history.watermarks[partition]]
        for host in self._hosts.all:
            if host.node is not None:
                known += [
                    replica.stored.log.high_watermark
                    for replica in host.node.replicas.values()
                    if replica.partition == partition
                ]
        return max(known)

    def look(self, host: Host, replica: Replica) -> None:
        """Look at one replica.

        Raises:
            CheckFailedError: It would serve what is long out of date.
        """
        if self.problem is not None:
            raise CheckFailedError(self.problem)
        assert host.broker is not None
        self._served[host.broker] = host.broker.apis.fetch.follower_reads  # type: ignore[attr-defined]  # a cluster's
        now_s, known = self._hosts.simulation.loop.time(), replica.stored.log.high_watermark
        if replica.leading is not None:
            self._note_leader(replica, known, now_s)
            return
        epoch, marks = self._marks.get(replica.partition, (-1, deque()))
        if epoch < replica.stored.log.leader_epoch:
            return  # its leader has not been looked at yet
        since_s = now_s - STALE_S
        while len(marks) > 1 and marks[1][0] <= since_s:
            marks.popleft()
        told_s, watermark = marks[0]
        if known < watermark and told_s <= since_s and host.broker.node.follows_in_step(replica):
            raise CheckFailedError(
                f"broker {host.node_id} serves partition {replica.partition} up to {known};"
                f" {watermark} were committed {STALE_S:g} s ago"
            )

    def _note_leader(self, replica: Replica, watermark: int, now_s: float) -> None:
        """Note since when so much is known to be committed; a new leader may know less again."""
        epoch = replica.stored.log.leader_epoch
        latest, marks = self._marks.get(replica.partition, (-1, deque()))
        if epoch > latest:
            self._marks[replica.partition] = (epoch, deque([(now_s, watermark)]))
        elif epoch == latest and watermark > marks[-1][1]:
            marks.append((now_s, watermark))
