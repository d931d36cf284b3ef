"""A broker that was removed while it was away, or cut off, is told so when it comes back."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import TYPE_CHECKING

import pytest

from streambus_broker.cluster.member import RemovedBrokerError
from streambus_client import AsyncAdmin
from streambus_client.errors import ClientError
from tests.cluster.calm import CalmCluster, calm

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_broker.cluster.group import MetadataGroup
    from tests.cluster.hosts import Host

_TRIES_S = 20.0
_AWAY_S = 7.0  # a removed broker stays a member of the metadata group for five seconds


def _five() -> CalmCluster:
    return CalmCluster(7, calm(voters=3, joined=2))


async def _replace(cluster: CalmCluster, old: int, new: int) -> None:
    """Replace a broker that is away, and wait until the others have forgotten it."""
    loop = cluster.simulation.loop
    async with AsyncAdmin(cluster.hosts.bootstrap, random=Random(1)) as admin:
        ends_s = loop.time() + _TRIES_S
        while loop.time() < ends_s:
            with contextlib.suppress(ClientError):
                await admin.replace_broker(old, new)
                break
            await asyncio.sleep(0.1)
    others = [each for each in cluster.hosts.all if each.node_id != old]
    await cluster.until(
        lambda: all(old not in each.node.state.brokers for each in others if each.node), "removed"
    )
    await asyncio.sleep(_AWAY_S)


def _gave_up(cluster: CalmCluster, host: Host) -> bool:
    """Whether a broker ended as one that was removed, was emptied, and joined anew."""
    return host.removed == 1 and cluster.has_session(host.node_id)


@pytest.mark.parametrize("gone", [3, 4])
def test_a_broker_that_was_replaced_while_it_was_dead_hears_of_it(gone: int) -> None:
    """3 is one of the first voters, 4 has joined."""
    cluster = _five()

    async def script() -> None:
        await cluster.ready()
        host = cluster.hosts.hosts[gone]
        cluster.hosts.kill(host, power_loss=False)
        await _replace(cluster, gone, 5)
        cluster.hosts.start(host)
        await cluster.until(lambda: _gave_up(cluster, host), "taken in anew", 40.0)

    cluster.run(script)


@pytest.mark.parametrize("gone", [3, 4])
def test_a_broker_that_was_cut_off_when_it_was_replaced_hears_of_it(gone: int) -> None:
    cluster = _five()

    async def script() -> None:
        await cluster.ready()
        host = cluster.hosts.hosts[gone]
        for other in cluster.hosts.all:
            if other is not host:
                cluster.simulation.network.partition(host.name, other.name)
        await _replace(cluster, gone, 5)
        assert host.removed == 0
        cluster.simulation.network.heal()
        await cluster.until(lambda: _gave_up(cluster, host), "taken in anew", 40.0)

    cluster.run(script)


async def _soon(cluster: CalmCluster, holds: Callable[[], bool]) -> None:
    """Go on in the moment in which something holds: in the next one more may."""
    ends_s = cluster.simulation.loop.time() + _TRIES_S
    while not holds():
        assert cluster.simulation.loop.time() < ends_s
        await asyncio.sleep(0.000_1)


async def _join_anew_and_be_cut_off(cluster: CalmCluster, host: Host) -> Host:
    """A broker joins anew, is a member of the group, and asks in vain to be registered.

    Returns:
        The controller, to which it could say so; all other voters are dead.
    """
    hosts, number = cluster.hosts, host.node_id
    hosts.kill(host, power_loss=False)
    await _replace(cluster, number, 5)

    def group() -> MetadataGroup | None:
        return host.broker.group if host.removed == 1 and host.broker and host.node else None

    def is_member() -> bool:
        found = group()
        return found is not None and number in found.membership.members()

    def hears() -> bool:
        found = group()
        return found is not None and found.controller is not None

    hosts.start(host)
    await _soon(cluster, is_member)
    hosts.kill(host, power_loss=False)
    controller = cluster.controller()
    assert controller.broker is not None
    assert number not in controller.broker.group.state.brokers
    hosts.start(host)
    await _soon(cluster, hears)
    for voter in controller.broker.group.membership.voters:
        if voter != controller.node_id:
            hosts.kill(hosts.hosts[voter], power_loss=False)
    await asyncio.sleep(0.4)  # it sees that it is a member, and has asked to be registered
    for other in hosts.all:
        if other is not host:
            cluster.simulation.network.partition(host.name, other.name)
    return controller


async def _remove(cluster: CalmCluster, node_id: int) -> None:
    loop = cluster.simulation.loop
    ends_s = loop.time() + _TRIES_S
    async with AsyncAdmin(cluster.hosts.bootstrap, random=Random(1)) as admin:
        while True:
            try:
                await admin.alter_member(node_id, "remove")
            except ClientError:
                assert loop.time() < ends_s
                await asyncio.sleep(0.1)
            else:
                return


def _leads(host: Host) -> bool:
    return bool(host.broker and host.node and host.broker.group.is_controller)


def test_one_that_was_let_go_before_it_registered_is_taken_in_again() -> None:
    """By its own log it is a member; nobody sends it anything any more."""
    cluster, gone = _five(), 4

    async def script() -> None:
        await cluster.ready()
        host = cluster.hosts.hosts[gone]
        controller = await _join_anew_and_be_cut_off(cluster, host)
        dead = [each for each in cluster.hosts.all if not each.alive]
        cluster.hosts.kill(controller, power_loss=False)
        for each in dead:  # they lead without it: what it was asked for is forgotten
            cluster.hosts.start(each)
        await cluster.until(lambda: any(map(_leads, dead)), "another controller")
        cluster.hosts.start(controller)
        await _remove(cluster, gone)
        cluster.simulation.network.heal()
        await cluster.until(lambda: cluster.has_session(gone), "taken in once more", 40.0)
        assert host.removed == 1

    cluster.run(script)


def test_a_removed_broker_does_not_wait_for_those_who_followed_it() -> None:
    """They have nothing to follow there any more, and ask all the same until it is gone."""
    cluster = CalmCluster(7, calm(voters=3, joined=1))
    at_s: dict[str, float] = {}

    def heard(host: Host, operation: str, event: str) -> None:
        if host.node_id == 2 and operation in ("fail", "stop"):
            at_s.setdefault(operation, cluster.simulation.loop.time())
        del event

    async def script() -> None:
        await cluster.ready()
        cluster.hosts.heard = heard
        async with AsyncAdmin(cluster.hosts.bootstrap, random=Random(1)) as admin:
            await admin.create_topic("t", partitions=6, replication_factor=3)
            await asyncio.sleep(1.0)
            assert 2 in {one.leader for one in (await admin.describe_topic("t")).partitions}
            await admin.replace_broker(2, 4)
        await cluster.until(lambda: "stop" in at_s, "ended")
        # One wait of a follower, half a second, may be under way; the shutdown may take a second.
        assert at_s["stop"] - at_s["fail"] < 0.7

    cluster.run(script)


def test_the_others_away_as_well_is_no_removal() -> None:
    """One that is alone for long, or meets others that know no controller, goes on waiting."""
    cluster = _five()

    async def script() -> None:
        await cluster.ready()
        for number in (1, 2, 4, 5):
            cluster.hosts.kill(cluster.hosts.hosts[number], power_loss=False)
        await asyncio.sleep(5.0)
        for number in (4, 5):  # learners: nobody can be elected
            cluster.hosts.start(cluster.hosts.hosts[number])
        await asyncio.sleep(10.0)
        for number in (1, 2):
            cluster.hosts.start(cluster.hosts.hosts[number])
        await cluster.ready()
        assert not any(each.removed for each in cluster.hosts.all)

    cluster.run(script)


def test_the_error_says_what_to_do() -> None:
    assert str(RemovedBrokerError(3)) == (
        "broker 3 was removed from this cluster; to have it back, empty its data directory and"
        " start it with --join, under this node id or another one"
    )


@pytest.mark.parametrize("gone", [3, 4])
def test_nobody_dials_a_removed_broker_any_more(gone: int) -> None:
    """Found by reading: all but the controller of that time went on, for as long as they lived."""
    cluster = _five()

    async def script() -> None:
        await cluster.ready()
        host = cluster.hosts.hosts[gone]
        cluster.hosts.kill(host, power_loss=False)
        await _replace(cluster, gone, 5)
        groups = [each.broker.group for each in cluster.hosts.all if each.broker is not None]
        assert len(groups) == 4
        await cluster.until(
            lambda: all(gone not in group.transport._addresses for group in groups), "forgotten"
        )

    cluster.run(script)
