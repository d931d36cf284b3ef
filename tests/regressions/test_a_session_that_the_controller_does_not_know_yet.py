"""Found by the simulator: a broker registered, and once more within 70 ms.

The controller had not applied the registration yet when the first heartbeat came, took the session
for one that was over, and said so. The second session cost the broker what it led in the first.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streambus_protocol import ErrorCode
from tests.cluster.calm import CalmCluster

if TYPE_CHECKING:
    from streambus_protocol import BrokerHeartbeatRequest, BrokerHeartbeatResponse

AHEAD = 1_000_000


def test_who_knows_more_than_the_controller_asks_again() -> None:
    cluster = CalmCluster(11)

    async def script() -> None:
        await cluster.ready()
        controller = cluster.controller()
        broker = controller.broker
        assert broker is not None
        came = broker.member.heartbeat_came
        codes: list[int] = []

        def behind(request: BrokerHeartbeatRequest) -> BrokerHeartbeatResponse:
            # As if all that this controller has applied came before the sender's registration.
            answer = came(request._replace(broker_epoch=request.broker_epoch + AHEAD))
            codes.append(answer.error)
            return answer

        sessions = dict(broker.node.state.sessions)
        broker.member.heartbeat_came = behind  # type: ignore[method-assign]  # of this one
        await cluster.until(lambda: len(codes) >= 6, "heartbeats")
        broker.member.heartbeat_came = came  # type: ignore[method-assign]  # as it was
        assert set(codes) == {ErrorCode.OFFSET_NOT_AVAILABLE}
        await asyncio.sleep(2.0)  # longer than a session
        assert broker.node.state.sessions == sessions
        assert all(host.node is not None and not host.node.lapsed() for host in cluster.hosts.all)

    cluster.run(script)
