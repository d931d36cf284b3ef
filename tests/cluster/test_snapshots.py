"""The metadata's past is written down as a state before going through it again takes long."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from streambus_broker.cluster.raft_log import TreeLogStorage
from streambus_broker.cluster.snapshots import CHANGES_MIN, worth_a_snapshot
from streambus_raft import Entry, EntryKind, Term, Write
from streambus_storage import LSMTree
from tests.cluster.calm import CalmCluster, calm

if TYPE_CHECKING:
    from pathlib import Path

    from streambus_broker.cluster.node import ClusterNode
    from tests.cluster.hosts import Host

PARTITIONS = 200


def test_a_small_past_is_gone_through_again() -> None:
    assert not worth_a_snapshot(0, 0)
    assert not worth_a_snapshot(CHANGES_MIN - 1, 3)
    assert worth_a_snapshot(CHANGES_MIN, 3)


def test_a_past_as_large_as_the_state_is_written_down() -> None:
    assert not worth_a_snapshot(9_999, 10_000)
    assert worth_a_snapshot(10_000, 10_000)


def node_of(host: Host) -> ClusterNode:
    """What a running broker knows."""
    assert host.node is not None
    return host.node


def saved(host: Host) -> int:
    """How many snapshots a running broker has written."""
    assert host.broker is not None
    return host.broker.group.server.metrics().snapshots_saved


def test_a_broker_starts_from_the_state_that_deaths_have_left() -> None:
    cluster = CalmCluster(1, replace(calm(), partitions=PARTITIONS))
    gone_through: list[int] = []

    async def restart(host: Host) -> None:
        others = [node_of(each) for each in cluster.hosts.all if each is not host]
        cluster.hosts.kill(host, power_loss=False)
        await cluster.until(
            lambda: all(node.state.brokers[host.node_id].fenced for node in others), "its end"
        )
        cluster.hosts.start(host)
        await cluster.ready()
        await cluster.until(
            lambda: len({node_of(each).state.encode() for each in cluster.hosts.all}) == 1,
            "the same metadata everywhere",
        )

    async def script() -> None:
        hosts = cluster.hosts.all
        await cluster.ready()
        await cluster.clients.create_topic(replication_factor=3)
        for _ in range(3):  # each changes all partitions, twice: it leaves, and is in sync again
            await restart(hosts[0])
        await cluster.until(lambda: all(map(saved, hosts)), "a snapshot on each")
        await restart(hosts[0])
        gone_through.append(node_of(hosts[0]).changed_count)

    cluster.run(script)
    assert gone_through[0] < CHANGES_MIN


def test_the_term_before_is_that_of_the_last_older_entry(tmp_path: Path) -> None:
    terms = [1, 1, 3, 3, 6]
    with LSMTree.open(tmp_path / "meta") as tree:
        storage = TreeLogStorage(tree, Random(1))
        entries = [
            Entry(index, Term(term), EntryKind.COMMAND, b"") for index, term in enumerate(terms, 1)
        ]
        storage.write(Write(1, None, (), None, entries, must_sync=True))
        assert storage.term_before(7) == 6
        assert [storage.term_before(term) for term in (6, 5, 4, 3, 2)] == [3, 3, 3, 1, 1]
        assert storage.term_before(1) == 0
