"""Scenario 23: transferring leadership, whatever the target does."""

from __future__ import annotations

import pytest

from streambus_raft import AppendRequest, NodeId, Role, TimeoutNow
from streambus_raft.errors import NotLeaderError, TransferError
from tests.raft.cluster import Cluster


def test_23_transfer_to_a_voter_that_is_up_to_date() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.tick(5)
    leader.core.transfer_leadership(NodeId(2))
    cluster.settle()
    assert cluster.leaders() == [2]
    assert cluster[2].term == 2


def test_23_lagging_target_is_brought_up_to_date_first() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(2)
    leader.core.propose_many([b"x"] * 20)
    cluster.settle()
    cluster.heal()
    orders: list[int] = []

    def watch(message: object) -> bool:
        if isinstance(message, TimeoutNow):
            orders.append(cluster[2].core.status().last)
        return False

    cluster.drop = watch
    leader.core.transfer_leadership(NodeId(2))
    with pytest.raises(NotLeaderError):
        leader.core.propose(b"during")
    cluster.tick(9)
    assert orders
    assert orders[0] == 21, "told before it had everything"
    assert cluster.leaders() == [2]


def test_23_target_that_crashes_is_given_up_in_time() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(2)
    leader.core.propose(b"before")
    leader.core.transfer_leadership(NodeId(2))
    cluster.tick(9)
    with pytest.raises(NotLeaderError):
        leader.core.propose(b"too early")
    cluster.tick(1)
    assert leader.role == Role.LEADER
    leader.core.propose(b"after")
    cluster.settle()
    assert leader.commands == [b"before", b"after"]
    cluster.heal()
    cluster.tick(30)
    assert cluster.leaders() == [1]


def test_23_proposals_end_committed_or_dropped_and_never_twice() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.drop = lambda message: isinstance(message, AppendRequest) and message.to == 3
    accepted = []
    for number in range(30):
        if number == 10:
            leader.core.transfer_leadership(NodeId(2))
        for box in cluster.boxes.values():
            try:
                accepted.append((box.core.propose(b"%d" % number), b"%d" % number))
            except NotLeaderError:
                continue
        cluster.tick(1)
    cluster.heal()
    cluster.tick(30)
    commands = cluster[3].commands
    assert len(commands) == len(set(commands))
    applied = {(entry.index, entry.term): entry.data for entry in cluster[3].applied}
    for proposal, data in accepted:
        assert applied.get((proposal.index, proposal.term), data) == data
        if data in commands:
            assert applied[(proposal.index, proposal.term)] == data


@pytest.mark.parametrize("target", [1, 4, 9])
def test_23_senseless_targets_are_refused(target: int) -> None:
    cluster = Cluster([1, 2, 3], [4])
    leader = cluster.elect(1)
    with pytest.raises(TransferError):
        leader.core.transfer_leadership(NodeId(target))
    leader.core.propose(b"still")
    cluster.settle()
    assert leader.commands == [b"still"]


def test_23_one_transfer_at_a_time_and_only_by_the_leader() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(2)
    leader.core.propose(b"x")
    leader.core.transfer_leadership(NodeId(2))
    with pytest.raises(TransferError):
        leader.core.transfer_leadership(NodeId(3))
    with pytest.raises(NotLeaderError):
        cluster[3].core.transfer_leadership(NodeId(1))


def test_23_order_from_somebody_who_does_not_lead_is_ignored() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.tick(3)
    cluster[2].step(TimeoutNow(NodeId(3), NodeId(2), leader.core.status().term))
    cluster.settle()
    assert cluster.leaders() == [1]


def test_23_learner_ignores_the_order() -> None:
    cluster = Cluster([1, 2], [3])
    leader = cluster.elect(1)
    cluster.tick(3)
    cluster[3].step(TimeoutNow(NodeId(1), NodeId(3), leader.core.status().term))
    cluster.settle()
    assert cluster.leaders() == [1]
