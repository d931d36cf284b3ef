"""The follower's side of replication: one task and one connection for each leader.

The decisions are `FollowerSession`'s; here they are carried out on the logs, and what was synced is
told to the leader as soon as it is known, on the same connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streambus_broker.cluster.follower import Append, FollowerSession, StartOver, Truncate
from streambus_broker.cluster.peers import PeerConnection, PeerError, connect
from streambus_broker.cluster.replica import NOBODY
from streambus_protocol import (
    ApiKey,
    ProtocolError,
    ReplicaDurable,
    ReplicaFetchRequest,
    ReplicaFetchResponse,
    ReplicaProgressRequest,
)
from streambus_storage import StorageError

if TYPE_CHECKING:
    from streambus_broker.cluster.brokers import BrokerRecord
    from streambus_broker.cluster.follower import Action
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.replica import Replica

_WAIT_MS = 500
_BYTES_MAX = 8 * 1024 * 1024
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.05, 0.4
_TIMEOUT_S = 2.0
_PATIENCE_S = _WAIT_MS / 1000 + _TIMEOUT_S  # a leader that is silent for longer is given up
_SILENCE_S = 3 * _WAIT_MS / 1000
"""Before that, consumers are sent back to it. An answer may be late by a whole wait, and its place
is taken by another one a wait later."""
_LINGER_S = 10.0
"""With nothing to follow, for so long a connection is kept: leadership often comes back soon."""
_PIPELINED_MAX = 2  # a long poll, and the request that ends it


class Fetcher:
    """Follows all the partitions that one broker leads."""

    def __init__(self, node: ClusterNode, leader: int) -> None:
        self.leader = leader
        self.session = FollowerSession()
        self.fetched_bytes = 0
        self._node = node
        self._woken = False  # there is news of our own to tell the leader
        self._sleeper: asyncio.Future[None] | None = None
        self._hears_news = False
        self._durable: dict[int, ReplicaDurable] = {}
        self._link: PeerConnection | None = None
        self._telling = False
        self._wanted = asyncio.Event()
        self._problem = ""

    def follow(self, replica: Replica) -> None:
        """Follow a partition, from where its log ends."""
        stored = replica.stored
        end = stored.log.next_offset
        self.session.follow(
            replica.partition_id,
            replica.record.leader_epoch,
            end,
            stored.epochs.epoch_before(end),
            stored.durable,
        )
        self._wanted.set()
        self._wake()
        if stored.durable < end:
            self._sync(replica)

    def _wake(self) -> None:
        """Have the leader told what is new here, as soon as a request may be made."""
        self._woken = True
        if self._hears_news:
            self._stir()

    def _stir(self, _: object = None) -> None:
        sleeper = self._sleeper
        if sleeper is not None and not sleeper.done():
            sleeper.set_result(None)

    def forget(self, partition_id: int) -> None:
        """Follow a partition no more."""
        if partition_id in self.session.partitions:
            self.session.forget(partition_id)
            self._wake()

    def disconnect(self) -> None:
        """Begin a new session: one of the two brokers has."""
        if self._link is not None:
            self._link.close()

    async def run(self) -> None:
        """Follow for ever: connect, fetch until it breaks, connect again.

        With nothing to follow it rests. What goes wrong in an unforeseen way is told, and tried
        again: nobody else would follow.
        """
        node = self._node
        pause_s = _PAUSE_S_MIN
        while True:
            if not self.session.partitions:
                self._wanted.clear()
                await self._wanted.wait()
            began_s = node.loop.time()
            try:
                await self._follow_once()
            except PeerError as error:
                self._complain(str(error))
            except Exception as error:  # noqa: BLE001 - a fault of our own
                node.server.unexpected(ApiKey.REPLICA_FETCH, error)
            finally:
                if self._link is not None:
                    self._link.close()
                    self._link = None
                self.session.lost()
            if node.loop.time() - began_s > 1.0:
                pause_s = _PAUSE_S_MIN
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    def _complain(self, problem: str) -> None:
        """Log why the leader cannot be followed; the same reason once."""
        if problem != self._problem:
            self._problem = problem
            self._node.cluster_logger.info("follow", problem, leader=self.leader)

    async def _follow_once(self) -> None:
        node = self._node
        broker = node.state.brokers.get(self.leader)
        if broker is None or node.me is None:
            return
        self._link = link = await connect(
            broker.host,
            broker.port,
            cluster_id=node.state.cluster.cluster_id,
            expect=self.leader,
            timeout_s=_TIMEOUT_S,
        )
        self.session.restart()
        self._durable.clear()
        self._problem = ""
        asked: list[tuple[float, asyncio.Future[ReplicaFetchResponse]]] = []
        heard_s = followed_s = node.loop.time()
        self._wake()
        while True:
            if self.session.partitions:
                followed_s = node.loop.time()
            elif not asked and node.loop.time() - followed_s > _LINGER_S:
                return
            if not asked or (self._woken and len(asked) < _PIPELINED_MAX):
                self._woken = False
                answer = link.ask(self._request(), ReplicaFetchResponse)
                asked.append((node.loop.time(), answer))
            news = len(asked) < _PIPELINED_MAX
            asked_s, answer = asked[0]
            due_s, now_s = max(asked_s, heard_s) + _PATIENCE_S, node.loop.time()
            wakes_s, retry_s = due_s, self.session.retry_at_s
            if retry_s and news:  # else what rests has to wait for an answer
                if retry_s <= now_s:
                    self._wake()
                wakes_s = min(due_s, retry_s)
            await self._sleep(answer, max(0.01, wakes_s - now_s), news=news)
            if answer.done():
                del asked[0]
                heard_s = node.loop.time()
                self._take(answer.result(), asked_s)
            elif node.loop.time() >= due_s:
                raise PeerError(f"broker {self.leader} does not answer")

    async def _sleep(
        self, answer: asyncio.Future[ReplicaFetchResponse], timeout_s: float, *, news: bool
    ) -> None:
        """Wait for the answer, or besides for news of our own, or until the time is over."""
        if not (answer.done() or (news and self._woken)):
            loop = self._node.loop
            self._sleeper, self._hears_news = loop.create_future(), news
            answer.add_done_callback(self._stir)
            timer = loop.call_later(timeout_s, self._stir)
            try:
                await self._sleeper
            finally:
                timer.cancel()
                answer.remove_done_callback(self._stir)
                self._sleeper, self._hears_news = None, False

    def _request(self) -> ReplicaFetchRequest:
        node = self._node
        me = node.me
        if me is None:
            raise PeerError("this broker has no session")
        named, forgotten = self.session.request(node.loop.time())
        return ReplicaFetchRequest(
            me.broker_id, me.epoch, me.incarnation, _WAIT_MS, _BYTES_MAX, named, forgotten
        )

    def _take(self, response: ReplicaFetchResponse, asked_s: float) -> None:
        if response.error:
            raise PeerError(response.detail or "refused", response.error)
        now_s = self._node.loop.time()
        for action in self.session.received(response.partitions, now_s, asked_s):
            self._carry_out(action)

    # --- the logs ------------------------------------------------------------------------------

    def _carry_out(self, action: Action) -> None:
        node = self._node
        replica = node.replicas.get(action.partition_id)
        if replica is None or replica.follows != self.leader:
            return
        stored = replica.stored
        log = stored.log
        try:
            match action:
                case Append(_, batches, high_watermark, _):
                    if batches:
                        self._append(replica, batches)
                    if log.advance_high_watermark(min(high_watermark, log.next_offset)):
                        node.readable(log)
                case Truncate(_, leader_end):
                    end = stored.epochs.common_end(leader_end, log.next_offset)
                    self._go_back(replica, end)
                case StartOver(_, offset):
                    node.cluster_logger.info(
                        "follow", "a replica starts over", topic=log.topic,
                        partition=log.partition, offset=offset,
                    )  # fmt: skip
                    stored.start_over(offset)
                    self._moved(replica)
        except StorageError as error:
            node.storage_failed("follow", error)
            self._moved(replica)
            self.session.rests(action.partition_id, node.loop.time())
        except ProtocolError as error:
            node.cluster_logger.error(
                "follow", "a leader sent what cannot be appended", category="cluster",
                topic=log.topic, partition=log.partition, error=str(error),
            )  # fmt: skip
            self._moved(replica)
            self.session.rests(action.partition_id, node.loop.time())

    def _append(self, replica: Replica, batches: bytes) -> None:
        self.fetched_bytes += len(batches)
        try:
            replica.stored.follow(batches)
        finally:
            self._moved(replica)

    def _sync(self, replica: Replica) -> None:
        """Have the log as it ends now made durable, and tell the leader of this epoch then."""
        node, stored = self._node, replica.stored
        written, epoch = stored.written(), replica.record.leader_epoch

        def synced(error: Exception | None) -> None:
            if error is not None:
                assert isinstance(error, StorageError)
                node.storage_failed("sync", error)
                return
            if node.replicas.get(replica.partition_id) is not replica or not stored.synced(written):
                return  # what came in its place is synced on its own
            if self.session.synced(replica.partition_id, epoch, written.end):
                self._tell(ReplicaDurable(replica.partition_id, epoch, written.end))

        node.durability.when_durable(node.store.tree.last_sequence, synced)

    def _go_back(self, replica: Replica, end: int) -> None:
        log, node = replica.stored.log, self._node
        watermark = log.high_watermark
        before = log.next_offset
        replica.stored.truncate(end)
        if log.next_offset < watermark:
            node.cluster_logger.error(
                "truncate", "committed records were truncated: the leader does not have them",
                category="cluster", topic=log.topic, partition=log.partition,
                high_watermark=watermark, next_offset=log.next_offset,
            )  # fmt: skip
        else:
            node.cluster_logger.info(
                "truncate", "a replica went back to its leader's log", topic=log.topic,
                partition=log.partition, before=before, after=log.next_offset,
            )  # fmt: skip
        self._moved(replica)

    def _moved(self, replica: Replica) -> None:
        """Name the partition's new end in the next request."""
        stored = replica.stored
        end = stored.log.next_offset
        self.session.positioned(replica.partition_id, end, stored.epochs.epoch_before(end))
        self._wake()
        if stored.durable < end:
            self._sync(replica)

    def _tell(self, durable: ReplicaDurable) -> None:
        """Tell the leader what is synced: everything of one round of syncs in one message."""
        self._durable[durable.partition_id] = durable
        if not self._telling:
            self._telling = True
            self._node.loop.call_soon(self._tell_now)

    def _tell_now(self) -> None:
        self._telling = False
        told, self._durable = self._durable, {}
        if self._link is not None and told:
            self._link.post(ReplicaProgressRequest(tuple(told.values())))


class Fetchers:
    """The fetchers of one broker, by leader."""

    def __init__(self, node: ClusterNode) -> None:
        self._node = node
        self._fetchers: dict[int, Fetcher] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._following: dict[int, int] = {}
        self._addresses: dict[int, tuple[str, int, int]] = {}

    @property
    def fetched_bytes(self) -> int:
        """Bytes of batches fetched since the start, by living fetchers."""
        return sum(fetcher.fetched_bytes for fetcher in self._fetchers.values())

    def in_step(self, replica: Replica) -> bool:
        """Whether a replica's leader took its position, and was heard of lately."""
        fetcher = self._fetchers.get(replica.follows)
        return fetcher is not None and fetcher.session.in_step(
            replica.partition_id, self._node.loop.time(), _SILENCE_S
        )

    def lag(self) -> dict[int, int]:
        """Leader → how many partitions are followed from it."""
        return {leader: len(each.session.partitions) for leader, each in self._fetchers.items()}

    def follow(self, replica: Replica) -> None:
        """Follow the replica's present leader, if it has one that is another broker."""
        leader = replica.follows
        former = self._following.pop(replica.partition_id, NOBODY)
        if former not in (NOBODY, leader):
            self._fetchers[former].forget(replica.partition_id)
        if leader == NOBODY or leader == self._node.config.node_id:
            return
        self._following[replica.partition_id] = leader
        fetcher = self._fetchers.get(leader)
        if fetcher is None:
            fetcher = self._fetchers[leader] = Fetcher(self._node, leader)
            self._tasks[leader] = self._node.loop.create_task(fetcher.run())
        fetcher.follow(replica)

    def brokers_changed(self, brokers: tuple[BrokerRecord, ...]) -> None:
        """A broker began a new session: whoever follows it connects anew."""
        for broker in brokers:
            address = (broker.host, broker.port, broker.epoch)
            if self._addresses.get(broker.broker_id) == address:
                continue
            self._addresses[broker.broker_id] = address
            fetcher = self._fetchers.get(broker.broker_id)
            if broker.broker_id == self._node.config.node_id:
                self.reconnect()
            elif fetcher is not None:
                fetcher.disconnect()

    def reconnect(self) -> None:
        """Begin a new session with every leader."""
        for fetcher in self._fetchers.values():
            fetcher.disconnect()

    async def stop(self) -> None:
        """End all of them."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
