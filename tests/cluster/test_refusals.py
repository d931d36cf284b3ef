"""Brokers that do not belong: refused with a reason, and the cluster does not notice."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from streambus_broker.cluster.broker import JoinError
from streambus_broker.cluster.member import DuplicateBrokerError
from streambus_broker.config.broker import BrokerConfig
from streambus_broker.embedded import EmbeddedBroker
from streambus_broker.errors import DataDirectoryError, StoredStateError
from streambus_client import Admin, Producer
from streambus_protocol import ErrorCode, HandshakeRequest
from streambus_storage import LSMTree
from tests.broker.raw import RawClient
from tests.cluster.conftest import Cluster, running_cluster, wait_for_failure, wait_until
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SESSION_MS = 500
"""Of those that are to give up soon."""


class Untouched:
    """What a refused broker must leave as it is."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.before = self.look()

    def look(self) -> object:
        state = self.cluster.broker(1).node.state
        membership = self.cluster.broker(1).group.membership
        return dict(state.brokers), membership.voters, membership.learners, dict(state.topics)

    def check(self) -> None:
        assert self.look() == self.before
        with Producer(self.cluster.bootstrap) as producer:
            producer.send("t", b"still")


@pytest.fixture
def untouched(cluster: Cluster) -> Iterator[Untouched]:
    """Three brokers and a topic, which are the same at the end."""
    with Admin(cluster.bootstrap) as admin:
        admin.create_topic("t", partitions=3, replication_factor=3)
    known = [cluster.broker(node).group for node in (1, 2, 3)]
    wait_until(lambda: all(len(one.membership.storages) == 3 for one in known), "disks are known")
    guard = Untouched(cluster)
    yield guard
    guard.check()


def elsewhere(cluster: Cluster, node_id: int, **changes: object) -> BrokerConfig:
    """A broker at an address of its own, with a directory of its own, that gives up soon."""
    (port,) = free_ports(1)
    settings: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}", "data_dir": str(cluster.path / f"other-{node_id}"),
        "broker_session_ms": SESSION_MS, **changes,
    }  # fmt: skip
    return dataclasses.replace(cluster.config(1), node_id=node_id, **settings)


def joining(cluster: Cluster, node_id: int, address: str, **changes: object) -> BrokerConfig:
    changes = {"voters": "", "join": address, **changes}
    return elsewhere(cluster, node_id, **changes)


# --- a node id that is taken ---------------------------------------------------------------------


def test_a_second_voter_with_a_node_id_is_refused(cluster: Cluster, untouched: Untouched) -> None:
    error = wait_for_failure(cluster, 3, elsewhere(cluster, 3))
    assert isinstance(error, DuplicateBrokerError)
    assert f"broker 3 is already here, at {cluster.addresses[2]}" in str(error)
    assert "a node id and a data directory of its own" in str(error)


def test_a_copy_of_a_living_brokers_directory_is_refused(
    cluster: Cluster, untouched: Untouched
) -> None:
    copy = cluster.path / "other-3"
    shutil.copytree(cluster.path / "3", copy)
    error = wait_for_failure(cluster, 3, elsewhere(cluster, 3))
    assert isinstance(error, DuplicateBrokerError)
    assert f"at {cluster.addresses[2]}" in str(error)


def test_a_broker_that_joins_with_a_living_ones_id_is_refused(
    cluster: Cluster, untouched: Untouched
) -> None:
    with pytest.raises(JoinError, match="has a living broker 3 already; choose another node id"):
        EmbeddedBroker(joining(cluster, 3, cluster.addresses[0])).start()


# --- another cluster -----------------------------------------------------------------------------


def test_a_broker_of_another_cluster_is_refused(
    cluster: Cluster, untouched: Untouched, tmp_path: Path
) -> None:
    with running_cluster(tmp_path / "another", count=1) as another:
        (address,) = another.addresses
        config = joining(another, 4, address, broker_session_ms=4000)
        stranger = another.start(4, config)
        another.wait_ready()
        stranger.stop()
        del another.brokers[4]
        told = joining(another, 4, cluster.addresses[0])
        error = wait_for_failure(another, 4, told)
        assert isinstance(error, JoinError)
        assert "belongs to another one; join that one, or choose an empty directory" in str(error)
        with RawClient(address) as client:
            other_id = client.handshake.cluster_id
    with RawClient(cluster.addresses[0], handshake=False) as client:
        answer = client.call(HandshakeRequest("raw", "0", other_id))
        assert answer.error == ErrorCode.WRONG_CLUSTER
        assert f"not {other_id!r}" in answer.detail


def test_voters_that_formed_another_cluster_are_named(
    cluster: Cluster, untouched: Untouched
) -> None:
    config = elsewhere(cluster, 2)
    voters = f"1@{cluster.addresses[0]},2@{config.listen}"
    log = io.StringIO()
    with EmbeddedBroker(elsewhere(cluster, 2, voters=voters, listen=config.listen),
                        log_stream=log) as stranger:  # fmt: skip
        assert stranger.broker is not None
        inside = stranger.broker
        wait_until(lambda: "formed by other voters" in str(inside.health()), "the reason told")
        assert not inside.health().ready
    assert "name the voters with which it began" in log.getvalue()


def test_a_broker_on_its_own_cannot_be_joined(tmp_path: Path) -> None:
    with EmbeddedBroker() as single:
        config = BrokerConfig(
            data_dir=str(tmp_path / "4"), http="off", node_id=4, listen="127.0.0.1:0",
            join=single.address,
        )  # fmt: skip
        broker = EmbeddedBroker(config)
        with pytest.raises(JoinError, match="a broker on its own, and belongs to no cluster"):
            broker.start()


# --- nobody there --------------------------------------------------------------------------------


def test_an_unreachable_voter_list_is_named_until_they_come(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, free_ports(3))
    log = io.StringIO()
    first = EmbeddedBroker(cluster.config(1, http="127.0.0.1:0"), log_stream=log)
    try:
        first.start()
        cluster.brokers[1] = first
        inside = cluster.broker(1)
        wait_until(lambda: len(inside.group.transport.problems) == 2, "both were dialled")

        def ready() -> tuple[int, object]:
            try:
                with urllib.request.urlopen(f"http://{inside.http_address}/health/ready") as page:
                    return page.status, json.load(page)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)
            except OSError:
                return 0, None

        wait_until(lambda: ready()[0] != 0, "HTTP is served")
        status, told = ready()
        assert status == 503
        assert isinstance(told, dict)
        (reason,) = told["reasons"]
        for number, address in enumerate(cluster.addresses[1:], 2):
            problem = f"broker {number}: {address} cannot be reached: nobody listens there"
            assert problem in reason
            assert f"{address} cannot be reached" in log.getvalue()
        cluster.start(2)
        cluster.wait_ready()
        assert ready() == (200, {"ok": True})
    finally:
        cluster.stop_all()


# --- another release -----------------------------------------------------------------------------

LATER_LEVEL = """
from streambus_broker.cluster import commands
commands.LEVEL_MIN = commands.LEVEL_MAX = 9
"""
LATER_WIRE = """
from streambus_protocol import APIS, ApiKey
for key in (ApiKey.RAFT_MESSAGES, ApiKey.REPLICA_FETCH):
    APIS[key] = APIS[key]._replace(version_min=9, version_max=9)
"""
SERVE = """
import sys
from streambus_broker.commands.serve import run_arguments
sys.exit(run_arguments(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        (LATER_LEVEL, "broker 4 speaks metadata of level 9 to 9, broker "),
        (LATER_WIRE, "they share no version of RAFT_MESSAGES, REPLICA_FETCH"),
    ],
    ids=["metadata", "wire"],
)
def test_a_release_too_far_away_is_refused(
    cluster: Cluster, untouched: Untouched, release: str, reason: str
) -> None:
    (port,) = free_ports(1)
    arguments = [
        "--data-dir", str(cluster.path / "4"), "--listen", f"127.0.0.1:{port}", "--http", "off",
        "--node-id", "4", "--join", cluster.addresses[0],
    ]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", release + SERVE, *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert reason in last
    assert "upgrade the older one" in last
    membership = cluster.broker(1).group
    wait_until(lambda: not membership.membership.learners, "it is no member")


# --- half a directory ----------------------------------------------------------------------------


def test_a_directory_that_is_not_whole_is_refused_and_an_empty_one_rebuilt(
    cluster: Cluster,
) -> None:
    with Admin(cluster.bootstrap) as admin, Producer(cluster.bootstrap) as producer:
        admin.create_topic("t", partitions=1, replication_factor=3)
        producer.send("t", b"x")
    cluster.stop(3)
    cluster.stop(2)
    whole, others = cluster.path / "whole", cluster.path / "2"
    mine = cluster.path / "3"
    mine.rename(whole)

    def refused(problem: str, kind: type[Exception] = StoredStateError) -> None:
        with pytest.raises(kind, match=problem):
            EmbeddedBroker(cluster.config(3)).start()
        shutil.rmtree(mine)

    shutil.copytree(whole / "meta", mine / "meta")
    refused("has metadata, and its records are gone .*; empty it: the broker is rebuilt")
    shutil.copytree(whole / "data", mine / "data")
    refused("has records, and its metadata is gone; empty it: the broker is rebuilt")
    shutil.copytree(whole / "meta", mine / "meta")
    shutil.copytree(others / "data", mine / "data")
    refused("its records are gone or another broker's; empty it")
    shutil.copytree(others / "meta", mine / "meta")
    shutil.copytree(whole / "data", mine / "data")
    refused("belongs to node 2, this is node 3; give each broker a directory of its own")
    shutil.copytree(whole, mine)
    with LSMTree.open(str(mine / "meta")) as meta:
        meta.delete(b"cluster/identity", sync=True)
    refused("has records, and its metadata is gone; empty it")
    for tree in ("meta", "data"):
        for file in sorted((whole / tree).iterdir()):
            if not file.stat().st_size or file.name in ("LOCK", "RESERVE"):
                continue
            shutil.copytree(whole, mine)
            (mine / tree / file.name).unlink()
            refused("data directory", DataDirectoryError)

    cluster.start(2)
    state = cluster.broker(1).node.state
    wait_until(lambda: state.brokers[3].fenced, "the loss noticed")
    cluster.start(3)
    cluster.wait_ready()
    wait_until(lambda: len(cluster.record("t")[1]) == 3, "the empty broker in sync")
    assert cluster.broker(3).node.logs["t", 0].next_offset == 1
