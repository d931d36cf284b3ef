from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from tests.support.simulation import Faults, Simulation, SimulationError

SERVER, CLIENT = "10.0.0.1", "10.0.0.2"


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def serve() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Echo, SERVER, 7)
    await asyncio.sleep(1e6)


async def exchange(count: int) -> bytes:
    received = b""
    async with await anyio.connect_tcp(SERVER, 7) as stream:
        for number in range(count):
            await stream.send(b"%d;" % number)
            await anyio.sleep(0.01)
        while received.count(b";") < count:
            received += await stream.receive()
    return received


def run_echo(seed: int) -> tuple[bytes, str, float]:
    simulation = Simulation(seed, Faults(split_probability=0.5))

    async def main() -> bytes:
        simulation.process("server", SERVER).start(serve)
        await asyncio.sleep(0.01)
        result: bytes = await simulation.process("client", CLIENT).start(exchange, 50)
        return result

    received = simulation.run(main)
    return received, simulation.digest, simulation.loop.time()


def test_anyio_code_runs_unchanged_and_bytes_keep_their_order() -> None:
    received, _, elapsed_s = run_echo(1)
    assert received == b"".join(b"%d;" % number for number in range(50))
    assert 0.5 < elapsed_s < 2


def test_a_seed_repeats_exactly_and_another_differs() -> None:
    assert run_echo(7)[1:] == run_echo(7)[1:]
    assert run_echo(7)[1] != run_echo(8)[1]


def test_a_day_passes_in_no_time() -> None:
    simulation = Simulation(0)

    async def main() -> float:
        await asyncio.sleep(86_000)
        return simulation.loop.time()

    assert simulation.run(main) >= 86_000


def test_a_deadlock_is_reported() -> None:
    simulation = Simulation(0)

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        simulation.run(main, limit_s=10)


def test_a_killed_process_vanishes_between_two_instructions() -> None:
    simulation = Simulation(3)
    seen: list[str] = []

    async def victim() -> None:
        try:
            while True:
                seen.append("step")
                await asyncio.sleep(1)
        finally:
            await asyncio.sleep(1)
            seen.append("cleaned up")

    async def main() -> None:
        process = simulation.process("victim", SERVER)
        process.start(victim)
        await asyncio.sleep(2.5)
        process.kill()
        await asyncio.sleep(10)

    simulation.run(main)
    assert seen == ["step"] * 3


@pytest.mark.parametrize("power_loss", [False, True])
def test_the_peer_of_a_killed_process_hears_a_reset_or_nothing(power_loss: bool) -> None:
    simulation = Simulation(4)

    async def client() -> str:
        async with await anyio.connect_tcp(SERVER, 7) as stream:
            await stream.send(b"x")
            await stream.receive()
            server.kill(power_loss=power_loss)
            simulation.network.set_down(SERVER, down=power_loss)
            with anyio.move_on_after(5):
                try:
                    await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return "reset"
            return "silence"

    async def main() -> str:
        server.start(serve)
        await asyncio.sleep(0.01)
        result: str = await simulation.process("client", CLIENT).start(client)
        return result

    server = simulation.process("server", SERVER)
    assert simulation.run(main) == ("silence" if power_loss else "reset")


def test_a_partition_holds_bytes_until_it_heals() -> None:
    simulation = Simulation(5)

    async def client() -> float:
        async with await anyio.connect_tcp(SERVER, 7) as stream:
            simulation.network.partition(SERVER, CLIENT)
            await stream.send(b"x")
            asyncio.get_running_loop().call_later(30, simulation.network.heal)
            await stream.receive()
            return simulation.loop.time()

    async def main() -> float:
        simulation.process("server", SERVER).start(serve)
        await asyncio.sleep(0.01)
        result: float = await simulation.process("client", CLIENT).start(client)
        return result

    assert simulation.run(main) >= 30


def test_nobody_listening_is_refused_and_a_dead_host_times_out() -> None:
    simulation = Simulation(6)

    async def main() -> None:
        with pytest.raises(OSError, match="nobody listens"):
            await simulation.network.connect(Echo, SERVER, 9)
        simulation.network.set_down(SERVER, down=True)
        with pytest.raises(TimeoutError):
            await simulation.network.connect(Echo, SERVER, 9)

    simulation.run(main)


def test_a_slow_reader_pauses_the_writer() -> None:
    simulation = Simulation(8)
    sent = 0

    async def slow() -> None:
        class Slow(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                transport.pause_reading()

        await asyncio.get_running_loop().create_server(Slow, SERVER, 7)
        await asyncio.sleep(1e6)

    async def client() -> None:
        nonlocal sent
        async with await anyio.connect_tcp(SERVER, 7) as stream:
            with anyio.move_on_after(5):
                while True:
                    await stream.send(b"x" * 100_000)
                    sent += 1

    async def main() -> None:
        simulation.process("server", SERVER).start(slow)
        await asyncio.sleep(0.01)
        await simulation.process("client", CLIENT).start(client)

    simulation.run(main)
    assert sent <= 2


def test_an_unhandled_error_fails_the_run() -> None:
    simulation = Simulation(9)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(SimulationError, match="seed 9"):
        simulation.run(main)
