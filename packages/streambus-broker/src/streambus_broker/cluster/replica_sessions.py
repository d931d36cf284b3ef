"""The leader's side of replication: followers' sessions, their long polls, what each is sent.

A session belongs to a connection and ends with it. It knows the position of every partition that
the follower named; ``due`` holds those that have something to send. A partition that was sent is
not looked at again before the follower names its new position, however often it asks for others
meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streambus_broker.cluster.copying import Rate
from streambus_broker.metadata.registry import CommandError
from streambus_broker.network.connection import response_frame
from streambus_protocol import (
    FRAME_BYTES_MAX,
    ApiKey,
    ErrorCode,
    ReplicaData,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReplicaPosition,
    ReplicaProgressRequest,
    decode_message,
    encode_message,
)
from streambus_storage import StorageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from streambus_broker.cluster.brokers import BrokerRecord
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.throttle import Throttle
    from streambus_broker.network.connection import Connection

_ROOM_BYTES = 256 * 1024
_ANSWER_BYTES_MAX = FRAME_BYTES_MAX - _ROOM_BYTES
_THROTTLE_POLL_S = 0.1
_TELL_S = 0.002
_READ_FROM_S = 3600.0


class _Session:
    """One follower's connection."""

    __slots__ = (
        "broker_epoch",
        "broker_id",
        "bytes_max",
        "due",
        "looking",
        "polling",
        "positions",
        "sent",
        "stale",
        "telling",
        "timer",
        "waiting",
    )

    def __init__(self, broker_id: int, broker_epoch: int) -> None:
        self.broker_id = broker_id
        self.broker_epoch = broker_epoch
        self.bytes_max = 0
        self.positions: dict[int, ReplicaPosition] = {}
        self.due: dict[int, None] = {}
        self.sent: set[int] = set()  # from the position that is known; the next one is on its way
        self.stale: dict[int, None] = {}  # only the high watermark is news
        self.waiting: tuple[int, int] | None = None  # version and correlation id of the long poll
        self.timer: asyncio.TimerHandle | None = None
        self.looking = False  # what is due will be looked at in this turn of the loop
        self.polling = False  # and a little later, because the throttle left something
        self.telling = False  # it will soon be told what is stale


class ReplicaSessions:
    """See the module.

    Attributes:
        sent_bytes: Bytes of batches sent to followers.
        throttle: For replicas that are not in sync.
        rates: How fast these are copied, by partition id and follower.
    """

    def __init__(self, node: ClusterNode, throttle: Throttle) -> None:
        self.sent_bytes = 0
        self.throttle = throttle
        self.rates: dict[tuple[int, int], Rate] = {}
        self._node = node
        self._sessions: dict[Connection, _Session] = {}
        self._followers: dict[int, dict[Connection, None]] = {}
        self._read_until_s: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def waiting_count(self) -> int:
        """Followers that are connected, and wait for something new."""
        return sum(
            session.waiting is not None and not connection.transport.is_closing()
            for connection, session in self._sessions.items()
        )

    # --- requests ------------------------------------------------------------------------------

    def fetch(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes | None:
        """Serve REPLICA_FETCH.

        Raises:
            ProtocolError: It cannot be read.
        """
        request = decode_message(ReplicaFetchRequest, body, version)
        problem = self._stranger(request)
        if problem is not None:
            self._end(connection)
            response = ReplicaFetchResponse(problem.code, problem.detail, ())
            return _frame(version, correlation_id, response)
        session = self._sessions.get(connection)
        asking = request.broker_id, request.broker_epoch
        if session is None or (session.broker_id, session.broker_epoch) != asking:
            self._end_all_of(request.broker_id)
            self._end(connection)
            session = _Session(request.broker_id, request.broker_epoch)
            self._sessions[connection] = session
        elif session.waiting is not None:  # the follower has news, and wants its turn now
            self._answer(connection, session)
        session.bytes_max = min(request.bytes_max, _ANSWER_BYTES_MAX)
        for partition_id in request.forgotten:
            self._forget(connection, session, partition_id)
        errors = []
        for position in request.partitions:
            answer = self._take_position(connection, session, position)
            if answer is not None:
                errors.append(answer)
        answers = errors + self._gather(session)
        if answers or not request.wait_max_ms:
            answers += self._watermarks(session)
            return _frame(version, correlation_id, ReplicaFetchResponse(0, None, tuple(answers)))
        if self._node.closing and not session.positions:
            # It follows nothing here, and its waits would be waited for, one after the other.
            self._end(connection)
            detail = "this broker is shutting down"
            response = ReplicaFetchResponse(ErrorCode.BROKER_SHUTTING_DOWN, detail, ())
            return _frame(version, correlation_id, response)
        connection.pending += 1
        session.waiting = (version, correlation_id)
        delay_s = request.wait_max_ms / 1000
        session.timer = self._node.loop.call_later(delay_s, self._expired, connection)
        self._tell_soon(connection, session)
        return None

    def progress(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> None:
        """Serve REPLICA_PROGRESS; it is not answered.

        Raises:
            ProtocolError: It cannot be read.
        """
        del correlation_id
        request = decode_message(ReplicaProgressRequest, body, version)
        session = self._sessions.get(connection)
        if session is None:
            return
        node = self._node
        now_s = node.loop.time()
        for partition_id, leader_epoch, durable in request.partitions:
            position = session.positions.get(partition_id)
            replica = node.replicas.get(partition_id)
            if position is None or replica is None or replica.leading is None:
                continue
            if position.leader_epoch != leader_epoch or (
                replica.stored.log.leader_epoch != leader_epoch
            ):
                continue
            replica.leading.progressed(session.broker_id, durable, now_s)
            node.watermark_moved(replica)

    def _stranger(self, request: ReplicaFetchRequest) -> CommandError | None:
        """Why the sender is no broker in session, or None."""
        try:
            self._node.state.broker_asking(
                request.broker_id, request.broker_epoch, request.incarnation
            )
        except CommandError as error:
            return error
        return None

    def _take_position(
        self, connection: Connection, session: _Session, position: ReplicaPosition
    ) -> ReplicaData | None:
        """Judge a position that a follower named; give an answer where that ends it."""
        node = self._node
        partition_id = position.partition_id
        self._forget(connection, session, partition_id)
        replica = node.replicas.get(partition_id)
        if replica is None or replica.leading is None:
            return _error(position, ErrorCode.NOT_LEADER)
        log, epochs = replica.stored.log, replica.stored.epochs
        if position.leader_epoch != log.leader_epoch:
            old = position.leader_epoch < log.leader_epoch
            code = ErrorCode.FENCED_LEADER_EPOCH if old else ErrorCode.UNKNOWN_LEADER_EPOCH
            return _error(position, code)
        if session.broker_id not in replica.leading.followers:
            return _error(position, ErrorCode.INVALID_REQUEST)
        diverging = epochs.divergence(position.offset, position.last_epoch, log.next_offset)
        if diverging is not None and diverging.end_offset >= 0:
            return ReplicaData(
                partition_id, 0, log.leader_epoch, log.high_watermark, log.log_start_offset,
                diverging.epoch, diverging.end_offset, b"",
            )  # fmt: skip
        if diverging is not None or not (
            log.log_start_offset <= position.offset <= log.next_offset
        ):
            return _error(position, ErrorCode.OFFSET_OUT_OF_RANGE, log.log_start_offset)
        session.positions[partition_id] = position
        self._followers.setdefault(partition_id, {})[connection] = None
        replica.leading.fetched(
            session.broker_id, position.offset, position.durable, node.loop.time()
        )
        node.watermark_moved(replica)
        if position.offset < log.next_offset:
            session.due[partition_id] = None
        else:
            session.stale[partition_id] = None
        return None

    # --- what happens --------------------------------------------------------------------------

    def grown(self, partition_id: int) -> None:
        """A leader's log has grown: followers that wait are answered."""
        for connection in self._followers.get(partition_id, ()):
            session = self._sessions[connection]
            if partition_id in session.sent:
                continue
            session.due[partition_id] = None
            if session.waiting is not None and not session.looking:
                session.looking = True
                self._node.loop.call_soon(self._look, connection, session)

    def watermark_moved(self, partition_id: int) -> None:
        """Followers learn it with the next answer; where consumers wait for it, with its own."""
        for connection in self._followers.get(partition_id, ()):
            session = self._sessions[connection]
            session.stale[partition_id] = None
            self._tell_soon(connection, session)

    def read_from(self, broker_id: int) -> None:
        """A consumer was sent to this follower, and will come back before this is forgotten."""
        now_s = self._node.loop.time()
        news = self._read_until_s.get(broker_id, 0.0) < now_s
        self._read_until_s[broker_id] = now_s + _READ_FROM_S
        if news:
            for connection, session in self._sessions.items():
                if session.broker_id == broker_id:
                    self._tell_soon(connection, session)

    def _tell_soon(self, connection: Connection, session: _Session) -> None:
        """Tell a follower that is read from what is committed, if records do not do so before.

        An answer of its own costs both brokers a turn (KIP-392 has it, too); so it waits for a
        moment, in which a busy partition has records to send anyway.
        """
        if session.telling or session.waiting is None or not session.stale:
            return
        until_s = self._read_until_s.get(session.broker_id)
        if until_s is None:
            return
        if until_s < self._node.loop.time():
            del self._read_until_s[session.broker_id]
            return
        session.telling = True
        self._node.loop.call_later(_TELL_S, self._tell, connection, session)

    def _tell(self, connection: Connection, session: _Session) -> None:
        session.telling = False
        if self._sessions.get(connection) is not session:
            return
        if session.waiting is not None and session.stale:
            self._answer(connection, session)
            self._node.server.flush_dirty()

    def ended(self, partition_id: int) -> None:
        """This broker leads the partition no more, or in another epoch."""
        for pair in [each for each in self.rates if each[0] == partition_id]:
            del self.rates[pair]
        for connection in self._followers.pop(partition_id, {}):
            session = self._sessions[connection]
            session.positions.pop(partition_id, None)
            session.due.pop(partition_id, None)
            session.sent.discard(partition_id)
            session.stale.pop(partition_id, None)

    def sweep(self) -> None:
        """End the sessions of connections that are gone."""
        for connection in [each for each in self._sessions if each.transport.is_closing()]:
            self._end(connection)

    def _end_all_of(self, broker_id: int) -> None:
        """End a follower's older sessions: ended later, they would undo what the new one says.

        Their connections end too, so that whoever still uses one begins anew and names everything.
        """
        for connection in [
            each for each, session in self._sessions.items() if session.broker_id == broker_id
        ]:
            self._end(connection)
            connection.transport.abort()

    def brokers_changed(self, brokers: Iterable[BrokerRecord]) -> None:
        """Brokers have other sessions with the cluster by now: what they said before is void.

        It may have been said of a disk that is gone, over a connection of which nobody here knows
        that it is dead. Counted on, it would have them in sync with nothing (KIP-903).
        """
        epochs = {broker.broker_id: broker.epoch for broker in brokers}
        for connection, session in list(self._sessions.items()):
            if epochs.get(session.broker_id, session.broker_epoch) != session.broker_epoch:
                self._end(connection)
                connection.transport.abort()

    def close(self) -> None:
        """Answer everybody: this broker shuts down."""
        for connection in list(self._sessions):
            self._end(connection)
        self._node.server.flush_dirty()

    def _end(self, connection: Connection) -> None:
        session = self._sessions.get(connection)
        if session is None:
            return
        if session.waiting is not None:
            self._answer(connection, session)
        for partition_id in list(session.positions):
            self._forget(connection, session, partition_id)
            replica = self._node.replicas.get(partition_id)
            if replica is not None and replica.leading is not None:
                replica.leading.lost(session.broker_id)
        del self._sessions[connection]

    def _forget(self, connection: Connection, session: _Session, partition_id: int) -> None:
        if session.positions.pop(partition_id, None) is None:
            return
        session.due.pop(partition_id, None)
        session.sent.discard(partition_id)
        session.stale.pop(partition_id, None)
        followers = self._followers.get(partition_id)
        if followers is not None:
            followers.pop(connection, None)
            if not followers:
                del self._followers[partition_id]

    # --- answers -------------------------------------------------------------------------------

    def _expired(self, connection: Connection) -> None:
        session = self._sessions.get(connection)
        if session is not None and session.waiting is not None:
            self._answer(connection, session)
            self._node.server.flush_dirty()

    def _look(self, connection: Connection, session: _Session) -> None:
        """Answer a follower that waits, if anything may be sent to it."""
        session.looking = False
        if session.waiting is None:
            return
        answers = self._gather(session)
        if answers:
            self._answer(connection, session, answers)
            self._node.server.flush_dirty()
        elif session.due and not session.polling:  # throttled: look again when there is room
            session.polling = True
            self._node.loop.call_later(_THROTTLE_POLL_S, self._poll, connection, session)

    def _poll(self, connection: Connection, session: _Session) -> None:
        session.polling = False
        self._look(connection, session)

    def _answer(
        self, connection: Connection, session: _Session, answers: list[ReplicaData] | None = None
    ) -> None:
        assert session.waiting is not None
        version, correlation_id = session.waiting
        session.waiting = None
        if session.timer is not None:
            session.timer.cancel()
        found = self._gather(session) if answers is None else answers
        found += self._watermarks(session)
        connection.answer_later(
            _frame(version, correlation_id, ReplicaFetchResponse(0, None, tuple(found)))
        )

    def _gather(self, session: _Session) -> list[ReplicaData]:
        """Read what is due, up to the size that the follower takes."""
        node = self._node
        answers: list[ReplicaData] = []
        room_bytes = session.bytes_max
        throttled_bytes = self.throttle.room(node.loop.time())
        for partition_id in list(session.due):
            if room_bytes <= 0:
                break
            position = session.positions.get(partition_id)
            replica = node.replicas.get(partition_id)
            if position is None or replica is None or replica.leading is None:
                del session.due[partition_id]
                continue
            throttled = session.broker_id not in replica.leading.in_sync
            if throttled and throttled_bytes == 0:
                continue
            log = replica.stored.log
            limit_bytes = room_bytes
            if throttled and throttled_bytes is not None:
                limit_bytes = min(room_bytes, throttled_bytes)
            try:
                batches = node.store.read(
                    log, position.offset, limit_bytes, at_least_one=not answers,
                    stop_offset=log.next_offset,
                )  # fmt: skip
            except StorageError as error:
                node.storage_failed("read", error)
                del session.due[partition_id]
                answers.append(_error(position, ErrorCode.STORAGE_FAILED))
                continue
            if not batches:
                if limit_bytes < room_bytes:
                    continue  # it waits for the throttle; others need not
                break
            del session.due[partition_id]
            session.sent.add(partition_id)
            session.stale.pop(partition_id, None)
            room_bytes -= len(batches)
            self.sent_bytes += len(batches)
            if throttled:
                pair = partition_id, session.broker_id
                self.rates.setdefault(pair, Rate()).took(len(batches), node.loop.time())
            else:
                self.rates.pop((partition_id, session.broker_id), None)
            if throttled and throttled_bytes is not None:
                self.throttle.took(len(batches))
                throttled_bytes = max(0, throttled_bytes - len(batches))
            answers.append(_data(partition_id, log, batches))
        return answers

    def _watermarks(self, session: _Session) -> list[ReplicaData]:
        """The high watermarks that the follower does not know yet."""
        stale, session.stale = session.stale, {}
        answers = []
        for partition_id in stale:
            replica = self._node.replicas.get(partition_id)
            if partition_id in session.positions and replica is not None:
                answers.append(_data(partition_id, replica.stored.log, b""))
        return answers


def _data(partition_id: int, log: Any, batches: bytes) -> ReplicaData:
    return ReplicaData(
        partition_id, 0, log.leader_epoch, log.high_watermark, log.log_start_offset, -1, -1, batches
    )


def _error(position: ReplicaPosition, code: ErrorCode, log_start_offset: int = -1) -> ReplicaData:
    return ReplicaData(
        position.partition_id, code, position.leader_epoch, -1, log_start_offset, -1, -1, b""
    )


def _frame(version: int, correlation_id: int, response: ReplicaFetchResponse) -> bytes:
    encoded = encode_message(response, version)
    return response_frame(ApiKey.REPLICA_FETCH, version, correlation_id, encoded)
