"""The tasks behind ``submit``: one for each leader that has batches, and one that looks around.

The same loops as in the blocking shell; all decisions are the sender's (``_sender``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from streambus_client._aio._signal import Signal
from streambus_client._callbacks import call_back
from streambus_client._encoding import encode_pending
from streambus_client._operations import refresh
from streambus_client._producing import new_sequencer
from streambus_client.errors import ClientError, ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup

    from streambus_client._aio._connection import AsyncConnectionPool
    from streambus_client._operations import Look
    from streambus_client._producing import ProducerCore
    from streambus_client._sender import Callbacks, ProduceCall
    from streambus_protocol import ProduceResponse


class AsyncBackground:
    """The tasks of one producer; they begin with the first submit.

    Args:
        core: the decisions.
        pool: the connections for batches; apart from those for single sends and metadata.
        carry_out: carries out operations.
    """

    def __init__(
        self,
        core: ProducerCore,
        pool: AsyncConnectionPool,
        carry_out: Callable[[Any], Awaitable[Any]],
    ) -> None:
        self._core = core
        self._pool = pool
        self._carry_out = carry_out
        self._nodes: set[int] = set()
        self._tasks: TaskGroup | None = None
        self.work = Signal()
        self.room = Signal()
        self.done = Signal()

    def start(self, tasks: TaskGroup) -> None:
        """Start the looking-around task in ``tasks``, if it does not run yet."""
        if self._tasks is None:
            self._tasks = tasks
            tasks.start_soon(self._look_around)

    async def _look_around(self) -> None:
        """Expire what is overdue, find leaders, and see that each leader has its task."""
        core, clock = self._core, self._core.session.clock
        while True:
            now = clock()
            callbacks = core.sender.expire(now)
            topics = core.sender.topics_without_leader(now)
            needs_sequencer = core.sender.needs_sequencer(now)
            for node in core.sender.nodes_due(now) - self._nodes:
                assert self._tasks is not None
                self._nodes.add(node)
                self._tasks.start_soon(self._serve, node)
            if callbacks:
                self._finish(callbacks)
            if needs_sequencer:
                await self._take_sequencer()
            if topics:
                await self._find_leaders(topics)
            elif not callbacks and not needs_sequencer:
                await self.work.wait(core.sender.pause_s(now))

    async def _take_sequencer(self) -> None:
        session, sender = self._core.session, self._core.sender
        callbacks: Callbacks = []
        try:
            operation = new_sequencer(session, sender.look_around_until(session.clock()))
            sender.sequencer = await self._carry_out(operation)
        except ClientError as error:
            callbacks = sender.sequencer_failed(error, session.clock())
        self.work.notify()
        self._finish(callbacks)

    async def _find_leaders(self, topics: list[str]) -> None:
        session, sender = self._core.session, self._core.sender
        until = sender.look_around_until(session.clock())
        failure: ClientError | None = None
        try:
            await self._carry_out(refresh(session, topics, until))
        except ClientError as error:
            failure = error
        now = session.clock()
        callbacks: Callbacks = []
        for topic in topics:
            reason = failure or sender.missing_error(topic, session.cluster.missing.get(topic))
            if reason is not None:
                callbacks += sender.metadata_failed([topic], reason, now)
        self.work.notify()
        self._finish(callbacks)

    async def _serve(self, node: int) -> None:
        """Send to one leader, a request at a time, until the producer stops."""
        core, clock = self._core, self._core.session.clock
        while True:
            now = clock()
            call = core.sender.take(node, now)
            if call is None:
                await self.work.wait(core.sender.pause_s(now))
                continue
            await self._deliver(call)

    async def _deliver(self, call: ProduceCall) -> None:
        core = self._core
        answer: ProduceResponse | None = None
        failure: ClientError | None = None
        if self._encode(call):
            try:
                answer = await self._exchange(call)
            except ClientError as error:
                failure = error
        now = core.session.clock()
        callbacks: Callbacks = []
        if not call.batches:
            core.sender.given_back(call)
        elif failure is not None:
            callbacks = core.sender.failed(call, failure, now)
        else:
            callbacks = core.sender.succeeded(call, answer, now)
        self.work.notify()
        self._finish(callbacks)

    def _encode(self, call: ProduceCall) -> bool:
        """Encode what is not yet; batches that cannot be end here. Whether anything is left."""
        for batch in list(call.batches):
            try:
                encode_pending(batch, self._core.options.codec)
            except ClientError as error:
                self._finish(self._core.sender.unencodable(call, batch, error))
        return bool(call.batches)

    async def _exchange(self, call: ProduceCall) -> ProduceResponse | None:
        core = self._core
        session = core.session
        address = session.cluster.brokers.get(call.node_id)
        if address is None or self._tasks is None:
            raise ConnectionLostError(f"broker {call.node_id}", "it left the cluster")
        timeout_s = core.sender.patience_s(call, session.clock())
        connect_s = min(timeout_s, core.sender.connect_patience_s(call))
        connection = await self._pool.connect(
            address, session.cluster.cluster_id, self._tasks, connect_s
        )
        look = core.sender.look(call)
        answer: ProduceResponse | None = await connection.call(
            call.request(core.options.acks, core.ack_timeout_ms),
            timeout_s,
            answered=core.options.acks != 0,
            gives_up=None if look is None else partial(self._give_up, look),
        )
        return answer

    async def _give_up(self, look: Look) -> bool:
        gives_up: bool = await self._carry_out(look())
        return gives_up

    def _finish(self, callbacks: Callbacks) -> None:
        """Tell everybody who waits, then call back."""
        self.room.notify()
        self.done.notify()
        call_back(callbacks)
