"""The threads behind ``submit``: one for each leader that has batches, and one that looks around.

Each loop waits under the producer's lock for something to be due, does its request without the
lock, and reports. All decisions are the sender's (``_sender``).
"""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING

from streambus_client._blocking._connection import BlockingConnection, ConnectionPool
from streambus_client._blocking._driver import run
from streambus_client._callbacks import call_back
from streambus_client._encoding import encode_pending
from streambus_client._operations import refresh
from streambus_client._producing import new_sequencer
from streambus_client.errors import ClientError, ConnectionLostError

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_client._operations import Look
    from streambus_client._producing import ProducerCore
    from streambus_client._sender import Callbacks, ProduceCall
    from streambus_protocol import ProduceResponse


_JOIN_S = 2.0


class Background:
    """The threads of one producer; they begin with the first submit.

    Args:
        core: the decisions.
        pool: for metadata.
        lock: the producer's; guards ``core`` and everything here.
    """

    def __init__(self, core: ProducerCore, pool: ConnectionPool, lock: threading.RLock) -> None:
        self._core = core
        self._pool = pool
        self._lock = lock
        self.work = threading.Condition(lock)
        self.room = threading.Condition(lock)
        self.done = threading.Condition(lock)
        self.broken: ClientError | None = None
        self._stopping = False
        self._threads: dict[int | None, threading.Thread] = {}
        self._connections: dict[int, BlockingConnection] = {}

    def start(self) -> None:
        """Start the looking-around thread, if it does not run yet. Call it with the lock."""
        if None not in self._threads:
            self._spawn(None, "streambus-producer", self._look_around)

    def stop(self) -> None:
        """End all threads, cutting off what is under way.

        Returns when they have ended. One that is in the middle of connecting, which cannot be cut
        off, ends by itself when that times out: it finds nothing left to do.
        """
        with self._lock:
            self._stopping = True
            self.work.notify_all()
            self.room.notify_all()
            connections = list(self._connections.values())
            threads = list(self._threads.values())
        for connection in connections:
            connection.shut()
        for thread in threads:
            thread.join(_JOIN_S)

    def _spawn(
        self, key: int | None, name: str, target: Callable[..., None], *arguments: object
    ) -> None:
        thread = threading.Thread(
            target=self._guard, args=(target, *arguments), name=name, daemon=True
        )
        self._threads[key] = thread
        thread.start()

    def _guard(self, target: Callable[..., None], *arguments: object) -> None:
        """Run a loop; should it fail, which is a bug of ours, no future is left hanging."""
        try:
            target(*arguments)
        except BaseException as error:
            with self._lock:
                self.broken = ClientError(f"the producer's background failed: {error!r}")
                callbacks = self._core.abandon(self.broken)
            self._finish(callbacks)
            raise

    def _look_around(self) -> None:
        """Expire what is overdue, find leaders, and see that each leader has its thread."""
        core, clock = self._core, self._core.session.clock
        while True:
            with self._lock:
                now = clock()
                callbacks = core.sender.expire(now)
                topics = core.sender.topics_without_leader(now)
                needs_sequencer = core.sender.needs_sequencer(now)
                for node in core.sender.nodes_due(now):
                    if node not in self._threads:
                        self._spawn(node, f"streambus-producer-{node}", self._serve, node)
                if not callbacks and not topics and not needs_sequencer:
                    if self._stopping:
                        return
                    self.work.wait(core.sender.pause_s(now))
                    continue
                stopping = self._stopping
            self._finish(callbacks)
            if stopping:
                return
            if needs_sequencer:
                self._take_sequencer()
            if topics:
                self._find_leaders(topics)

    def _take_sequencer(self) -> None:
        session, sender = self._core.session, self._core.sender
        callbacks: Callbacks = []
        try:
            operation = new_sequencer(session, sender.look_around_until(session.clock()))
            sequencer = run(operation, session, self._pool, self._lock)
        except ClientError as error:
            with self._lock:
                callbacks = sender.sequencer_failed(error, session.clock())
        else:
            with self._lock:
                sender.sequencer = sequencer
                self.work.notify_all()
        self._finish(callbacks)

    def _find_leaders(self, topics: list[str]) -> None:
        session = self._core.session
        until = self._core.sender.look_around_until(session.clock())
        try:
            run(refresh(session, topics, until), session, self._pool, self._lock)
            failure = None
        except ClientError as error:
            failure = error
        with self._lock:
            now = session.clock()
            callbacks: Callbacks = []
            for topic in topics:
                code = session.cluster.missing.get(topic)
                reason = failure or self._core.sender.missing_error(topic, code)
                if reason is not None:
                    callbacks += self._core.sender.metadata_failed([topic], reason, now)
            self.work.notify_all()
        self._finish(callbacks)

    def _serve(self, node: int) -> None:
        """Send to one leader, a request at a time, until the producer stops."""
        core, clock = self._core, self._core.session.clock
        while True:
            with self._lock:
                now = clock()
                call = None if self._stopping else core.sender.take(node, now)
                if call is None:
                    if self._stopping:
                        self._forget(node)
                        return
                    self.work.wait(core.sender.pause_s(now))
                    continue
            self._deliver(call)

    def _deliver(self, call: ProduceCall) -> None:
        core = self._core
        answer: ProduceResponse | None = None
        failure: ClientError | None = None
        try:
            if self._encode(call):
                answer = self._exchange(call)
        except ClientError as error:
            failure = error
        with self._lock:
            now = core.session.clock()
            if not call.batches:
                core.sender.given_back(call)
                callbacks: Callbacks = []
            elif failure is not None:
                callbacks = core.sender.failed(call, failure, now)
            else:
                callbacks = core.sender.succeeded(call, answer, now)
            self.work.notify_all()
        self._finish(callbacks)

    def _encode(self, call: ProduceCall) -> bool:
        """Encode what is not yet; batches that cannot be end here. Whether anything is left."""
        for batch in list(call.batches):
            try:
                encode_pending(batch, self._core.options.codec)
            except ClientError as error:
                with self._lock:
                    callbacks = self._core.sender.unencodable(call, batch, error)
                self._finish(callbacks)
        return bool(call.batches)

    def _exchange(self, call: ProduceCall) -> ProduceResponse | None:
        """One request and its answer; meanwhile the batch behind it is encoded."""
        core = self._core
        timeout_s = core.sender.patience_s(call, core.session.clock())
        connect_s = min(timeout_s, core.sender.connect_patience_s(call))
        connection = self._connection(call.node_id, connect_s)
        request = call.request(core.options.acks, core.ack_timeout_ms)
        if core.options.acks == 0:
            connection.call(request, timeout_s, answered=False)
            return None
        correlation_id = connection.begin(request)
        with self._lock:
            follower = core.sender.encode_ahead(call)
        if follower is not None:
            with contextlib.suppress(ClientError):  # its own turn will find and report it
                encode_pending(follower, core.options.codec)
        look = core.sender.look(call)
        gives_up = None if look is None else partial(self._carry_out, look)
        answer: ProduceResponse = connection.finish(correlation_id, timeout_s, gives_up)
        return answer

    def _carry_out(self, look: Look) -> bool:
        return run(look(), self._core.session, self._pool, self._lock)

    def _connection(self, node: int, timeout_s: float) -> BlockingConnection:
        connection = self._connections.get(node)
        session = self._core.session
        address = session.cluster.brokers.get(node)
        if address is None:
            raise ConnectionLostError(f"broker {node}", "it left the cluster")
        if connection is None or connection.closed or connection.address != address:
            connection = BlockingConnection(
                address,
                session.options,
                session.cluster.cluster_id,
                min(timeout_s, session.options.connect_timeout_s),
                partial(self._opening, node),
            )
        return connection

    def _opening(self, node: int, connection: BlockingConnection) -> None:
        with self._lock:
            self._connections[node] = connection
            if self._stopping:
                raise ConnectionLostError(connection.name, "the producer was closed")

    def _forget(self, node: int) -> None:
        connection = self._connections.pop(node, None)
        if connection is not None:
            connection.close()

    def _finish(self, callbacks: Callbacks) -> None:
        """Tell everybody who waits, then call back, without the lock."""
        with self._lock:
            self.room.notify_all()
            self.done.notify_all()
        call_back(callbacks)
