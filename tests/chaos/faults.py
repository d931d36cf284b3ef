"""What can happen to a cluster, one fault at a time, each mended again by its own method.

A method returns when the fault is mended; that everything flows again is the caller's to check.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

from streambus_broker.demo.server import BrokerDiedError
from streambus_client import Admin
from tests.chaos.load import TOPIC

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from streambus_broker.demo.cluster import ClusterProcesses
    from tests.chaos.disk import SmallDisk
    from tests.chaos.network import Network

PROCESS_FAULTS = ("kill", "kill_all", "pause", "rolling", "damage")
NETWORK_FAULTS = ("partition", "cut_off", "one_way", "bridge", "blip", "loss")
DISK_FAULTS = ("disk_full",)

_BLIP_S = 0.043
_FULL_S = 6.0


class Faults:
    """See the module.

    Args:
        cluster: Whose faults they are.
        directory: Where its brokers have their directories, by node id.
        dice: Decides whom a fault meets, and for how long.
        network: Its network; None where links cannot fail.
        disks: The small disks, by node id.
        pause_s_max: The longest pause and the longest partition.

    Attributes:
        refused: How often a broker refused to start with damaged data, and was rebuilt.
    """

    def __init__(
        self,
        cluster: ClusterProcesses,
        directory: Path,
        dice: Random,
        network: Network | None,
        disks: dict[int, SmallDisk],
        pause_s_max: float,
    ) -> None:
        self.refused = 0
        self._cluster = cluster
        self._directory = directory
        self._dice = dice
        self._network = network
        self._disks = disks
        self._pause_s_max = pause_s_max

    def kinds(self) -> list[str]:
        """The faults that can be made here."""
        kinds = list(PROCESS_FAULTS)
        if self._network is not None:
            kinds += NETWORK_FAULTS
        if self._disks:
            kinds += DISK_FAULTS
        return kinds

    def make(self, kind: str) -> str:
        """Make one fault and mend it; return what it was, for people."""
        method: Callable[[], str] = getattr(self, f"_{kind}")
        return method()

    # --- processes -----------------------------------------------------------------------------

    def _kill(self) -> str:
        node = self._someone()
        server = self._cluster.servers[node]
        server.kill()
        time.sleep(self._dice.uniform(0, 4))
        server.start()
        return f"broker {node} killed"

    def _kill_all(self) -> str:
        for server in self._cluster.servers.values():
            server.kill()
        for server in self._cluster.servers.values():
            server.launch()
        for server in self._cluster.servers.values():
            server.wait_listening()
        return "all brokers killed at once"

    def _pause(self) -> str:
        node = self._someone()
        for_s = self._some_time()
        self._cluster.servers[node].pause()
        time.sleep(for_s)
        self._cluster.servers[node].resume()
        return f"broker {node} paused for {for_s:.1f} s"

    def _rolling(self) -> str:
        for server in self._cluster.servers.values():
            server.stop()
            server.start()
            self._cluster.wait_in_sync()
        return "rolling restart"

    def _damage(self) -> str:
        """Flip a byte, or cut off the end, of one file of one broker that is down."""
        node = self._someone()
        server = self._cluster.servers[node]
        server.kill()
        data = self._directory / str(node) / "data"
        files = sorted(
            path for path in data.rglob("*") if path.is_file() and path.stat().st_size > 0
            and not path.name.startswith("filler")
        )  # fmt: skip
        path = self._dice.choice(files)
        what = _cut(path, self._dice) if self._dice.random() < 0.3 else _flip(path, self._dice)
        said = f"broker {node}: {path.relative_to(data)} {what}"
        try:
            server.start()
        except BrokerDiedError:
            self.refused += 1
            self._rebuild(node)
            return f"{said}; it refused to start, and was rebuilt"
        return f"{said}; it started"

    def mend_ended(self) -> list[str]:
        """Rebuild brokers that ended by themselves: damage was met only when it was read."""
        said = []
        for node, server in self._cluster.servers.items():
            try:
                server.check()
            except BrokerDiedError:
                self.refused += 1
                self._rebuild(node)
                said.append(f"broker {node} found damage while it ran, and was rebuilt")
        return said

    def _rebuild(self, node: int) -> None:
        for path in (self._directory / str(node) / "data").iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._cluster.servers[node].start()

    # --- network -------------------------------------------------------------------------------

    def _partition(self) -> str:
        """A broker loses the others and keeps its clients: it must not acknowledge to them."""
        return self._parted(clients=False)

    def _cut_off(self) -> str:
        return self._parted(clients=True)

    def _parted(self, *, clients: bool) -> str:
        node, for_s = self._someone(), self._some_time()
        self._net.part([node], clients=clients)
        time.sleep(for_s)
        self._net.heal()
        whom = "everybody" if clients else "the other brokers"
        return f"broker {node} cut from {whom} for {for_s:.1f} s"

    def _one_way(self) -> str:
        node, for_s = self._someone(), self._some_time()
        net = self._net
        net.deafen(node, [net.host(each) for each in net.nodes if each != node])
        time.sleep(for_s)
        net.heal()
        return f"broker {node} hears no other broker for {for_s:.1f} s, and is heard"

    def _bridge(self) -> str:
        """Two brokers lose each other, and both keep the third."""
        net, for_s = self._net, self._some_time()
        one, other = self._dice.sample(net.nodes, 2)
        net.deafen(one, [net.host(other)])
        net.deafen(other, [net.host(one)])
        time.sleep(for_s)
        net.heal()
        return f"brokers {one} and {other} lose each other for {for_s:.1f} s"

    def _blip(self) -> str:
        node = self._someone()
        self._net.part([node], clients=True)
        time.sleep(_BLIP_S)
        self._net.heal()
        return f"broker {node} cut off for {_BLIP_S * 1000:.0f} ms"

    def _loss(self) -> str:
        net, for_s, percent = self._net, self._some_time(), self._dice.randint(1, 50)
        for node in net.nodes:
            net.deafen(node, [net.host(each) for each in net.nodes if each != node], percent)
        time.sleep(for_s)
        net.heal()
        return f"{percent} % of the packets between brokers lost for {for_s:.1f} s"

    # --- disks ---------------------------------------------------------------------------------

    def _disk_full(self) -> str:
        node = self._dice.choice(sorted(self._disks))
        disk = self._disks[node]
        disk.fill()
        time.sleep(_FULL_S)
        disk.empty()
        return f"the disk of broker {node} full for {_FULL_S:g} s"

    # --- choices -------------------------------------------------------------------------------

    @property
    def _net(self) -> Network:
        assert self._network is not None, "kinds() names no fault of a network without one"
        return self._network

    def _some_time(self) -> float:
        return self._dice.uniform(0.5, self._pause_s_max)

    def _someone(self) -> int:
        """A leader, the controller, or anybody."""
        whom = self._dice.choice(("leader", "controller", "anybody"))
        nodes = sorted(self._cluster.servers)
        if whom == "anybody":
            return self._dice.choice(nodes)
        with Admin(self._cluster.address) as admin:
            if whom == "controller":
                node = admin.cluster().controller
            else:
                node = self._dice.choice(admin.describe_topic(TOPIC).partitions).leader
        return node if node in nodes else self._dice.choice(nodes)


def _flip(path: Path, dice: Random) -> str:
    at = dice.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes((byte ^ 1 << dice.randrange(8),)))
    return f"with a bit flipped at {at}"


def _cut(path: Path, dice: Random) -> str:
    size = dice.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.truncate(size)
    return f"cut off at {size}"
