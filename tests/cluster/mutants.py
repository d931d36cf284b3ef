"""``hatch run mutants cluster [--only NAME] [--seeds N]``: seeded bugs that the simulator finds.

Each mutant changes one decision of replication or failover while scenarios run. It is found when a
run breaks a promise (or cannot settle, or dies of an error). Ends with 8 if one survived.
"""

# ruff: noqa: ARG005 - a mutant has the shape of what it replaces

from __future__ import annotations

import argparse
import contextlib
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

from rich.console import Console
from rich.table import Table

from streambus_broker.cluster import election
from streambus_broker.cluster.epochs import LeaderEpochs
from streambus_broker.cluster.follower import FollowerSession
from streambus_broker.cluster.leader import LeaderReplication
from streambus_broker.cluster.node import ClusterNode
from streambus_broker.cluster.raft_log import TreeLogStorage
from streambus_broker.cluster.replica import Replica, Waiting
from streambus_broker.cluster.replica_log import ReplicaLog
from streambus_broker.log.durability import DurabilityQueue
from streambus_broker.log.tail import TailCache
from tests.cluster.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _fetched_is_durable(real: Any) -> Any:
    return lambda self, follower, offset, durable, now_s: real(
        self, follower, offset, offset, now_s
    )


def _own_sync_ignored(real: Any) -> Any:
    def appended(self: Any, log_end: int) -> None:
        real(self, log_end)
        self.durable = log_end

    return appended


def _one_is_enough(real: Any) -> Any:
    def advance(self: Any) -> int:
        real(self)
        self.high_watermark = max(self.high_watermark, self.durable)
        return int(self.high_watermark)

    return advance


def _everybody_in_sync(real: Any) -> Any:
    def wanted(self: Any, now_s: float) -> tuple[int, ...] | None:
        everybody = {self.broker_id, *self.followers}
        if self._requested is not None or everybody == self.in_sync:
            return None
        return tuple(sorted(everybody))

    return wanted


def _acknowledged_at_once(real: Any) -> Any:
    return lambda self, offset, call: insort_and_call(self, call)


def insort_and_call(replica: Replica, call: Callable[[str | None], None]) -> None:
    """Answer without waiting, at the end of this turn."""
    replica.waiting.append(Waiting(0, 0, call))
    replica.committed()


def _led_watermark_at_the_end(real: Any) -> Any:
    def lead(self: Any, *arguments: Any, **named: Any) -> Any:
        self.stored.log.high_watermark = self.stored.log.next_offset
        return real(self, *arguments, **named)

    return lead


def _recovered_is_committed(real: Any) -> Any:
    def recover(self: Any) -> None:
        real(self)
        self.log.high_watermark = self.log.next_offset

    return recover


def _readable_at_once(real: Any) -> Any:
    def append(self: Any, header: Any, batch: bytes) -> Any:
        result = real(self, header, batch)
        self.log.high_watermark = self.log.next_offset
        return result

    return append


def _followed_is_readable(real: Any) -> Any:
    def follow(self: Any, batches: bytes) -> int:
        sequence = real(self, batches)
        self.log.high_watermark = self.log.next_offset
        return int(sequence)

    return follow


def _not_synced(real: Any) -> Any:
    def when_durable(self: Any, sequence: int, call: Callable[[Any], Any]) -> None:
        self._loop.call_soon(call, None)

    return when_durable


def _metadata_not_synced(real: Any) -> Any:
    return lambda self, done: done(None)


def _any_replica_leads(real: Any) -> Any:
    return lambda record, able: next((each for each in record.replicas if each in able), -1)


def _same_epoch(real: Any) -> Any:
    import dataclasses

    return lambda record, leader: dataclasses.replace(
        record, leader=leader, partition_epoch=record.partition_epoch + 1
    )


def _never_diverges(real: Any) -> Any:
    return lambda self, offset, last_epoch, log_end: None


def _too_short(real: Any) -> Any:
    return lambda self, end, log_end: max(0, real(self, end, log_end) - 1)


def _durable_stays(real: Any) -> Any:
    def positioned(self: Any, partition_id: int, log_end: int, last_epoch: int) -> None:
        known = self.partitions.get(partition_id)
        durable = 0 if known is None else known.durable
        real(self, partition_id, log_end, last_epoch)
        if known is not None:
            known.durable = max(durable, log_end)

    return positioned


def _leads_on(real: Any) -> Any:
    def take_place(self: Any, replica: Any, record: Any, topic: Any) -> None:
        if replica.leading is not None and record.leader != self.config.node_id:
            return
        real(self, replica, record, topic)

    return take_place


def _any_incarnation(real: Any) -> Any:
    return property(lambda self: self.state.brokers.get(self.config.node_id))


def _tail_stays(real: Any) -> Any:
    return lambda self, partition_id: None


def _epochs_not_begun(real: Any) -> Any:
    return lambda self, epoch, start_offset: False


MUTANTS: dict[str, tuple[object, str, Callable[[Any], Any]]] = {
    "a fetched record counts as synced": (LeaderReplication, "fetched", _fetched_is_durable),
    "the leader's own sync is not waited for": (LeaderReplication, "appended", _own_sync_ignored),
    "the leader alone commits": (LeaderReplication, "_advance", _one_is_enough),
    "everybody is in sync": (LeaderReplication, "wanted_in_sync", _everybody_in_sync),
    "acknowledged before it is committed": (Replica, "when_committed", _acknowledged_at_once),
    "a new leader commits its whole log": (Replica, "lead", _led_watermark_at_the_end),
    "recovered records count as committed": (ReplicaLog, "recover", _recovered_is_committed),
    "the leader serves what is not committed": (ReplicaLog, "append", _readable_at_once),
    "followers count what they fetched as committed": (ReplicaLog, "follow", _followed_is_readable),
    "no sync of records": (DurabilityQueue, "when_durable", _not_synced),
    "no sync of metadata": (TreeLogStorage, "sync_soon", _metadata_not_synced),
    "any living replica may lead": (election, "choose_leader", _any_replica_leads),
    "an election keeps the leader epoch": (election, "with_leader", _same_epoch),
    "divergence is not looked for": (LeaderEpochs, "divergence", _never_diverges),
    "truncation goes one record too far": (LeaderEpochs, "common_end", _too_short),
    "durability survives truncation": (FollowerSession, "positioned", _durable_stays),
    "a deposed leader leads on": (ClusterNode, "_take_place", _leads_on),
    "a restarted broker acts before it registers": (ClusterNode, "me", _any_incarnation),
    "truncated batches stay in the cache": (TailCache, "forget", _tail_stays),
    "leader epochs are not noted": (LeaderEpochs, "begin", _epochs_not_begun),
}  # fmt: skip


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """Run with one bug."""
    target, attribute, make = MUTANTS[name]
    real = vars(target)[attribute]
    with mock.patch.object(target, attribute, make(real)):
        yield


def hunt(name: str, seeds: int, duration_s: float) -> tuple[int | None, str, float]:
    """Look for a bug; the seed that found it, what was found, and the seconds it took."""
    began_s = time.process_time()
    for seed in range(seeds):
        try:
            with mutated(name):
                Scenario(seed, duration_s).run()
        except Exception as found:  # noqa: BLE001 - whatever it is, the bug was noticed
            problem = f"{type(found).__name__}: {found}"
            return seed, problem, time.process_time() - began_s
    return None, "", time.process_time() - began_s


def main(arguments: list[str]) -> int:
    """Hunt every mutant; 0 if all were found, 8 if one survived."""
    parser = argparse.ArgumentParser(prog="mutants cluster")
    parser.add_argument("--only", help="the mutant of this name alone")
    parser.add_argument("--seeds", type=int, default=12, help="how many to try for each")
    parser.add_argument("--duration", type=float, default=10.0, help="virtual seconds of trouble")
    options = parser.parse_args(arguments)
    table = Table(title="seeded bugs of the cluster")
    for column in ("bug", "found by seed", "CPU s", "as"):
        table.add_column(column)
    survived = 0
    for name in [options.only] if options.only else MUTANTS:
        seed, problem, took_s = hunt(name, options.seeds, options.duration)
        survived += seed is None
        shown = "SURVIVED" if seed is None else str(seed)
        print(f"{name}: {shown} ({took_s:.0f} s) {problem[:150]}", flush=True)
        table.add_row(name, shown, f"{took_s:.0f}", problem[:100])
    Console().print(table)
    return 8 if survived else 0
