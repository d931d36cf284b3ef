"""Scenarios 17, 18, 19: snapshots that carry, resume, arrive late or are cut off."""

from __future__ import annotations

import pytest

from streambus_raft import (
    Change,
    ChangeKind,
    Heartbeat,
    NodeId,
    ProgressState,
    SnapshotChunk,
    SnapshotReply,
    Term,
)
from streambus_raft.errors import MembershipError
from tests.raft.cluster import Box, Cluster


def compact(box: Box, data: bytes = b"state " * 20, keep: int = 0) -> None:
    """Make a snapshot of everything applied, and drop the log before it."""
    index = box.core.status().applied
    box.disk.save_snapshot(index, box.core.membership_at(index), data)
    box.disk.compact(index - keep)
    box.core.compacted()


def lagging(cluster: Cluster, behind: int = 3) -> Box:
    """A leader 1 with a compacted log that node ``behind`` has nothing of."""
    leader = cluster.elect(1)
    cluster.isolate(behind)
    for number in range(10):
        leader.core.propose(b"%d" % number)
    cluster.settle()
    compact(leader)
    return leader


def test_19_follower_behind_a_purged_log_gets_a_snapshot_and_goes_on() -> None:
    cluster = Cluster(snapshot_chunk_bytes=16)
    leader = lagging(cluster)
    cluster.heal()
    cluster.tick(10)
    assert [meta.index for meta in cluster[3].restored] == [11]
    assert leader.core.status().members[NodeId(3)].state == ProgressState.REPLICATE
    leader.core.propose(b"after")
    cluster.settle()
    assert cluster[3].commands == [b"after"]
    assert cluster[3].disk.contents[cluster[3].disk.snapshot()] == b"state " * 20


def test_19_snapshot_at_the_leader_s_last_index_resumes_replication() -> None:
    cluster = Cluster()
    leader = lagging(cluster)
    assert leader.core.status().last == leader.disk.snapshot().index
    cluster.heal()
    cluster.tick(10)
    assert leader.core.status().members[NodeId(3)].match == leader.core.status().last
    assert leader.core.status().members[NodeId(3)].state == ProgressState.REPLICATE


def test_18_interrupted_transfer_resumes_at_its_byte() -> None:
    cluster = Cluster(snapshot_chunk_bytes=16)
    leader = lagging(cluster)
    cluster.heal()
    seen: list[int] = []

    def cut_after_four(message: object) -> bool:
        if isinstance(message, SnapshotChunk):
            seen.append(message.offset)
            return len(seen) > 4
        return False

    cluster.drop = cut_after_four
    cluster.tick(5)
    assert seen[:4] == [0, 16, 32, 48]
    cluster[3].crash()
    assert cluster[3].disk.state().partial_bytes == 64
    seen.clear()
    cluster.drop = lambda message: (
        isinstance(message, SnapshotChunk)
        and bool(
            seen.append(message.offset)  # type: ignore[func-returns-value]  # used for its effect
        )
    )
    cluster.tick(40)
    assert cluster[3].restored
    assert seen[0] in (0, 64)
    assert 16 not in seen, "what was durable is not sent again"
    assert leader.core.status().members[NodeId(3)].match == 11


def test_18_power_cut_between_the_last_piece_and_the_installation() -> None:
    """Found by seed 1001480: every piece was there, none was left to ask for, and so for ever."""
    cluster = Cluster(snapshot_chunk_bytes=16)
    leader = lagging(cluster)
    box, meta = cluster[3], leader.disk.snapshot()
    for offset in range(0, meta.size_bytes, 16):
        data = leader.disk.read_snapshot(meta, offset, 16)
        box.step(SnapshotChunk(NodeId(1), NodeId(3), Term(1), 1, meta, offset, data))
        box.work(durable=meta.size_bytes - offset > 16)
    box.crash(parts=2)  # of the last write the piece is on the disk, the installation is not
    assert box.disk.state().partial_bytes == meta.size_bytes
    cluster.heal()
    cluster.tick(20)
    assert box.restored == [meta]
    assert leader.core.status().members[NodeId(3)].match == leader.core.status().last


def test_18_another_leader_goes_on_with_the_same_snapshot() -> None:
    cluster = Cluster(snapshot_chunk_bytes=16)
    lagging(cluster)
    compact(cluster[2])  # the same facts: the same bytes
    cluster.heal()
    offsets: list[int] = []

    def cut(message: object) -> bool:
        if isinstance(message, SnapshotChunk):
            offsets.append(message.offset)
            return len(offsets) > 3
        return False

    cluster.drop = cut
    cluster.tick(3)
    cluster.isolate(1)
    offsets.clear()
    cluster.drop = lambda message: (
        isinstance(message, SnapshotChunk)
        and bool(
            offsets.append(message.offset)  # type: ignore[func-returns-value]  # used for its effect
        )
    )
    cluster.tick(60)
    assert cluster.tick_until_leader(among=(2, 3)).id == 2
    assert cluster[3].restored
    assert 16 not in offsets


def test_18_piece_of_another_snapshot_begins_a_new_transfer() -> None:
    cluster = Cluster(snapshot_chunk_bytes=16)
    leader = lagging(cluster)
    cluster.heal()
    pieces: list[SnapshotChunk] = []
    cluster.drop = lambda message: (
        isinstance(message, SnapshotChunk)
        and (
            pieces.append(message) is None  # type: ignore[func-returns-value]  # used for its effect
        )
    )
    cluster.tick(3)
    first = pieces[0]
    box = cluster[3]
    box.step(first)
    box.work()
    other = first.meta._replace(checksum=first.meta.checksum ^ 1)
    box.step(first._replace(meta=other, offset=16))
    box.work()
    assert [reply.offset for reply in box.take(SnapshotReply)] == [16, 0]
    assert box.disk.state().partial == first.meta
    box.step(first._replace(meta=other))
    box.work()
    assert box.disk.state().partial == other
    assert leader.core.status().members[NodeId(3)].match == 1


def test_18_old_or_repeated_snapshot_takes_nothing_back() -> None:
    cluster = Cluster()
    leader = lagging(cluster)
    cluster.heal()
    kept: list[SnapshotChunk] = []
    cluster.drop = lambda message: (
        isinstance(message, SnapshotChunk)
        and bool(
            kept.append(message)  # type: ignore[func-returns-value]  # used for its effect
        )
    )
    cluster.tick(10)
    leader.core.propose(b"later")
    cluster.settle()
    before = cluster[3].core.status()
    for piece in kept * 2:
        cluster[3].step(piece)
        cluster[3].work()
    after = cluster[3].core.status()
    assert (after.last, after.commit, after.applied) == (before.last, before.commit, before.applied)
    assert len(cluster[3].restored) == 1


def test_18_snapshot_is_acknowledged_only_when_it_is_durable() -> None:
    cluster = Cluster()
    leader = lagging(cluster)
    box = cluster[3]
    meta = leader.disk.snapshot()
    box.step(SnapshotChunk(NodeId(1), NodeId(3), Term(1), 1, meta, 0, b"state " * 20))
    box.work(durable=False)
    assert box.take(SnapshotReply) == []
    assert box.restored == []
    box.persist()
    box.work()
    assert [reply.done for reply in box.take(SnapshotReply)] == [True]
    assert box.restored == [meta]


def test_18_commit_never_passes_an_unverified_log() -> None:
    """A follower with a divergent tail and a first piece must not commit that tail."""
    cluster = Cluster(snapshot_chunk_bytes=16)
    first = cluster.elect(3)
    cluster.isolate(3)
    first.core.propose_many([b"divergent"] * 20)
    first.work()
    cluster.tick(40)
    second = cluster.tick_until_leader(among=(1, 2))
    second.core.propose_many([b"true"] * 10)
    cluster.settle()
    compact(second)
    cluster.heal()
    seen = 0

    def only_one(message: object) -> bool:
        nonlocal seen
        seen += isinstance(message, SnapshotChunk)
        return isinstance(message, SnapshotChunk) and seen > 1

    cluster.drop = only_one
    cluster.tick(20)
    assert cluster[3].core.status().commit == 1
    assert cluster[3].commands == []
    cluster.heal()
    cluster.tick(60)
    assert cluster[3].restored
    assert b"divergent" not in cluster[3].commands


def test_18_snapshot_of_entries_that_are_here_only_moves_the_commit() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.drop = lambda message: isinstance(message, Heartbeat) and message.to == 3
    leader.core.propose(b"one")
    cluster.settle()
    box = cluster[3]
    assert (box.core.status().last, box.core.status().commit) == (2, 1)
    compact(leader)
    meta = leader.disk.snapshot()
    chunk = SnapshotChunk(NodeId(1), NodeId(3), Term(1), 1, meta, 0, b"state " * 20)
    box.step(chunk)
    box.work()
    assert box.core.status().commit == 2
    assert box.commands == [b"one"]
    assert box.restored == []


def test_17_snapshot_s_configuration_beats_an_uncommitted_one() -> None:
    cluster = Cluster([1, 2, 3, 4])
    leader = cluster.elect(4)
    cluster.isolate(4)
    leader.core.propose_membership([Change(ChangeKind.REMOVE, NodeId(1))])
    leader.work()
    assert leader.core.status().membership.voters == (2, 3, 4)
    cluster.tick(40)
    second = cluster.tick_until_leader(among=(1, 2, 3))
    second.core.propose_many([b"x"] * 5)
    cluster.settle()
    compact(second)
    cluster.heal()
    cluster.tick(40)
    assert leader.restored
    assert leader.core.status().membership.voters == (1, 2, 3, 4)
    leader.crash()
    assert leader.core.status().membership.voters == (1, 2, 3, 4)


def test_17_joint_configuration_survives_a_snapshot() -> None:
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.isolate(3)
    for node in (4, 5):
        cluster.add(node)
    cluster.drop = lambda message: message.to in (4, 5)
    leader.core.propose_membership(
        [Change(ChangeKind.VOTER, NodeId(4)), Change(ChangeKind.REMOVE, NodeId(3))]
    )
    cluster.tick(1)
    status = leader.core.status()
    index = status.membership_index
    assert status.membership.is_joint or status.membership_index > 2
    joint = leader.core.membership_at(2)
    assert joint.outgoing == (1, 2, 3)
    if status.applied >= 2:
        leader.disk.save_snapshot(2, joint, b"joint state")
        leader.disk.compact(2)
        leader.core.compacted()
    leader.crash(kept=9)
    assert leader.core.membership_at(max(2, leader.disk.snapshot().index)) is not None
    cluster.heal()
    cluster.cut = {pair for pair in cluster.cut if 3 not in pair}
    cluster.tick(80)
    final = cluster.tick_until_leader(among=(1, 2, 4)).core.status()
    assert (final.membership.voters, final.membership.outgoing) == ((1, 2, 4), ())
    assert index >= 2


def test_node_that_joined_late_makes_no_snapshot_without_a_configuration() -> None:
    cluster = Cluster([1])
    cluster.elect(1)
    waiting = cluster.add(2)
    with pytest.raises(MembershipError):
        waiting.core.membership_at(0)


def test_snapshot_that_is_replaced_while_it_is_sent_starts_anew() -> None:
    cluster = Cluster(snapshot_chunk_bytes=16)
    leader = lagging(cluster)
    cluster.heal()
    count = 0

    def replace(message: object) -> bool:
        nonlocal count
        if isinstance(message, SnapshotChunk):
            count += 1
            if count in (3, 6):
                leader.core.propose(b"more")
                leader.work()
            if count in (4, 7):
                compact(leader, b"newer state " * 10)
        return False

    cluster.drop = replace
    cluster.tick(30)
    assert cluster[3].restored
    assert cluster[3].core.status().applied == leader.core.status().commit
