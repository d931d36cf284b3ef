"""The demo's cluster: several broker processes, of which the one that leads most is killed.

It has the interface of the one broker's `ServerProcess`; `start` after a kill starts nothing at
once, because the point is that the others go on alone. The killed one comes back at the end.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING

from streambus_broker.demo.server import BrokerDiedError, ServerProcess
from streambus_client import Admin
from streambus_client.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_FORM_TIMEOUT_S = 60.0
_POLL_S = 0.02
_PATIENT = ("--broker-session-ms", "6000")
"""A machine that is busy with other things shall not look like death; a process that was killed
loses its connections, and is noticed by that."""


class ClusterProcesses:
    """See the module.

    Args:
        directory: Where data and logs go.
        addresses: Of the brokers, 3 or more; see `local_addresses`.
        topic: Whose leaders decide which broker is killed.
        flags: Further flags, for each.
        own_flags: Further flags, by node id.
        prefixes: What stands before the command of each, by node id.

    Attributes:
        address: Every broker's, comma-separated.
        started_s: When the brokers were started, or one was killed, on the monotonic clock.
        killed_node: Which was killed; 0 for none.
        servers: The processes by node id.
    """

    def __init__(
        self,
        directory: str,
        addresses: Sequence[str],
        topic: str,
        *,
        flags: Sequence[str] = (),
        own_flags: Mapping[int, Sequence[str]] | None = None,
        prefixes: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        voters = ",".join(f"{node}@{address}" for node, address in enumerate(addresses, 1))
        self.address = ",".join(addresses)
        self.started_s = 0.0
        self.killed_node = 0
        self._topic = topic
        self.servers = {
            node: ServerProcess(
                f"{directory}/{node}",
                address,
                (
                    *_PATIENT,
                    "--node-id",
                    str(node),
                    "--voters",
                    voters,
                    *flags,
                    *(own_flags or {}).get(node, ()),
                ),
                (prefixes or {}).get(node, ()),
            )
            for node, address in enumerate(addresses, 1)
        }

    def start(self) -> None:
        """Start all and wait until they have formed; after a kill, wait for new leaders.

        Raises:
            BrokerDiedError: One ended instead, or they do not come to agree.
        """
        if self.killed_node:
            self._wait("a new leader for every partition", self._is_led)
            return
        self.started_s = time.monotonic()
        for server in self.servers.values():
            server.launch()
        for server in self.servers.values():
            server.wait_listening()
        self._wait("all brokers", self._is_formed)

    def kill(self) -> None:
        """End the broker that leads most partitions of the topic with SIGKILL."""
        with Admin(self.address) as admin:
            leaders = Counter(one.leader for one in admin.describe_topic(self._topic).partitions)
        self.killed_node = leaders.most_common(1)[0][0]
        self.started_s = time.monotonic()
        self.servers[self.killed_node].kill()

    def bring_back(self) -> bool:
        """Start the killed broker again; whether every replica gets in sync again."""
        self.servers[self.killed_node].start()
        try:
            self.wait_in_sync()
        except BrokerDiedError:
            return False
        return True

    def wait_in_sync(self, timeout_s: float = _FORM_TIMEOUT_S) -> None:
        """Wait until every replica is in sync.

        Raises:
            BrokerDiedError: That does not come to be.
        """
        self._wait("all replicas in sync", self._is_in_sync, timeout_s)

    def memory_bytes(self) -> int | None:
        """Resident memory of the largest living broker."""
        known = [
            server.memory_bytes()
            for node, server in self.servers.items()
            if node != self.killed_node
        ]
        return max((each for each in known if each is not None), default=None)

    def check(self) -> None:
        """Notice an unexpected end; raises as a single broker's does."""
        for node, server in self.servers.items():
            if node != self.killed_node:
                server.check()

    def stop(self) -> None:
        """End all of them."""
        for server in self.servers.values():
            server.ask_to_stop()
        for server in self.servers.values():
            server.stop()

    # --- what is waited for --------------------------------------------------------------------

    def _wait(
        self, what: str, holds: Callable[[Admin], bool], timeout_s: float = _FORM_TIMEOUT_S
    ) -> None:
        ends_s = time.monotonic() + timeout_s
        with Admin(self.address) as admin:
            while time.monotonic() < ends_s:
                with contextlib.suppress(ClientError):
                    if holds(admin):
                        return
                time.sleep(_POLL_S)
        raise BrokerDiedError(f"{what}: not within {timeout_s:g} s")

    def _is_formed(self, admin: Admin) -> bool:
        return len(admin.cluster().brokers) == len(self.servers)

    def _is_led(self, admin: Admin) -> bool:
        partitions = admin.describe_topic(self._topic).partitions
        return all(one.leader not in (-1, self.killed_node) for one in partitions)

    def _is_in_sync(self, admin: Admin) -> bool:
        partitions = admin.describe_topic(self._topic).partitions
        return all(set(one.in_sync) == set(one.replicas) for one in partitions)


def local_addresses(count: int) -> list[str]:
    """Addresses on this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(contextlib.closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
