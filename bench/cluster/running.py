"""Three broker processes on this machine, with the settings that a cluster has by default."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from streambus_broker.demo.cluster import ClusterProcesses, local_addresses
from streambus_client import Admin
from streambus_client.errors import ClientError, TopicExistsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streambus_client import Producer

TOPIC = "bench"
VALUE = b"x" * 100
REPLICAS = 3
_SESSION = ("--broker-session-ms", "1800")
"""The default: what starts the processes is more patient than that by itself."""
_POLL_S = 0.02


class Leader(NamedTuple):
    """Whom a kill meets.

    Attributes:
        node: Its node id.
        partition: One that it leads.
        controls: Whether it is the controller besides.
    """

    node: int
    partition: int
    controls: bool


@contextlib.contextmanager
def cluster(directory: str, partitions: int = 1) -> Iterator[ClusterProcesses]:
    """Three brokers and the topic, with three replicas of each partition."""
    brokers = ClusterProcesses(directory, local_addresses(REPLICAS), TOPIC, flags=_SESSION)
    brokers.start()
    try:
        if partitions:
            create_topic(brokers, partitions)
        yield brokers
    finally:
        brokers.stop()


def create_topic(brokers: ClusterProcesses, partitions: int) -> None:
    """Create the topic."""
    with (
        Admin(brokers.address, request_timeout_ms=60_000) as admin,
        contextlib.suppress(TopicExistsError),  # by an attempt that was not answered in time
    ):
        admin.create_topic(TOPIC, partitions=partitions, replication_factor=REPLICAS)


def busiest(brokers: ClusterProcesses) -> Leader:
    """The broker that leads most partitions."""
    with Admin(brokers.address) as admin:
        partitions = admin.describe_topic(TOPIC).partitions
        controller = admin.cluster().controller
    [(node, _)] = Counter(each.leader for each in partitions).most_common(1)
    led = next(each.partition for each in partitions if each.leader == node)
    return Leader(node, led, node == controller)


def send_somehow(producer: Producer, partition: int) -> None:
    """Send one record, again and again while what hinders it may pass."""
    while True:
        try:
            producer.send(TOPIC, VALUE, partition=partition)
        except ClientError as error:
            if not error.retriable:
                raise
        else:
            return


def wait_until(what: str, holds: Callable[[Admin], bool], address: str, timeout_s: float) -> None:
    """Wait until something holds.

    Raises:
        TimeoutError: It does not.
    """
    ends_s = time.monotonic() + timeout_s
    with Admin(address) as admin:
        while time.monotonic() < ends_s:
            with contextlib.suppress(ClientError):
                if holds(admin):
                    return
            time.sleep(_POLL_S)
    raise TimeoutError(f"{what}: not within {timeout_s:g} s")


def wait_whole(brokers: ClusterProcesses, timeout_s: float = 120.0) -> None:
    """Wait until every broker lives, and every replica is in sync, by what each of them knows.

    One that has just started still knows the cluster as it was before it died.
    """

    def whole(admin: Admin) -> bool:
        seen = admin.cluster()
        return seen.healthy and len(seen.brokers) == len(brokers.servers)

    def ready(admin: Admin) -> bool:
        found = admin.health()
        return len(found) == len(brokers.servers) and all(each.ready for each in found)

    wait_until("all brokers ready", ready, brokers.address, timeout_s)
    for server in brokers.servers.values():
        wait_until("all replicas in sync", whole, server.address, timeout_s)
