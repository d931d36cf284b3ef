"""A peer asked what group a broker is of while that read its log: it met an error of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from streambus_broker.cluster.describe import describe_cluster
from streambus_broker.cluster.state import ClusterState
from streambus_protocol import ErrorCode
from streambus_raft import Config, MemoryLogStorage, MemoryNetwork, NodeId, RaftServer
from streambus_raft.errors import StoppedError
from tests.raft.servers import Register

if TYPE_CHECKING:
    from streambus_broker.cluster.group import MetadataGroup


def test_a_broker_that_takes_no_part_yet_names_its_group_alone() -> None:
    config, transport = Config(node_id=NodeId(1)), MemoryNetwork().transport(1)
    server = RaftServer(1, (1,), Register(), MemoryLogStorage(1), transport, config=config)
    with pytest.raises(StoppedError):
        server.metrics()
    server._stopped = "it could not be started"  # what it says of itself while it reads its log
    with pytest.raises(StoppedError):
        server.metrics()
    group = cast("MetadataGroup", SimpleNamespace(server=server, name="metadata-x"))
    answer = describe_cluster(ClusterState(), group)
    assert (answer.error, answer.raft_group, answer.members) == (
        ErrorCode.NO_QUORUM, "metadata-x", (),
    )  # fmt: skip
