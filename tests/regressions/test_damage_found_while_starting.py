"""Damage that is met as the metadata is carried out is said to be damage.

A broker opens its tables when it reads them, which may be for a partition that it learns of from
the metadata log. It ended, and said that its state machine had failed: nobody knew what to do.
"""

from __future__ import annotations

import asyncio

from tests.cluster.calm import CalmCluster
from tests.support.clients import Writing


def test_a_broker_that_meets_damage_while_it_starts_is_rebuilt() -> None:
    cluster = CalmCluster(1)

    async def script() -> None:
        await cluster.ready()
        await cluster.clients.create_topic(replication_factor=3)
        writing = asyncio.create_task(cluster.clients.produce(0, Writing("all", 50)))
        await asyncio.sleep(1.0)
        host = cluster.hosts.hosts[2]
        assert host.node is not None
        host.node.store.tree.flush()
        cluster.hosts.kill(host, power_loss=False)
        tables = [path for path in host.disk.files() if path.endswith(".sst") and "data" in path]
        assert len(tables) == 1
        host.disk.flip_bit(tables[0], host.disk.files()[tables[0]] // 2)
        host.damaged = True  # what the operator will be told to empty
        said: list[str] = []
        cluster.hosts.heard = lambda _, operation, event: said.append(f"{operation}: {event}")
        cluster.hosts.start(host)
        await cluster.until(lambda: not host.damaged, "the directory is emptied")
        assert any(each.startswith("fail: data directory /broker: is damaged: ") for each in said)
        await cluster.until(lambda: cluster.has_session(2), "it is back")
        cluster.clients.stopping = True
        await writing
        cluster.history.check(await cluster.clients.read_everything())

    cluster.run(script)


def test_a_broker_whose_metadata_log_has_lost_its_end_is_rebuilt() -> None:
    """A damaged end looks like writes that lost power before their sync; the leader knows better.

    It said that its node was in quarantine, and not that its directory has to be emptied (simulated
    seed 8001027).
    """
    cluster = CalmCluster(2)

    async def script() -> None:
        await cluster.ready()
        await cluster.clients.create_topic(replication_factor=3)
        await asyncio.sleep(0.5)
        host = next(each for each in cluster.hosts.all if each is not cluster.controller())
        cluster.hosts.kill(host, power_loss=True, mode="drop")
        path = "/broker/meta/000001.wal"
        host.disk.flip_bit(path, host.disk.files()[path] - 1)
        host.damaged = True
        said: list[str] = []
        cluster.hosts.heard = lambda _, operation, event: said.append(f"{operation}: {event}")
        cluster.hosts.start(host)
        await cluster.until(lambda: not host.damaged, "the directory is emptied")
        problem = "fail: data directory /broker: is damaged: this node is in quarantine: "
        assert any(each.startswith(problem) for each in said), said
        await cluster.until(lambda: cluster.has_session(host.node_id), "it is back")

    cluster.run(script)
