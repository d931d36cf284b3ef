"""A loss of power soon after the first start took the data directory itself, and all in it.

The trees synced the directories that they live in, but nobody the one above the data directory.
Found by ``simulate broker``, seed 3.
"""

from __future__ import annotations

from streambus_client import AsyncProducer
from tests.broker.scenario import ADDRESS, Scenario
from tests.support.clients import TOPIC


def test_what_was_durable_survives_a_power_loss_that_keeps_only_what_was_synced() -> None:
    scenario = Scenario(0)

    async def main() -> int:
        clients = scenario.simulation.process("clients", "10.0.0.2")
        scenario._start_broker()
        await clients.start(scenario.clients.create_topic)

        async def send() -> int:
            async with AsyncProducer(ADDRESS, acks="all") as producer:
                return (await producer.send(TOPIC, b"v", partition=0)).offset

        first: int = await clients.start(send)
        scenario.broker.kill(power_loss=True)
        scenario.disk = scenario.disk.power_cut(scenario.random, "drop")
        scenario._start_broker()
        second: int = await clients.start(send)
        assert first == 0
        return second

    assert scenario.simulation.run(main) == 1
