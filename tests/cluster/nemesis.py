"""What goes wrong in a simulated cluster: one method for each kind of trouble of `shape.SOMETIMES`.

Some troubles are aimed: at the moment after an acknowledgement, at a leader with records that
nobody else has, at a follower that lags behind. What is broken by one trouble may still be broken
when the next one begins; `heal` ends everything.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streambus_broker.cluster.brokers import NOBODY
from tests.cluster.aimed import AimedTroubles
from tests.cluster.operators import Operators

if TYPE_CHECKING:
    from typing import Literal

    from tests.cluster.hosts import Host, Hosts
    from tests.cluster.shape import Shape
    from tests.cluster.watch import Watch
    from tests.support.clients import Clients
    from tests.support.history import Sent
    from tests.support.simulation import SimulatedProcess, Simulation

    Effect = Literal["none", "partial", "done", "lost"]

_FAULTY = (
    "sync",
    "sync",
    "sync",
    "append",
    "rename",
    "create",
    "sync_directory",
    "open_read",
    "read",
    "unlink",
)
_EFFECTS: tuple[Effect, ...] = ("none", "none", "partial", "done", "lost")
_PATIENCE_S = 2.0
_VOTERS_MIN = 3


class Nemesis(Operators, AimedTroubles):
    """See the module.

    Args:
        simulation: The world.
        hosts: The machines.
        shape: Which troubles, how often.
        clients: Whose acknowledgements are waited for.
        process: Where the clients live.
        watch: Looks at a broker before it dies.
    """

    def __init__(
        self,
        simulation: Simulation,
        hosts: Hosts,
        shape: Shape,
        clients: Clients,
        process: SimulatedProcess,
        watch: Watch,
    ) -> None:
        super().__init__(simulation, hosts, shape, process)
        self._clients = clients
        self._watch = watch
        self._blocked: dict[tuple[str, str], int] = {}
        self._acknowledged: asyncio.Future[Sent] | None = None
        clients.acknowledged = self._note

    async def run(self) -> None:
        """Make trouble for the time that the shape gives."""
        random, loop, shape = self._random, self.simulation.loop, self.shape
        kinds, weights = list(shape.troubles), list(shape.troubles.values())
        end_s = loop.time() + shape.duration_s
        while True:
            await asyncio.sleep(random.expovariate(1 / shape.spacing_s))
            if loop.time() >= end_s:
                return
            kind = random.choices(kinds, weights)[0]
            if random.random() < shape.looks:
                self._watch.look_at_disks()
            self.simulation.happened(kind)
            await getattr(self, "_" + kind.replace(" ", "_"))()
            if random.random() < shape.patience:
                await self._next_acknowledged(_PATIENCE_S)

    async def heal(self) -> None:
        """End everything: all that was started goes to its end, all brokers live, nothing fails."""
        self.simulation.trace("heal all")
        for task in self._tasks:
            await task
        network = self.simulation.network
        network.heal()
        network.use(type(network.faults)(latency_max_s=network.faults.latency_max_s))
        for host in self.hosts.all:
            host.process.resume()
            if host.failing or not host.alive:
                self._kill_now(host, power_loss=host.failing and self._random.random() < 0.5)
                self.hosts.start(host)

    # --- deaths --------------------------------------------------------------------------------

    def _kill_now(self, host: Host, *, power_loss: bool, mode: str = "random") -> None:
        self._watch.look(host)
        self.hosts.kill(host, power_loss=power_loss, mode=mode)

    async def _again(self, host: Host, within_s: float | None = None) -> None:
        """Start a broker that was killed, unless somebody was faster."""
        dead = host.process
        if within_s is None:
            within_s = self._random.choice((0.0, 0.3, 2.0))
        await asyncio.sleep(within_s * self._random.random())
        if host.process is dead and not dead.alive:
            self.hosts.start(host)

    async def _kill(self) -> None:
        host = self._any()
        self._kill_now(host, power_loss=False)
        self._later(self._again(host))

    async def _power(self) -> None:
        host = self._any()
        self._kill_now(host, power_loss=True)
        self._later(self._again(host))

    async def _stop(self) -> None:
        async def stop(host: Host) -> None:
            dead = host.process
            await self.hosts.stop(host)
            if host.process is dead:
                await self._again(host)

        host = self._any()
        if host.alive and host.process.runs:
            self._later(stop(host))

    async def _all_killed(self) -> None:
        await self._everybody(power_loss=False, mode="keep")

    async def _all_power(self) -> None:
        await self._everybody(power_loss=True, mode=self._random.choice(("random", "drop")))

    async def _everybody(self, *, power_loss: bool, mode: str) -> None:
        hosts = list(self.hosts.all)
        self._random.shuffle(hosts)
        for host in hosts:
            self._kill_now(host, power_loss=power_loss, mode=mode)
        for host in hosts:
            self._later(self._again(host, 1.0))

    async def _after_ack(self) -> None:
        """The moment that a record is acknowledged, those that hold it lose what is not synced."""
        record = await self._next_acknowledged(1.0)
        if record is None:
            return
        self._watch.look_at_disks()
        leader = self._leader(record.partition)
        members = [] if leader is None else self._in_sync(leader, record.partition)
        who = self._random.random()
        for host in members:
            if who < 0.4 or (host is leader) == (who < 0.7):  # all, the leader, or the others
                self._kill_now(host, power_loss=True, mode="drop")
                # Whoever is back first may lead, with what it had synced.
                self._later(self._again(host, self._random.choice((0.0, 0.1, 2.5))))

    async def _next_acknowledged(self, within_s: float) -> Sent | None:
        """Wait for the next acknowledgement by all."""
        future: asyncio.Future[Sent] = asyncio.get_running_loop().create_future()
        self._acknowledged = future
        try:
            async with asyncio.timeout(within_s):
                return await future
        except TimeoutError:
            return None
        finally:
            self._acknowledged = None

    def _note(self, record: Sent) -> None:
        if record.acks != "all":
            return
        self._watch.acknowledged(record)
        waiting = self._acknowledged
        if waiting is not None and not waiting.done():
            waiting.set_result(record)

    def _leader(self, partition: int) -> Host | None:
        """Who leads a partition, in the highest epoch."""
        leaders = [
            (replica.stored.log.leader_epoch, host.node_id)
            for host in self.hosts.all if host.node is not None
            for replica in host.node.replicas.values()
            if replica.partition == partition and replica.leading is not None
        ]  # fmt: skip
        return self.hosts.hosts[max(leaders)[1]] if leaders else None

    def _in_sync(self, leader: Host, partition: int) -> list[Host]:
        node = leader.node
        replicas = () if node is None else node.replicas.values()
        for replica in replicas:
            if replica.partition == partition:
                return [self.hosts.hosts[each] for each in replica.record.in_sync]
        return []

    def _some_leader(self) -> tuple[Host, int] | None:
        partition = self._random.randrange(self.shape.partitions)
        leader = self._leader(partition)
        return None if leader is None else (leader, partition)

    def _some_pair(self) -> tuple[Host, Host, int] | None:
        """A leader, a follower in sync with it, and the partition."""
        found = self._some_leader()
        if found is None:
            return None
        leader, partition = found
        followers = [each for each in self._in_sync(leader, partition) if each is not leader]
        return (leader, self._random.choice(followers), partition) if followers else None

    # --- the network ---------------------------------------------------------------------------

    def _names(self) -> list[str]:
        return [host.name for host in self.hosts.all]

    def _somewhere(self) -> list[str]:
        return [*self._names(), self._process.host]

    async def _cut(self) -> None:
        self.simulation.network.cut(*self._random.sample(self._somewhere(), 2))

    async def _block(self, ways: list[tuple[str, str]], seconds: float) -> None:
        network = self.simulation.network
        for way in ways:
            network.block(*way)
        await asyncio.sleep(seconds)
        network.unblock(ways)

    def _while(self) -> float:
        return self._random.choice((0.05, 0.5, 3.0)) * self._random.random()

    async def _isolate(self) -> None:
        one = self._random.choice(self._names())
        others = [each for each in self._somewhere() if each != one]
        ways = [(one, each) for each in others] + [(each, one) for each in others]
        self._later(self._block(ways, self._while()))

    async def _pair(self) -> None:
        one, other = self._random.sample(self._somewhere(), 2)
        self._later(self._block([(one, other), (other, one)], self._while()))

    async def _one_way(self) -> None:
        one, *others = self._random.sample(self._somewhere(), 3)
        count = self._random.randint(1, 2)
        self._later(self._block([(one, each) for each in others[:count]], self._while()))

    async def _bridge(self) -> None:
        """Two halves that both reach one broker, and not each other."""
        names = self._names()
        self._random.shuffle(names)
        middle = len(names) // 2
        left, right = names[:middle], names[middle + 1 :]
        ways = [way for a in left for b in right for way in ((a, b), (b, a))]
        self._later(self._block(ways, self._while()))

    async def _blip(self) -> None:
        names = self._somewhere()
        ways = [(a, b) for a in names for b in names if a != b]
        self._later(self._block(ways, 0.043))

    async def _slow(self) -> None:
        one, other = self._random.sample(self._somewhere(), 2)
        self.simulation.network.slow(one, other, self._random.choice((0.02, 0.2, 0.6)))

    async def _tail(self) -> None:
        """A leader that only clients reach: it takes what nobody else has, and is deposed."""
        found = self._some_leader()
        if found is None:
            return
        leader, _ = found
        others = [each for each in self._names() if each != leader.name]
        ways = [(leader.name, each) for each in others] + [(each, leader.name) for each in others]
        session_s = self.shape.session_ms / 1000
        if self._random.random() < 0.5:
            self._later(self._cut_off_clients(leader, session_s * self._random.uniform(0.1, 0.6)))
        self._later(self._block(ways, session_s * self._random.uniform(0.5, 3.0)))

    async def _cut_off_clients(self, leader: Host, after_s: float) -> None:
        """Have clients send again what a leader cannot commit."""
        await asyncio.sleep(after_s)
        self.simulation.network.cut(leader.name, self._process.host)

    async def _lag(self) -> None:
        """A follower that hears nothing of one leader; when it is behind, something happens."""
        found = self._some_pair()
        if found is not None:
            self._later(self._let_lag(*found))

    async def _let_lag(self, leader: Host, follower: Host, partition: int) -> None:
        ways = [(leader.name, follower.name)]
        if self._random.random() < 0.5:
            ways.append((follower.name, leader.name))
        lag_s = self.shape.lag_ms_max / 1000
        await self._block(
            ways, self._random.uniform(0.3, 1.0) + lag_s * self._random.choice((0, 1))
        )
        what = self._random.random()
        others = [each for each in self._in_sync(leader, partition) if each is not follower]
        if what < 0.4:
            self._kill_now(leader, power_loss=what < 0.2, mode="drop")
            await self._again(leader)
        elif what < 0.7:
            for host in others:
                self._kill_now(host, power_loss=self._random.random() < 0.5, mode="drop")
            for host in others:
                await self._again(host, 1.5)

    # --- processes, clocks, disks --------------------------------------------------------------

    async def _pause(self) -> None:
        async def pause(host: Host) -> None:
            process = host.process
            process.pause()
            await asyncio.sleep(self._while())
            process.resume()

        self._later(pause(self._any()))

    async def _clock(self) -> None:
        host = self._any()
        hour_ms = 3_600_000
        host.skew_ms = self._random.choice((0, -hour_ms, hour_ms, -365 * 24 * hour_ms, 50))
        host.process.clock_skew_ms = host.skew_ms

    async def _disk_fails(self) -> None:
        """The n-th call of a kind fails, once or from then on; later the disk is replaced."""
        random = self._random
        host = self._any()
        kind = random.choice(_FAULTY)
        effect = random.choice(_EFFECTS)
        if (effect == "lost" and kind != "sync") or (effect == "partial" and kind != "append"):
            effect = "none"
        if effect == "lost":
            # What is read from then on is not what is on the disk, and nobody can tell before the
            # power goes: an operator replaces such a disk.
            if self.hosts.rebuilding is None and self._storages_are_known():
                self.hosts.rebuilding = host
                host.damaged = True
            else:
                effect = "none"
        host.failing = True
        disk = host.disk
        nth, times = random.choice((1, 1, 2, 5)), random.choice((1, 1, None))
        where = random.choice(("/broker/data", ""))
        disk.fail(kind, nth, times=times, effect=effect, path=where)
        self._watch.suspicious = 10
        self.simulation.happened(f"disk: {kind}", host.node_id, nth, effect)

        async def repair() -> None:
            await asyncio.sleep(2.5 * random.random())
            if host.disk is disk and host.failing:
                self._kill_now(host, power_loss=random.random() < 0.6, mode="drop")
                await self._again(host)

        self._later(repair())

    async def _disk_full(self) -> None:
        host = self._any()
        disk = host.disk
        host.full = True
        disk.capacity_bytes = disk.used_bytes + self._random.choice((0, 100, 5_000))

        async def free() -> None:
            await asyncio.sleep(2 * self._random.random())
            disk.capacity_bytes = None

        self._later(free())

    async def _damage(self) -> None:
        """A flipped bit, or a file that is cut, on one broker; the others must make up for it.

        A log that is cut while it is written to looks like one that lost power before a sync: no
        log can tell the two apart (docs/formats/wal.md), so that is not done.
        """
        random = self._random
        if self.hosts.rebuilding is not None or not self._storages_are_known():
            return
        host = self._any()
        power_loss = random.random() < 0.3
        live = random.random() < 0.3 and host.alive
        if not live:
            self._kill_now(host, power_loss=power_loss)
        files = {path: size for path, size in host.disk.files().items() if size}
        if files:
            path = random.choice(list(files))
            self.hosts.rebuilding = host
            host.damaged = True
            if random.random() < 0.7 or live or path.endswith(".wal"):
                self.simulation.happened("bit flipped", host.node_id, path, files[path])
                host.disk.flip_bit(path, random.randrange(files[path]), random.randrange(8))
            else:
                self.simulation.happened("file cut", host.node_id, path, files[path])
                host.disk.shorten(path, random.randrange(files[path]))
        if not live:
            self._later(self._again(host))

    def _storages_are_known(self) -> bool:
        """Whether the metadata group would notice that a voter lost its disk, and can do without.

        See docs/raft.md. Of two voters, be it that an operator wants no more, or is just taking
        one away, it can lose none.
        """
        if self.asking:
            return False
        voters = {host.node_id for host in self.hosts.all if not host.joins}
        for host in self.hosts.all:
            if host.node is None or host.broker is None:
                if host.node_id in voters:
                    return False
                continue
            status = host.broker.group.server.metrics().status
            voters |= set(status.membership.voters)
            known = dict(status.membership.storages)
            behind = status.commit < status.membership_index
            few = len(status.membership.voters) < _VOTERS_MIN
            if host.node_id in voters and (behind or few or not voters <= set(known)):
                return False
            for each in host.node.state.brokers.values():
                leaves = each.replaced_by != NOBODY or each.vote is False
                if leaves and each.broker_id in status.membership.voters:
                    return False
        return True
