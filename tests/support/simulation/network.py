"""An in-memory network: transports with latency, cuts, partitions and silent hosts.

Rules:

- A connection is two one-way pipes. Bytes keep their order, arrive after a random latency, and may
  be cut into pieces or glued together, as TCP does. Connections overtake one another.
- A connection may stall, break behind any byte, or fall silent for good without telling either end.
- A blocked direction (a partition) holds bytes back, as retransmission does; after it heals they
  arrive. ``cut`` resets connections at once.
- A killed process's connections are reset; after a power loss the peer hears nothing until it
  writes to the host again while that is back, or gives up by itself. A paused process's host goes
  on taking bytes and connections for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.simulation.handle import Handle
from tests.support.simulation.process import SimulatedProcess, current_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.support.simulation.world import Simulation

_HIGH_WATER_BYTES = 64 * 1024
_KERNEL_BYTES = 128 * 1024  # what the two operating systems hold before a writer notices
_CONNECT_TRIES_S = (1.0, 2.0, 4.0, 13.0)  # as TCP tries a SYN again
_EPHEMERAL_PORT = 40_000


@dataclass(slots=True)
class Faults:
    """How the network misbehaves.

    Attributes:
        latency_min_s: Shortest one-way time.
        latency_max_s: Longest one-way time.
        split_probability: How often a write arrives in two pieces.
        reset_probability: How often a write breaks its connection; a part of it may still arrive.
        stall_probability: How often a write, and all behind it, arrives late.
        stall_s_max: How late, at most.
        silence_probability: How often a write is the first of which nothing arrives any more, on a
            connection that neither end is told is dead.
    """

    latency_min_s: float = 0.000_05
    latency_max_s: float = 0.002
    split_probability: float = 0.1
    reset_probability: float = 0.0
    stall_probability: float = 0.0
    stall_s_max: float = 1.0
    silence_probability: float = 0.0


class SimulatedServer:
    """What ``create_server`` returns; enough of ``asyncio.Server`` for a caller."""

    def __init__(
        self, network: SimulatedNetwork, factory: Callable[[], Any], address: tuple[str, int]
    ) -> None:
        self.factory = factory
        self.address = address
        self.process = current_process.get()
        self.context = contextvars.copy_context()
        self._network = network

    @property
    def sockets(self) -> tuple[_Socket, ...]:
        return (_Socket(self.address),)

    def is_serving(self) -> bool:
        return self._network.listeners.get(self.address) is self

    def close(self) -> None:
        if self.is_serving():
            del self._network.listeners[self.address]

    async def wait_closed(self) -> None:
        """Nothing is left to wait for: connections live on their own."""

    async def start_serving(self) -> None:
        """It serves from the start."""


class _Socket:
    """What code may ask of a transport's or a server's socket: its addresses; options are taken."""

    family = socket.AF_INET

    def __init__(self, address: tuple[str, int], peer: tuple[str, int] | None = None) -> None:
        self._address = address
        self._peer = peer

    def getsockname(self) -> tuple[str, int]:
        return self._address

    def getpeername(self) -> tuple[str, int] | None:
        return self._peer

    def setsockopt(self, *_: object) -> None:
        pass


class SimulatedTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(
        self, network: SimulatedNetwork, local: tuple[str, int], remote: tuple[str, int]
    ) -> None:
        super().__init__({"sockname": local, "peername": remote, "socket": _Socket(local, remote)})
        self.local = local
        self.remote = remote
        self.process = current_process.get()
        self.peer: SimulatedTransport
        self.protocol: Any = None
        self.lost = False
        self.silent = False
        self.held: list[bytes | None] = []  # what arrived while the way was blocked
        self._label = f"{remote[0]}:{remote[1]} -> {local[0]}:{local[1]}"
        self._network = network
        self._context = contextvars.copy_context()
        self._closing = False
        self._reading = True
        self._inbox: deque[bytes | None] = deque()
        self._unread_bytes = 0  # sent by this end, not yet given to the peer's protocol
        self._high_bytes, self._low_bytes = _HIGH_WATER_BYTES, _HIGH_WATER_BYTES // 4
        self._write_paused = False
        self._arrives_s = 0.0

    # --- the protocol's side -------------------------------------------------------------------

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        if self._inbox:
            self._network.loop.call_soon(self._drain, context=self._context)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_bytes = _HIGH_WATER_BYTES if high is None else high
        self._low_bytes = self._high_bytes // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return max(0, self._unread_bytes - _KERNEL_BYTES)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_bytes, self._high_bytes

    def can_write_eof(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        process = self.process
        if self._closing or not data or not (process is None or process.alive):
            return
        piece = bytes(data)
        network = self._network
        if network.random.random() < network.trouble_probability and self._suffer(piece):
            return
        self._unread_bytes += len(piece)
        self._send(piece)
        if self._unread_bytes > _KERNEL_BYTES + self._high_bytes and not self._write_paused:
            self._write_paused = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if self._closing or self._dead():
            return
        self._closing = True
        self._send(None)
        self._network.loop.call_soon(self._lose, None, context=self._context)

    def abort(self) -> None:
        if not self._dead():
            self.fail(None)

    # --- the network's side --------------------------------------------------------------------

    def _suffer(self, piece: bytes) -> bool:
        """Let something happen to a write; return whether that has dealt with it."""
        network = self._network
        random, size = network.random, len(piece)
        kind = network.draw_trouble()
        if kind == "split":
            if size < 2:
                return False
            middle = random.randrange(1, size)
            self._unread_bytes += size
            self._send(piece[:middle])
            self._send(piece[middle:])
            return True
        network.simulation.happened(kind, self._label)
        if kind == "stall":
            stall_s = network.faults.stall_s_max * random.random()
            self._arrives_s = max(self._arrives_s, network.loop.now_s + stall_s)
            return False
        if kind == "silence":
            self.silent = self.peer.silent = True
            return True
        left = random.randrange(size + 1)
        if left:
            self._unread_bytes += left
            self._send(piece[:left])
        self.fail(ConnectionResetError("simulated reset"))
        return True

    def fail(self, error: Exception | None) -> None:
        """Break the connection: at once on this side; on the other after what is on its way."""
        if self.lost:
            return
        self._closing = True
        network = self._network
        network.loop.call_soon(self._lose, error, context=self._context)
        if not self.silent:
            peer = self.peer
            at_s = max(self._arrives_s, network.loop.now_s + network.latency_s())
            network.at(at_s, peer.tell, peer._lose, ConnectionResetError("reset by peer"))

    def tell(self, call: Callable[..., object], *args: Any) -> None:
        """Do something in the process of this end: now, when it goes on, or never."""
        process = self.process
        if process is None or process.runs:
            self._context.run(call, *args)
        else:
            process.missed(Handle(call, args, self._context, process, 0.0))

    def deliver(self, piece: bytes | None) -> None:
        """Take bytes that arrived, or None for the end of the stream."""
        if self.lost:
            return
        if piece is not None and self._reading and not self._inbox:  # the usual case
            self._take(piece)
            return
        self._inbox.append(piece)
        if self._reading:
            self._drain()

    def _send(self, piece: bytes | None) -> None:
        """Put a piece on the wire; it stays behind those before it."""
        if self.silent:
            return
        network = self._network
        at_s = network.loop.now_s + network.latency_s()
        if network.slowed:
            at_s += network.slowness_s(self)
        if at_s < self._arrives_s:
            at_s = self._arrives_s
        self._arrives_s = at_s
        network.at(at_s, self._arrive, piece)

    def _arrive(self, piece: bytes | None) -> None:
        """Let a piece reach the other host, unless the way is blocked."""
        network = self._network
        if self.held or (network.blocked and network.is_blocked(self.local[0], self.remote[0])):
            network.hold(self, piece)
            return
        peer = self.peer
        process = peer.process
        usual = piece is not None and peer._reading and not (peer._inbox or peer.lost)
        if usual and (process is None or process.runs):
            peer._context.run(peer._take, piece)  # type: ignore[arg-type]  # it is "usual"
        else:
            self.land(piece)

    def land(self, piece: bytes | None) -> None:
        """Let a piece reach the other end."""
        peer = self.peer
        process = peer.process
        if process is None or process.runs:
            peer._context.run(peer.deliver, piece)
            return
        if process.alive:
            peer.tell(peer.deliver, piece)
            return
        # Nobody there: a host that is up answers with a reset, one without power not at all.
        network = self._network
        if network.is_up(self.remote[0]) and not self._dead():
            at_s = network.loop.now_s + network.latency_s()
            network.at(at_s, self.tell, self._lose, ConnectionResetError("reset"))

    def _drain(self) -> None:
        inbox = self._inbox
        while inbox and self._reading and not self.lost:
            piece = inbox.popleft()
            if piece is None:
                self._closing = True
                self.protocol.eof_received()
                self._lose(None)
                return
            while inbox and (following := inbox[0]) is not None:
                piece += following
                inbox.popleft()
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        """Give bytes to the program."""
        size = len(piece)
        sender = self.peer
        sender._unread_bytes -= size
        if sender._write_paused:
            sender._write_on()
        self._network.simulation.trace(self._label, size, "bytes")
        self.protocol.data_received(piece)

    def _write_on(self) -> None:
        """Let the program write again, if little enough is unread."""
        if self.get_write_buffer_size() <= self._low_bytes:
            self._write_paused = False
            if not self._dead():
                self._network.loop.call_soon(self.protocol.resume_writing, context=self._context)

    def _lose(self, error: Exception | None) -> None:
        if self.lost:
            return
        self.lost = self._closing = True
        self._inbox.clear()
        self._network.transports.pop(self, None)
        if not self._dead():
            self.protocol.connection_lost(error)

    def accepted(self, server: SimulatedServer) -> None:
        """Meet the program at the listening end."""
        if self.lost:
            return
        self.protocol = server.factory()
        self.protocol.connection_made(self)

    def _dead(self) -> bool:
        return self.process is not None and not self.process.alive


class SimulatedNetwork:
    """Hosts, listeners, connections and what stands between them.

    Attributes:
        trouble_probability: How often something happens to a write.
        blocked: The ways through which nothing passes, and how often each was blocked.
        slowed: The ways that take longer at the moment, and by how much.
    """

    def __init__(self, simulation: Simulation, faults: Faults | None = None) -> None:
        self.simulation = simulation
        self.loop = simulation.loop
        self.random = simulation.random
        self.listeners: dict[tuple[str, int], SimulatedServer] = {}
        self.transports: dict[SimulatedTransport, None] = {}
        self.blocked: dict[tuple[str, str], int] = {}  # how often
        self.slowed: dict[tuple[str, str], float] = {}
        self.no_route: set[tuple[str, str]] = set()
        self._down: dict[str, None] = {}
        self._held: dict[SimulatedTransport, None] = {}
        self._next_port = _EPHEMERAL_PORT
        self._context = contextvars.Context()
        self.use(faults or Faults())

    def use(self, faults: Faults) -> None:
        """Misbehave like this from now on."""
        self.faults = faults
        self._latency_min_s = faults.latency_min_s
        self._latency_range_s = faults.latency_max_s - faults.latency_min_s
        self._troubles = {
            "split": faults.split_probability,
            "reset": faults.reset_probability,
            "stall": faults.stall_probability,
            "silence": faults.silence_probability,
        }
        self.trouble_probability = sum(self._troubles.values())

    def draw_trouble(self) -> str:
        """What happens to a write to which something happens."""
        return self.random.choices(list(self._troubles), list(self._troubles.values()))[0]

    def latency_s(self) -> float:
        """Draw a one-way time."""
        return self._latency_min_s + self._latency_range_s * self.random.random()

    def slowness_s(self, transport: SimulatedTransport) -> float:
        """What a way takes longer at the moment."""
        return self.slowed.get((transport.local[0], transport.remote[0]), 0.0)

    def at(self, when_s: float, call: Callable[..., object], *args: Any) -> None:
        """Do something on the wire's behalf: it happens even if the sender dies meanwhile."""
        self.loop.schedule(Handle(call, args, self._context, None, when_s))

    # --- faults --------------------------------------------------------------------------------

    def block(self, source: str, target: str) -> None:
        """Let nothing through from one host to the other, until `unblock` or `heal`."""
        self.blocked[source, target] = self.blocked.get((source, target), 0) + 1
        self.simulation.trace("block", source, target)

    def partition(self, one: str, other: str) -> None:
        """Block both directions."""
        self.block(one, other)
        self.block(other, one)

    def slow(self, source: str, target: str, seconds: float) -> None:
        """Let everything from one host to the other take longer, until `heal`."""
        self.slowed[(source, target)] = seconds
        self.simulation.trace("slow", source, target, seconds)

    def heal(self) -> None:
        """Remove every block and slowness; what was held back arrives now."""
        self.slowed.clear()
        self.no_route.clear()
        self.blocked = dict.fromkeys(self.blocked, 1)
        self.unblock(list(self.blocked))

    def unblock(self, ways: Iterable[tuple[str, str]]) -> None:
        """Let through again from one host to the other; a way blocked twice needs it twice."""
        for source, target in ways:
            left = self.blocked.pop((source, target), 0) - 1
            if left > 0:
                self.blocked[source, target] = left
            self.simulation.trace("unblock", source, target)
        held, self._held = self._held, {}
        for transport in held:
            self.at(self.loop.now_s, self._release, transport)

    def _release(self, transport: SimulatedTransport) -> None:
        if self.is_blocked(transport.local[0], transport.remote[0]):
            self._held[transport] = None  # blocked again at this very moment
            return
        pieces, transport.held = transport.held, []
        for piece in pieces:
            transport.land(piece)

    def cut(self, one: str, other: str) -> None:
        """Reset every connection between two hosts."""
        self.simulation.trace("cut", one, other)
        for transport in list(self.transports):
            if {transport.local[0], transport.remote[0]} == {one, other}:
                transport.fail(ConnectionResetError("simulated cut"))

    def set_down(self, host: str, down: bool) -> None:
        """Take a host from the network, or bring it back."""
        if down:
            self._down[host] = None
        else:
            self._down.pop(host, None)

    def is_up(self, host: str) -> bool:
        """Tell whether a host answers at all."""
        return host not in self._down

    def is_blocked(self, source: str, target: str) -> bool:
        """Tell whether nothing passes from one host to the other."""
        return (source, target) in self.blocked

    def hold(self, transport: SimulatedTransport, piece: bytes | None) -> None:
        """Keep what arrives until the network heals."""
        transport.held.append(piece)
        self._held[transport] = None

    def forget(self, process: SimulatedProcess, *, reset: bool) -> None:
        """Remove everything that a killed process had open."""
        for address, server in list(self.listeners.items()):
            if server.process is process:
                del self.listeners[address]
        for transport in list(self.transports):
            if transport.process is process:
                self.transports.pop(transport)
                transport.lost = True
                if reset and not transport.silent:
                    peer = transport.peer
                    error = ConnectionResetError("reset by peer")
                    self.at(self.loop.now_s + self.latency_s(), peer.tell, peer._lose, error)

    # --- what the loop asks for ----------------------------------------------------------------

    def listen(self, factory: Callable[[], Any], host: str, port: int) -> SimulatedServer:
        """Open a listener; port 0 takes a free one.

        Raises:
            OSError: The address is taken (EADDRINUSE).
        """
        if port == 0:
            port = self._take_port()
        address = (host, port)
        if address in self.listeners:
            raise OSError(98, f"error while attempting to bind on address {address}")
        server = SimulatedServer(self, factory, address)
        self.listeners[address] = server
        return server

    async def connect(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Any, Any]:
        """Open a connection from the current process's host.

        Raises:
            ConnectionRefusedError: The host is up and nobody listens.
            TimeoutError: The host is down or cannot be reached.
            OSError: A router says so (EHOSTUNREACH).
        """
        process = current_process.get()
        source = process.host if process is not None else "127.0.0.1"
        await asyncio.sleep(self.latency_s() + self.latency_s())
        if (source, host) in self.no_route:
            raise OSError(113, "no route to host")
        for pause_s in _CONNECT_TRIES_S:
            if self._reaches(source, host):
                break
            await asyncio.sleep(pause_s)
        else:
            raise TimeoutError(110, "simulated connect timeout")
        server = self.listeners.get((host, port))
        if server is None:
            raise ConnectionRefusedError(111, f"nobody listens on {host}:{port}")
        local, remote = (source, self._take_port()), (host, port)
        near = SimulatedTransport(self, local, remote)
        far = server.context.run(SimulatedTransport, self, remote, local)
        near.peer, far.peer = far, near
        near.protocol = factory()
        self.transports[near] = self.transports[far] = None
        self.simulation.trace("connect", source, local[1], host, port)
        near.protocol.connection_made(near)
        self.loop.call_soon(far.accepted, server, context=far._context)
        return near, near.protocol

    def _reaches(self, one: str, other: str) -> bool:
        blocked = self.is_blocked(one, other) or self.is_blocked(other, one)
        return not blocked and self.is_up(other)

    def _take_port(self) -> int:
        self._next_port += 1
        return self._next_port
