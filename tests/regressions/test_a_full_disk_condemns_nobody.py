"""Found by the simulator: a voter whose disk was full was taken for one that had lost its vote.

It wrote that down as soon as there was room, and never voted again with that directory.
"""

from __future__ import annotations

import errno

import pytest

from tests.cluster.calm import CalmCluster


@pytest.mark.parametrize("restarted", [False, True])
def test_a_voter_whose_disk_was_full_votes_again(restarted: bool) -> None:
    cluster = CalmCluster(5)

    async def script() -> None:
        await cluster.ready()
        first = cluster.controller()
        first.disk.fail("append", times=None, error=errno.ENOSPC, path="/broker/meta")
        broker = first.broker
        assert broker is not None
        # Whatever is proposed has to be written: that the others alone fence somebody, say.
        other = next(host for host in cluster.hosts.all if host is not first)
        cluster.hosts.kill(other, power_loss=False)
        await cluster.until(lambda: broker.group.full is not None, "there is no room")
        if restarted:
            cluster.hosts.kill(first, power_loss=False)
            cluster.hosts.start(first)  # on a disk with room
        else:
            first.disk.heal()
        # Two of three are alive: neither of them leads without the other's vote.
        living = [host for host in cluster.hosts.all if host is not other]

        def led() -> bool:
            groups = [host.broker.group for host in living if host.broker is not None]
            return len(groups) == 2 and any(group.is_controller for group in groups)

        await cluster.until(led, "a controller again")
        await cluster.until(lambda: cluster.has_session(first.node_id), "a session again")
        again = first.broker
        assert again is not None
        assert again.group.server.metrics().status.quarantine is None

    cluster.run(script)
