"""Messages that nobody should have sent, and settings that nobody should have made."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from streambus_raft import (
    AppendReply,
    AppendRequest,
    Config,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    Message,
    NodeId,
    ReadReply,
    ReadRequest,
    Refusal,
    Role,
    SnapshotChunk,
    SnapshotMeta,
    SnapshotReply,
    Term,
    TimeoutNow,
    VoteReply,
    VoteRequest,
    new_membership,
)
from streambus_raft.errors import ConfigError, MessageMisdirectedError, RaftError
from tests.raft.cluster import Box, Cluster


def anything(random: Random, to: int) -> Message:
    """A message whose every field is in range for the codec, and otherwise means nothing."""
    pick = random.choice
    number = pick((0, 1, 2, 3, 5, 9, 2**40, 2**63 - 1))
    small = random.randint(0, 6)
    flag = random.random() < 0.5
    sender = NodeId(pick([node for node in (1, 2, 3, 4, 77) if node != to]))
    head = (sender, NodeId(to), Term(pick((0, 1, 2, 3, 4, 2**63 - 1))))
    storage = pick((100 + sender, 5, 900))
    before = pick((small, number % 2**62))
    term = Term(min(random.randint(0, 3), head[2]))
    entries = [
        Entry(before + place, term, EntryKind.COMMAND, b"x") for place in range(1, pick((1, 2, 5)))
    ]
    meta = SnapshotMeta(number, Term(small), new_membership([1, 2, 3]), pick((0, 4)), 7)
    choices: list[Message] = [
        VoteRequest(*head, number, Term(small), flag, random.random() < 0.2),
        VoteReply(*head, flag, random.random() < 0.5, storage),
        AppendRequest(*head, small, before, term, number, entries),
        AppendReply(*head, small, flag, number, small, Term(small), storage),
        Heartbeat(*head, small, small, number, pick((0, 100 + to))),
        HeartbeatReply(*head, small, number, storage),
        SnapshotChunk(*head, small, meta, pick((0, 2, number)), b"ab"),
        SnapshotReply(*head, small, number, pick((0, 2, number)), flag, storage),
        TimeoutNow(*head),
        ReadRequest(*head, number),
        ReadReply(*head, number, small),
        Refusal(*head, storage, "because"),
    ]
    return pick(choices)


@pytest.mark.parametrize("seed", range(200))
def test_no_message_breaks_a_core(seed: int) -> None:
    """Typed errors at most, no endless work, and neither term nor commit fall."""
    random = Random(seed)
    cluster = Cluster(pre_vote=random.random() < 0.5)
    if random.random() < 0.7:
        cluster.elect(1)
        cluster[1].core.propose(b"x")
        cluster.settle()
    box = cluster[random.choice((1, 2))]
    status = box.core.status()
    for _ in range(120):
        if random.random() < 0.2:
            box.core.tick(0.0)
        try:
            box.step(anything(random, box.id))
            if box.core.status().role == Role.LEADER and random.random() < 0.2:
                box.core.propose(b"y")
        except RaftError:
            pass
        for _ in range(100):
            if not box.core.has_ready():
                break
            box.work()
        else:
            raise AssertionError("work without end")
        box.take()
        after = box.core.status()
        assert after.term >= status.term
        assert after.commit >= status.commit
        assert after.commit <= after.last
        status = after


def test_misdirected_messages_are_refused() -> None:
    box = Cluster()[1]
    for sender, to in ((2, 3), (1, 1)):
        with pytest.raises(MessageMisdirectedError) as caught:
            box.step(TimeoutNow(NodeId(sender), NodeId(to), Term(1)))
        assert caught.value.node_id == 1


def test_term_that_nobody_can_have_reached_is_ignored() -> None:
    box = Cluster()[1]
    box.step(VoteRequest(NodeId(2), NodeId(1), Term(2**63 - 1), 9, Term(9), False, True))
    box.work()
    assert box.core.status().term == 0


def test_committed_entry_that_the_leader_contradicts_is_a_reason_to_stop() -> None:
    box: Box = Cluster()[2]
    first = [Entry(index, Term(1), EntryKind.COMMAND, b"x") for index in (1, 2)]
    box.step(AppendRequest(NodeId(1), NodeId(2), Term(1), 1, 0, Term(0), 2, first))
    other = [Entry(index, Term(2), EntryKind.COMMAND, b"y") for index in (1, 2, 3)]
    box.step(AppendRequest(NodeId(3), NodeId(2), Term(2), 1, 0, Term(0), 2, other))
    box.work()
    reason = box.core.status().quarantine
    assert reason is not None
    assert "committed" in reason


@pytest.mark.parametrize(
    "settings",
    [
        {"node_id": 0},
        {"node_id": 2**63},
        {"node_id": True},
        {"node_id": "1"},
        {"election_ticks": 4, "heartbeat_ticks": 4},
        {"election_ticks": 4, "heartbeat_ticks": 2},
        {"election_ticks": 2, "heartbeat_ticks": 1},
        {"heartbeat_ticks": 0},
        {"priority": 101},
        {"priority": -1},
        {"storage_stall_ticks": 0},
        {"append_bytes_max": 0},
        {"inflight_appends_max": 0},
        {"snapshot_chunk_bytes": 0},
        {"uncommitted_bytes_max": 1.5},
        {"tick_seconds": 0},
        {"tick_seconds": float("nan")},
        {"clock_drift_max": 1.0},
        {"clock_drift_max": -0.1},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Config(**{"node_id": 1, **settings})


def test_lease_is_shorter_than_any_election() -> None:
    config = Config(node_id=NodeId(1), election_ticks=10, tick_seconds=0.1, clock_drift_max=0.1)
    assert config.lease_seconds * 1.1 <= 0.9 + 1e-9
