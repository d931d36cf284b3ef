"""What the logs of a leader and its followers have in common, and how many speak for one follower.

- Up to where a leader has taken a follower's log for a beginning of its own, the same epochs wrote
  both.
- A leader hears one session of each follower: an older one would undo what the newer says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.history import CheckFailedError

if TYPE_CHECKING:
    from streambus_broker.cluster.epochs import LeaderEpochs
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.replica import Replica
    from tests.cluster.hosts import Host, Hosts


def look_at_followers(hosts: Hosts, host: Host, replica: Replica) -> None:
    """Compare a leader's log with those of its followers.

    Raises:
        CheckFailedError: A follower's log is no beginning of it, and was taken for one.
    """
    leading, mine = replica.leading, replica.stored
    assert leading is not None
    for follower, progress in leading.followers.items():
        other = hosts.hosts[follower]
        held = None if other.node is None else other.node.replicas.get(replica.partition_id)
        if (
            held is None
            or other.damaged
            or held.follows != host.node_id
            or held.record.leader_epoch != replica.record.leader_epoch
        ):
            continue
        theirs = held.stored
        end = min(progress.fetched, theirs.log.next_offset, mine.log.next_offset)
        begin = max(mine.log.log_start_offset, theirs.log.log_start_offset)
        if begin < end and not _agree(mine.epochs, theirs.epochs, begin, end):
            raise CheckFailedError(
                f"broker {host.node_id} takes the log of broker {follower} for a beginning of its"
                f" own up to {end}: {mine.log}"
            )


def _agree(one: LeaderEpochs, other: LeaderEpochs, begin: int, end: int) -> bool:
    """Whether the same epochs wrote what lies in between, as both know."""
    if one.starts == other.starts and one.epochs == other.epochs:  # nearly always
        return True
    return _epochs(one, begin, end) == _epochs(other, begin, end)


def _epochs(known: LeaderEpochs, begin: int, end: int) -> list[tuple[int, int]]:
    """Which epochs wrote what lies in between: each with where it begins there."""
    found = [
        (epoch, start) for epoch, start in zip(known.epochs, known.starts, strict=True)
        if begin < start < end
    ]  # fmt: skip
    return [(known.epoch_before(begin + 1), begin), *found]


def look_at_sessions(host: Host, node: ClusterNode) -> None:
    """See that nobody has two sessions.

    Raises:
        CheckFailedError: Somebody has.
    """
    sessions = node.sessions._sessions
    if len(sessions) < 2:
        return
    followers = [
        session.broker_id for connection, session in sessions.items()
        if not connection.transport.is_closing()
    ]  # fmt: skip
    if len(set(followers)) < len(followers):
        raise CheckFailedError(f"broker {host.node_id} hears two sessions of one of {followers}")
