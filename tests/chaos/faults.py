"""What can happen to a cluster, one fault at a time, each mended again by its own method.

A method returns when the fault is mended; that everything flows again is the caller's to check. It
is mended also where the method fails, and early where the run is to end: what is judged is a
cluster that is whole.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from streambus_broker.demo.server import BrokerDiedError
from streambus_client import Admin
from streambus_client.errors import ClientError
from streambus_protocol import ErrorCode
from tests.broker.raw import RawClient
from tests.chaos.load import TOPIC as LOAD
from tests.chaos.pinned import TOPIC as DEPOSED
from tests.chaos.pinned import Pinned, Promises
from tests.chaos.tools import RIGHT, SYSTEM_CALLS, FailingCalls, WallClock, no_strace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

    from streambus_broker.demo.cluster import ClusterProcesses
    from tests.chaos.disk import SmallDisk
    from tests.chaos.network import Network

PROCESS_FAULTS = ("kill", "kill_all", "pause", "rolling", "damage")
NETWORK_FAULTS = ("partition", "cut_off", "one_way", "bridge", "ring", "blip", "loss")
DISK_FAULTS = ("disk_full", "power_cut")
CALL_FAULTS = ("io_error",)
CLOCK_FAULTS = ("clock",)
ALL_FAULTS = (*PROCESS_FAULTS, *NETWORK_FAULTS, *DISK_FAULTS, *CALL_FAULTS, *CLOCK_FAULTS)

_BLIP_S = 0.043
_FULL_S_MIN, _FULL_S_MAX = 5.0, 15.0
_WHOLE_S_MAX = 120.0
_START_S_MAX = 120.0
_ASK_S_MAX = 30.0
_SLICE_S = 0.1
_LINGER_S = 2.0
"""How long a client stays with a broker that is back, and could answer what it may not."""
_CLOCKS = ("+1h", "-1h", "+1y", "-1y")

_AnswerT = TypeVar("_AnswerT")


class Faults:
    """See the module.

    Args:
        cluster: Whose faults they are.
        directory: Where its brokers have their directories, by node id.
        dice: Decides whom a fault meets, and for how long.
        network: Its network; None where links cannot fail.
        disks: The small disks, by node id.
        clocks: The wall clocks, by node id; none where they cannot be set.
        pause_s_max: The longest pause and the longest partition.
        patience: Times how long brokers may take to start, to answer and to be whole.

    Attributes:
        stopping: Set where the run is to end: a fault that lasts is mended at once then.
        handed_over: How often a broker without room was seen to lead no more than it must.
        refused: How often a broker refused to start with damaged data, or ended when it met the
            damage, and was rebuilt.
        io_errors: System calls that were made to fail.
        promises: What brokers acknowledged while they could not know whether they still led.
        problems: What did not go as it has to.
    """

    def __init__(
        self,
        cluster: ClusterProcesses,
        directory: Path,
        dice: Random,
        network: Network | None,
        disks: dict[int, SmallDisk],
        clocks: dict[int, WallClock],
        pause_s_max: float,
        patience: float,
    ) -> None:
        self.stopping = False
        self.handed_over = 0
        self.refused = 0
        self.io_errors = 0
        self.promises = Promises()
        self.problems: list[str] = []
        self._cluster = cluster
        self._directory = directory
        self._dice = dice
        self._network = network
        self._disks = disks
        self._clocks = clocks
        self._damaged: set[int] = set()
        self._pause_s_max = pause_s_max
        self._patience = patience

    def kinds(self) -> list[str]:
        """The faults that can be made here."""
        kinds = list(PROCESS_FAULTS)
        if self._network is not None:
            kinds += NETWORK_FAULTS
        if self._disks:
            kinds += DISK_FAULTS
        if not no_strace():
            kinds += CALL_FAULTS
        if self._clocks:
            kinds += CLOCK_FAULTS
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
        self._last(self._dice.uniform(0, 4))
        self._start(node)
        return f"broker {node} killed"

    def _kill_all(self) -> str:
        for server in self._cluster.servers.values():
            server.kill()
        self._start_all()
        return "all brokers killed at once"

    def _start_all(self) -> None:
        self._start(*self._cluster.servers)

    def _start(self, *nodes: int) -> bool:
        """Start brokers at once; one that does not listen after long is ended.

        Returns:
            Whether one was rebuilt, because it refused to start with its damaged data.

        Raises:
            BrokerDiedError: One ended, or was, that nobody had damaged.
        """
        refused = {}
        for node in nodes:
            self._cluster.servers[node].launch()
        for node in nodes:
            server = self._cluster.servers[node]
            limit = threading.Timer(_START_S_MAX * self._patience, server.end)
            limit.start()
            try:
                server.wait_listening()
            except BrokerDiedError as error:
                if node not in self._damaged:
                    raise
                refused[node] = error
            finally:
                limit.cancel()
        for node, refusal in refused.items():
            self._rebuild(node, refusal)
        return bool(refused)

    def _pause(self) -> str:
        node, for_s = self._leader_mostly(), self._some_time()
        with self._pinned(node):
            self._cluster.servers[node].pause()
            try:
                self._last(for_s)
            finally:
                self._cluster.servers[node].resume()
            time.sleep(_LINGER_S)
        return f"broker {node} paused for {for_s:.1f} s"

    def _rolling(self) -> str:
        for node, server in self._cluster.servers.items():
            server.stop()
            self._start(node)
            self._cluster.wait_in_sync(_WHOLE_S_MAX * self._patience)
        return "rolling restart"

    def _damage(self) -> str:
        """Flip a byte, or cut off the end, of one file of one broker that is down.

        Not the end of a log: that looks like writes that lost power before their sync.
        """
        node = self._someone()
        server = self._cluster.servers[node]
        server.kill()
        data = self._directory / str(node) / "data"
        files = sorted(
            path for path in data.rglob("*") if path.is_file() and path.stat().st_size > 0
            and not path.name.startswith(("filler", "never"))
        )  # fmt: skip
        path = self._dice.choice(files)
        cut = self._dice.random() < 0.3 and path.suffix != ".wal"
        what = _cut(path, self._dice) if cut else _flip(path, self._dice)
        said = f"broker {node}: {path.relative_to(data)} {what}"
        self._damaged.add(node)
        if self._start(node):
            return f"{said}; it refused to start, and was rebuilt"
        return f"{said}; it started"

    def mend_ended(self) -> list[str]:
        """Rebuild brokers that ended by themselves: damage was met only when it was read."""
        said = []
        for node, server in self._cluster.servers.items():
            try:
                server.check()
            except BrokerDiedError as error:
                self._rebuild(node, error)
                said.append(f"broker {node} found damage while it ran, and was rebuilt")
        return said

    def _rebuild(self, node: int, error: BrokerDiedError) -> None:
        """Do what the broker's own words say: empty the directory, and start it."""
        if node not in self._damaged:
            self.problems.append(f"broker {node} ended, and nobody had damaged it: {error}")
        elif "is damaged" not in str(error) or "Traceback" in str(error):
            self.problems.append(f"broker {node} does not say that it is damaged: {error}")
        self._damaged.discard(node)
        self.refused += 1
        for path in (self._directory / str(node) / "data").iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._start(node)

    # --- network -------------------------------------------------------------------------------

    def _partition(self) -> str:
        """A broker loses the others and keeps its clients: it must not acknowledge to them."""
        return self._parted(clients=False)

    def _cut_off(self) -> str:
        return self._parted(clients=True)

    def _parted(self, *, clients: bool) -> str:
        node, for_s = self._leader_mostly(), self._some_time()
        with self._pinned(node):
            with self._healed() as net:
                net.part([node], clients=clients)
                self._last(for_s)
            time.sleep(_LINGER_S)
        whom = "everybody" if clients else "the other brokers"
        return f"broker {node} cut from {whom} for {for_s:.1f} s"

    def _one_way(self) -> str:
        node, for_s = self._leader_mostly(), self._some_time()
        with self._pinned(node):
            with self._healed() as net:
                net.deafen(node, [net.host(each) for each in net.nodes if each != node])
                self._last(for_s)
            time.sleep(_LINGER_S)
        return f"broker {node} hears no other broker for {for_s:.1f} s, and is heard"

    def _bridge(self) -> str:
        """Two brokers lose each other, and both keep the third."""
        for_s = self._some_time()
        with self._healed() as net:
            one, other = self._dice.sample(net.nodes, 2)
            net.deafen(one, [net.host(other)])
            net.deafen(other, [net.host(one)])
            self._last(for_s)
        return f"brokers {one} and {other} lose each other for {for_s:.1f} s"

    def _ring(self) -> str:
        """Each broker hears its neighbour on the left alone; no two hear each other."""
        for_s = self._some_time()
        with self._healed() as net:
            for place, node in enumerate(net.nodes):
                left = net.nodes[place - 1]
                net.deafen(node, [net.host(each) for each in net.nodes if each not in (node, left)])
            self._last(for_s)
        return f"each broker hears its neighbour alone for {for_s:.1f} s"

    def _blip(self) -> str:
        node = self._someone()
        with self._healed() as net:
            net.part([node], clients=True)
            time.sleep(_BLIP_S)
        return f"broker {node} cut off for {_BLIP_S * 1000:.0f} ms"

    def _loss(self) -> str:
        for_s, percent = self._some_time(), self._dice.randint(1, 50)
        with self._healed() as net:
            for node in net.nodes:
                net.deafen(node, [net.host(each) for each in net.nodes if each != node], percent)
            self._last(for_s)
        return f"{percent} % of the packets between brokers lost for {for_s:.1f} s"

    # --- disks ---------------------------------------------------------------------------------

    def _disk_full(self) -> str:
        """Reads go on, and whoever writes is refused in a way that lets him try again."""
        node, for_s = self._leader_mostly(), self._dice.uniform(_FULL_S_MIN, _FULL_S_MAX)
        disk, answered = self._disks[node], 0
        with self._pinned(node):
            disk.fill()
            try:
                ends_s = time.monotonic() + for_s
                while time.monotonic() < ends_s and not self.stopping:
                    answered += self._read_at(node)
                    time.sleep(_SLICE_S)
                state = self._ask(lambda admin: _states(admin)[node])
            finally:
                disk.empty()
        if not answered:
            self.problems.append(f"broker {node} did not answer a read while its disk was full")
        self.handed_over += state == "read_only"
        return f"the disk of broker {node} full for {for_s:.1f} s, which was {state} then"

    def _read_at(self, node: int) -> bool:
        """Read from a broker, as from a leader; whether it answered."""
        try:
            with RawClient(self._cluster.servers[node].address) as client:
                answer = client.fetch(LOAD, 0, partition=self._led_by(node), wait_ms=0)
        except OSError:  # on a busy machine
            return False
        if answer.error and not ErrorCode(answer.error).retriable:
            self.problems.append(f"a full disk kept reads away: {answer}")
        return True

    def _led_by(self, node: int) -> int:
        """A partition that a broker leads, or the first."""
        partitions = self._ask(lambda admin: admin.describe_topic(LOAD).partitions)
        return next((each.partition for each in partitions if each.leader == node), 0)

    def _power_cut(self) -> str:
        """All disks lose what was not synced, and all brokers end, at once."""
        servers = self._cluster.servers
        for disk in self._disks.values():
            disk.cut_power()
        for server in servers.values():
            server.kill()
        for node, disk in self._disks.items():
            if not disk.mount_again():
                self.problems.append(f"the cut took nothing from the disk of broker {node}")
        self._start_all()
        return "power cut everywhere at once"

    # --- system calls and clocks ---------------------------------------------------------------

    def _io_error(self) -> str:
        """One kind of call fails with EIO for some time; then the operator starts it again."""
        node, call = self._leader_mostly(), self._dice.choice(SYSTEM_CALLS)
        first, for_s = self._dice.randint(1, 20), self._dice.uniform(1, 5)
        server = self._cluster.servers[node]
        calls = FailingCalls(server.pid, call, first, self._directory / f"strace-{node}")
        with self._pinned(node), calls:
            self._last(for_s)
        failed = calls.failed()
        self.io_errors += failed
        server.resume_and_stop()
        self._start(node)
        return f"{failed} calls of {call} failed at broker {node}, which was started again"

    def _clock(self) -> str:
        """Set the clock of one broker or of all; sometimes a broker starts under the wrong one."""
        nodes = list(self._clocks) if self._dice.random() < 0.3 else [self._someone()]
        offset, for_s = self._dice.choice(_CLOCKS), self._some_time()
        said = ""
        try:
            for node in nodes:
                self._clocks[node].set(offset)
            WallClock.wait_noticed()
            if self._dice.random() < 0.5:
                self._cluster.servers[nodes[0]].kill()
                self._start(nodes[0])
                said = f", and broker {nodes[0]} started under it"
            self._last(for_s)
        finally:
            for node in nodes:
                self._clocks[node].set(RIGHT)
            WallClock.wait_noticed()
        return f"the clock of brokers {nodes} {offset} for {for_s:.1f} s{said}"

    # --- choices -------------------------------------------------------------------------------

    @contextmanager
    def _healed(self) -> Iterator[Network]:
        """The network, which lets everything through again afterwards."""
        network = self._network
        assert network is not None, "kinds() names no fault of a network without one"
        try:
            yield network
        finally:
            network.heal()

    def _last(self, seconds: float) -> None:
        """Let a fault last, as long as the run goes on."""
        ends_s = time.monotonic() + seconds
        while not self.stopping and (left_s := ends_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _SLICE_S))

    def _ask(self, question: Callable[[Admin], _AnswerT]) -> _AnswerT:
        """Ask the cluster; brokers of a busy machine may not know an answer for a moment.

        Raises:
            ClientError: They did not for long.
        """
        ends_s = time.monotonic() + _ASK_S_MAX * self._patience
        while True:
            try:
                with Admin(self._cluster.address) as admin:
                    return question(admin)
            except ClientError:
                if time.monotonic() > ends_s:
                    raise
                # Damage of an earlier fault may have been met meanwhile: with two of three brokers
                # away nobody can answer.
                for said in self.mend_ended():
                    print(said, file=sys.stderr, flush=True)
                time.sleep(_SLICE_S)

    def _pinned(self, node: int) -> Pinned:
        """A client that stays with a broker while the context is open."""
        servers = self._cluster.servers
        others = [server.address for other, server in servers.items() if other != node]
        return Pinned(self.promises, servers[node].address, others, node)

    def _leader_mostly(self) -> int:
        """The leader that a pinned client can be tried on, or sometimes anybody."""
        if self._dice.random() < 0.3:
            return self._someone()
        node = self._ask(lambda admin: admin.describe_topic(DEPOSED).partitions[0].leader)
        return node if node in self._cluster.servers else self._someone()

    def _some_time(self) -> float:
        return self._dice.uniform(0.5, self._pause_s_max)

    def _someone(self) -> int:
        """A leader, the controller, or anybody."""
        whom = self._dice.choice(("leader", "controller", "anybody"))
        nodes = sorted(self._cluster.servers)
        if whom == "anybody":
            return self._dice.choice(nodes)
        if whom == "controller":
            node = self._ask(lambda admin: admin.cluster().controller)
        else:
            partitions = self._ask(lambda admin: admin.describe_topic(LOAD).partitions)
            node = self._dice.choice(partitions).leader
        return node if node in nodes else self._dice.choice(nodes)


def _states(admin: Admin) -> dict[int, str]:
    """How every broker stands, by node id."""
    return {each.node_id: each.state for each in admin.describe_cluster().members}


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
