"""Damage that a broker of a cluster meets while it serves ends its part, until it is rebuilt.

It went on, counted as in sync, and answered every read of the damaged place with an error.
"""

from __future__ import annotations

import asyncio

import pytest

from streambus_broker.cluster.identity import load_identity, note_damage
from streambus_broker.errors import StoredStateError
from streambus_storage import CorruptionError, LSMTree
from streambus_storage.testing import SimulatedWorld
from tests.cluster.calm import CalmCluster
from tests.support.clients import Writing


def test_a_broker_that_meets_damage_is_rebuilt_and_in_sync_again() -> None:
    cluster = CalmCluster(1)

    async def script() -> None:
        await cluster.ready()
        await cluster.clients.create_topic(replication_factor=3)
        writing = asyncio.create_task(cluster.clients.produce(0, Writing("all", 50)))
        await asyncio.sleep(1.0)
        host = cluster.hosts.hosts[2]
        host.damaged = True  # what the operator will be told to empty
        first = host.process
        node = host.node
        assert node is not None
        error = CorruptionError("/broker/data/000001.sst", 12, "a block is damaged")
        host.process.start(_meet, node, error)
        await cluster.until(lambda: host.process is not first, "the broker gives up")
        assert not host.damaged  # its directory was refused, and emptied
        await cluster.until(lambda: cluster.has_session(2), "it is back")
        await cluster.until(lambda: _in_sync(cluster, 2), "it is in sync")
        cluster.clients.stopping = True
        await writing
        cluster.history.check(await cluster.clients.read_everything())

    cluster.run(script)


def test_a_broker_whose_merges_meet_damage_is_rebuilt() -> None:
    """It went on, merged in vain, and took no records any more (steady simulated seed 101)."""
    cluster = CalmCluster(1)

    async def script() -> None:
        await cluster.ready()
        await cluster.clients.create_topic(replication_factor=3)
        writing = asyncio.create_task(cluster.clients.produce(0, Writing("all", 50)))
        await asyncio.sleep(1.0)
        host = cluster.hosts.hosts[2]
        assert host.node is not None
        first, tree = host.process, host.node.store.tree
        tree.flush()
        (table,) = [path for path in host.disk.files() if "data" in path and path.endswith(".sst")]
        host.disk.flip_bit(table, host.disk.files()[table] // 2)
        host.damaged = True
        await asyncio.sleep(0.5)
        tree.put(b"\x00", b"")
        tree.put(b"\xff", b"")  # now there is something to merge it with
        with pytest.raises(CorruptionError):
            tree.compact()
        await cluster.until(lambda: host.process is not first, "the broker gives up")
        await cluster.until(lambda: not host.damaged, "its directory is emptied")
        await cluster.until(lambda: cluster.has_session(2), "it is back")
        cluster.clients.stopping = True
        await writing
        cluster.history.check(await cluster.clients.read_everything())

    cluster.run(script)


async def _meet(node: object, error: CorruptionError) -> None:
    node.storage_failed("read", error)  # type: ignore[attr-defined]  # a node of the cluster


def _in_sync(cluster: CalmCluster, node_id: int) -> bool:
    node = cluster.hosts.hosts[1].node
    assert node is not None
    return all(node_id in replica.record.in_sync for replica in node.replicas.values())


def test_a_directory_with_a_note_of_damage_is_refused() -> None:
    world = SimulatedWorld(1)
    meta, data = (LSMTree.open(f"/{name}", world.options()) for name in ("meta", "data"))
    load_identity(meta, data, "/", 1, world.random)
    note_damage(meta, "/data/000001.sst at byte 12: a block is damaged")
    with pytest.raises(StoredStateError, match=r"found damaged: .* at byte 12"):
        load_identity(meta, data, "/", 1, world.random)
