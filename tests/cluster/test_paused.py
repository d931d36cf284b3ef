"""A leader that was stopped with SIGSTOP while others were elected acknowledges nothing."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from streambus_broker.demo.cluster import ClusterProcesses, local_addresses
from streambus_client import Admin
from streambus_client._quick_fetch import FetchTemplate
from streambus_client.errors import ClientError
from streambus_protocol import (
    EARLIEST,
    ErrorCode,
    FetchPartition,
    FetchRequest,
    ListOffsetsRequest,
    MetadataRequest,
    OffsetQuery,
    ProducePartition,
    ProduceRequest,
    encode_batch,
)
from tests.broker.raw import RawClient
from tests.cluster.conftest import wait_until

if TYPE_CHECKING:
    from pathlib import Path

SESSION_MS = 2000
PATIENCE_S = 60.0


def leader_of(address: str, topic: str) -> int:
    """The leader as the brokers at ``address`` know it; -1 while they do not say."""
    try:
        with Admin(address, request_timeout_ms=2000) as admin:
            return admin.describe_topic(topic).partitions[0].leader
    except ClientError:
        return -1


def test_a_leader_that_wakes_up_answers_nothing_that_waited_for_it(tmp_path: Path) -> None:
    flags = ("--broker-session-ms", str(SESSION_MS))
    cluster = ClusterProcesses(str(tmp_path), local_addresses(3), "t", flags=flags)
    with ExitStack() as stack:
        stack.callback(cluster.stop)
        cluster.start()
        with Admin(cluster.address) as admin:
            admin.create_topic("t", partitions=1, replication_factor=3)
        leader = leader_of(cluster.address, "t")
        addresses = cluster.address.split(",")
        others = ",".join(each for i, each in enumerate(addresses, 1) if i != leader)
        clients = [stack.enter_context(RawClient(addresses[leader - 1])) for _ in range(8)]
        # Each of them has asked the same before: what it remembers of that must not serve it then.
        part = ProducePartition("t", 0, encode_batch([b"late"], base_timestamp_ms=1))
        asked = [ProduceRequest(acks, 5000, (part,)) for acks in (1, 1, -1, -1)]
        for offset, (client, request) in enumerate(zip(clients[:4], asked, strict=True)):
            before = client.call(request).partitions[0]
            assert (before.error, before.base_offset) == (0, offset)
        fetch = FetchTemplate(
            FetchRequest(0, 1, 1 << 20, (FetchPartition("t", 0, 0, -1, 1 << 20),)), 1
        ).frame(7, 0)
        for _ in range(2):
            clients[4].socket.sendall(fetch)
            assert clients[4].receive().partitions[0].batches
        cluster.servers[leader].pause()
        stack.callback(cluster.servers[leader].resume)
        wait_until(lambda: leader_of(others, "t") not in (-1, leader), "another leader", PATIENCE_S)
        for client, request in zip(clients[:4], asked, strict=True):
            client.send(request)
        clients[4].socket.sendall(fetch)
        clients[5].send(ListOffsetsRequest((OffsetQuery("t", 0, EARLIEST),)))
        clients[6].send(MetadataRequest(("t",)))
        time.sleep(0.05)  # on their way: they are in its sockets, before it hears of anything else
        cluster.servers[leader].resume()
        for client in clients[:6]:
            answer = client.receive().partitions[0]
            assert answer.error == ErrorCode.NOT_LEADER, answer
        told = clients[6].receive()  # it learns who leads, or says that it does not know
        if hasattr(told, "topics"):
            assert told.topics[0].partitions[0].leader != leader
        else:
            assert told.error == ErrorCode.NO_QUORUM
        new = leader_of(others, "t")
        with RawClient(addresses[new - 1]) as client:
            after = client.produce("t", b"after", acks=1)
            assert (after.error, after.base_offset) == (0, 4)
