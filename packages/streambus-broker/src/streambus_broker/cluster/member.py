"""What a broker does to be one of the cluster, and what the controller does besides.

A broker registers and sends heartbeats; the controller watches the others' sessions and balances
leaders.

Every loop here ends only with the broker. What fails is tried again; a refusal that no trying
mends (another broker has this node id) ends the broker with its reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from streambus_broker.cluster import commands as c
from streambus_broker.cluster.describe import ANSWERING
from streambus_broker.cluster.group import UncertainError
from streambus_broker.cluster.lease import Office, SessionLease
from streambus_broker.cluster.peers import PeerError
from streambus_broker.cluster.sessions import Sessions
from streambus_broker.cluster.votes import answers, strangers
from streambus_broker.errors import BrokerError
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import (
    BrokerHeartbeatRequest,
    BrokerHeartbeatResponse,
    DescribeClusterRequest,
    DescribeClusterResponse,
    ErrorCode,
)
from streambus_raft.errors import RaftError, StoppedError

if TYPE_CHECKING:
    from streambus_broker.cluster.brokers import BrokerRecord
    from streambus_broker.cluster.group import MetadataGroup
    from streambus_broker.cluster.node import ClusterNode

_PAUSE_S = 0.05
_CONTROL_S_MIN, _CONTROL_S_MAX = 0.05, 0.2
"""Between two looks of the controller; a session that may be over is looked at in time."""
_IDLE_S = 1.0
"""Of whoever is not the controller: it is woken when the leader changes."""
_STEP_S = 0.5
_AWAY_S = 5.0
"""A removed broker that joins anew has answered by then; it must not be taken for its old self."""
_REQUEST_TIMEOUT_S = 1.0
_DUPLICATE_PATIENCE_SESSIONS = 4
_HEARTBEAT_S = 0.15
_SUSPECT_S = 0.4
"""After a process went: one that lives after all is heard within two heartbeats."""


class DuplicateBrokerError(BrokerError):
    """Another living broker of the cluster has this node id; give each its own."""


class IncompatibleReleaseError(BrokerError):
    """This broker's release and another one's share no level of metadata; upgrade the older."""


class RemovedBrokerError(BrokerError):
    """This broker was removed from its cluster; empty its directory and have it join anew.

    Attributes:
        broker_id: Its node id.
    """

    def __init__(self, broker_id: int) -> None:
        self.broker_id = broker_id
        super().__init__(
            f"broker {broker_id} was removed from this cluster; to have it back, empty its data"
            " directory and start it with --join, under this node id or another one"
        )


class Member:
    """See the module.

    Attributes:
        sessions: The others' sessions, while this broker is the controller.
        office: Whether it is known to be.
        lease: How long this broker may lead.
        elections: Preferred leaders that this broker restored as the controller.
    """

    def __init__(self, node: ClusterNode, group: MetadataGroup, storage_id: bytes) -> None:
        config = node.config
        self.elections = 0
        session_s = config.broker_session_ms / 1000
        self.sessions = Sessions(session_s, min(_SUSPECT_S, session_s / 4))
        self.office = Office(session_s)
        self.lease = SessionLease()
        self._node = node
        self._group = group
        self._storage_id = storage_id
        self._heartbeat_s = min(_HEARTBEAT_S, session_s / 10)
        self._term = 0
        self._confirmed_term = 0  # in which a majority was asked, and everything before applied
        self._predecessor: tuple[int | None, int] = (None, 0)
        self._away_since_s: dict[int, float] = {}
        self._gone_in: dict[int, int] = {}  # broker to the epoch of the session that it died in
        self._refused_since_s: float | None = None
        self._look_at_s = 0.0
        # Set when the group's leader changes, or a broker is suspected: the loops below act on it
        # at once.
        self._heartbeat_due = asyncio.Event()
        self._control_due = asyncio.Event()

    # --- a broker among others -----------------------------------------------------------------

    async def run(self) -> None:
        """Keep this broker's session, for ever.

        Raises:
            DuplicateBrokerError: Another broker has this node id.
            IncompatibleReleaseError: Its release is too far from the others'.
            RemovedBrokerError: This one was removed from the cluster.
        """
        node = self._node
        while True:
            if node.state.removed.get(node.config.node_id) == self._storage_id:
                raise RemovedBrokerError(node.config.node_id)
            if self._group.is_controller:
                # Whatever becomes of its own session: others lead by what it grants them.
                await self._confirm_office()
            if node.me is None and not node.closing and not self._storage_failed():
                await self._try_to_register()
                continue
            await self._heartbeat()
            await _set_or_later(self._heartbeat_due, self._heartbeat_s)

    async def _try_to_register(self) -> None:
        """Register, or wait a moment; raises as `run` where no trying mends a refusal."""
        try:
            await self._register()
            self._refused_since_s = None
            return
        except CommandError as error:
            if error.code == ErrorCode.UNKNOWN_BROKER:
                raise RemovedBrokerError(self._node.config.node_id) from error
            if error.code == ErrorCode.UNSUPPORTED_VERSION:
                raise IncompatibleReleaseError(error.detail) from error
            if error.code == ErrorCode.DUPLICATE_BROKER:
                self._refuse_double(error.detail)
            elif error.code == ErrorCode.NO_QUORUM:
                await self._look_around()
        except UncertainError:
            await self._look_around()
        await asyncio.sleep(_PAUSE_S)

    def _refuse_double(self, detail: str) -> None:
        """Another broker seems to have this node id: for long, or it was this one's former life.

        Raises:
            DuplicateBrokerError: It has for longer than a session lasts.
        """
        now_s = self._node.steady_s()
        if self._refused_since_s is None:
            self._refused_since_s = now_s
            self._node.cluster_logger.warning("register", f"not yet: {detail}")
        if now_s - self._refused_since_s > self.sessions.timeout_s * _DUPLICATE_PATIENCE_SESSIONS:
            raise DuplicateBrokerError(detail)

    async def _look_around(self) -> None:
        """See whether the others talk to another broker under this node id, or to none at all.

        One that has no part in the metadata group because another one has its place, or because it
        was removed while it was away, is never told so: nobody sends it the log any more, and its
        proposals reach nobody.

        Raises:
            DuplicateBrokerError: They talk to another one.
            RemovedBrokerError: This one was removed.
        """
        node = self._node
        for link in self._group.transport.links():
            try:
                found = await link.request(
                    DescribeClusterRequest(), DescribeClusterResponse, _REQUEST_TIMEOUT_S
                )
            except PeerError:
                continue
            if self._was_removed(found):
                raise RemovedBrokerError(node.config.node_id)
            if found.controller < 0:
                continue
            number, here = node.config.node_id, node.advertised
            for each in found.members:
                alive = each.broker_id == number and each.state in ANSWERING
                if alive and (each.host, each.port) != here:
                    self._refuse_double(
                        f"broker {number} is already here, at {each.host}:{each.port};"
                        " give each broker a node id and a data directory of its own"
                    )
                    return
            break
        self._refused_since_s = None

    def own_record(self) -> BrokerRecord | None:
        """What the metadata here says of this broker with this directory; None: not registered."""
        record = self._node.state.brokers.get(self._node.config.node_id)
        return None if record is None or record.storage_id != self._storage_id else record

    def _was_removed(self, found: DescribeClusterResponse) -> bool:
        """Whether this broker had registered, with this directory, and does not exist any more.

        Somebody who knows the metadata at least up to that registration would know of it. One that
        has never registered, as it joins or forms a cluster only now, is not judged here.
        """
        number = self._node.config.node_id
        mine = self.own_record()
        return (
            mine is not None
            and found.error == 0
            and found.cluster_id == self._node.state.cluster.cluster_id
            and found.applied >= mine.epoch
            and all(each.broker_id != number for each in found.members)
        )

    def _storage_failed(self) -> bool:
        """Whether this broker's log has stopped, or its metadata has no room: it is let go."""
        return self._node.storage_is_final or self._group.full is not None

    async def _register(self) -> None:
        node, group = self._node, self._group
        if not node.state.cluster.cluster_id:
            await group.propose(c.FormCluster(f"{node.random.getrandbits(88):022x}"))
        host, port = node.advertised
        rack = node.config.rack or None
        epoch = await group.propose(
            c.RegisterBroker(
                node.config.node_id,
                node.incarnation,
                self._storage_id,
                host,
                port,
                rack,
                c.LEVEL_MIN,
                c.LEVEL_MAX,
            )
        )
        group.follow_addresses()
        node.cluster_logger.info("register", "broker registered", epoch=epoch)

    async def _heartbeat(self) -> None:
        node, group = self._node, self._group
        me = node.me
        if me is None or group.is_controller or self._storage_failed():
            return
        link = group.transport.link(group.controller or -1)
        if link is None:
            await self._look_if_alone()
            return
        request = BrokerHeartbeatRequest(
            me.broker_id, me.epoch, me.incarnation, node.state.index, node.own_time_ms()
        )
        asked_s = node.steady_s()
        try:
            answer = await link.request(request, BrokerHeartbeatResponse, _REQUEST_TIMEOUT_S)
        except PeerError:
            # The controller may have gone: the group will name another one. Or the connection is
            # dead and neither end was told: it is made anew.
            link.close()
            return
        if not answer.error and node.me is me:
            node.common_time.told(answer.time_ms, node.steady_s())
            told = answer.lease_ms >= 0  # a controller of an earlier version does not say
            lease_s = answer.lease_ms / 1000 if told else self.sessions.timeout_s
            # Whose successor this broker has become meanwhile grants it nothing more: its own
            # successor does not wait so long.
            self._use_lease(asked_s, 0.0 if group.controller == me.broker_id else lease_s)
        if answer.error == ErrorCode.STALE_BROKER_EPOCH and node.me is me:
            self.lease.ended()
            node.leads_until_s = self.lease.until_s
            await asyncio.sleep(_PAUSE_S)  # the fencing is on its way through the log
            if node.me is me:
                await self._reregister()

    async def _look_if_alone(self) -> None:
        """Where there is no controller for long, ask the others, now and then: see `_look_around`.

        A broker that was cut off when it was removed believes in its session as long as it lives.
        """
        now_s = self._node.steady_s()
        if self._group.controller is None and now_s >= self._look_at_s and self._node.lapsed():
            self._look_at_s = now_s + self.sessions.timeout_s
            await self._look_around()

    def _use_lease(self, asked_s: float, lasts_s: float) -> None:
        self.lease.granted(asked_s, lasts_s)
        self._node.leads_until_s = self.lease.until_s

    async def _confirm_office(self) -> None:
        """Learn since when a majority takes this broker for the controller: its own heartbeat.

        One whose records cannot be written goes on as the controller: its metadata can. But its
        own session and its lease end, as those of another such broker do.
        """
        node, group = self._node, self._group
        try:
            term = group.term
            known_s = await self._known_in_office_s(term)
        except (TimeoutError, RaftError):
            return
        if group.is_controller and group.term == term:
            node.common_time.told(self._common_time_ms(), node.steady_s())
            self._confirmed_term = term
            self.office.confirmed(known_s)
            lives = node.me is not None and not self._storage_failed()
            if lives and self.sessions.heard(node.config.node_id, known_s):
                self._use_lease(known_s, self.office.own_lease_s)

    async def _known_in_office_s(self, term: int) -> float:
        """When this broker was the controller, as a majority has said in this term.

        The answers to the group's own heartbeats tell. A majority is asked where those are older
        than another broker's heartbeat may be, and at first in a term: then all that was decided
        before it is applied here, too.

        Raises:
            TimeoutError, RaftError: It does not say so.
        """
        now_s, server = self._node.steady_s(), self._group.server
        if term == self._confirmed_term:
            heard_s = server.confirmed_at(term)
            if heard_s is not None and now_s - heard_s <= self._heartbeat_s:
                return heard_s
        async with asyncio.timeout(_REQUEST_TIMEOUT_S):
            await server.read(None)
        return now_s

    async def watch_office(self) -> None:
        """Shorten this broker's lease at once when it becomes the controller, for ever.

        Whoever the controller is, it has to be told that this broker lives, and a new one has to
        know that it is in office before it can fence anybody: neither waits for its usual turn.
        """
        node = self._node
        with contextlib.suppress(StoppedError):  # others see to what that means for this broker
            async with contextlib.aclosing(self._group.server.watch_leadership()) as changes:
                async for leadership in changes:
                    if leadership.is_leader:
                        self.lease.shortened(node.steady_s(), self.office.own_lease_s)
                        node.leads_until_s = self.lease.until_s
                    if leadership.leader is not None:
                        self._heartbeat_due.set()
                        self._control_due.set()

    async def _reregister(self) -> None:
        try:
            await self._register()
        except (CommandError, UncertainError):
            return  # the next round tries again

    # --- the controller ------------------------------------------------------------------------

    def heartbeat_came(self, request: BrokerHeartbeatRequest) -> BrokerHeartbeatResponse:
        """Take another broker's heartbeat."""
        node = self._node
        if not self._group.is_controller:
            return BrokerHeartbeatResponse(
                ErrorCode.NOT_CONTROLLER, f"broker {self._group.controller} is the controller"
            )
        try:
            node.state.broker_asking(request.broker_id, request.broker_epoch, request.incarnation)
        except CommandError as error:
            return BrokerHeartbeatResponse(error.code, error.detail)
        now_s = node.steady_s()
        node.common_time.heard(request.broker_id, request.time_ms, now_s)
        # A session whose end is decided gets no lease any more, though the metadata does not say so
        # yet: others are elected once it does.
        goes_on = self.sessions.heard(request.broker_id, now_s)
        grant_s = self.office.grant_s(now_s) if goes_on else 0.0
        return BrokerHeartbeatResponse(0, None, int(grant_s * 1000), self._common_time_ms())

    def _common_time_ms(self) -> int:
        """As the controller: what most brokers take for the time."""
        node, now_s = self._node, self._node.steady_s()
        node.common_time.heard(node.config.node_id, node.own_time_ms(), now_s)
        return node.common_time.agreed_ms(set(node.state.brokers), now_s)

    def process_gone(self, broker_id: int) -> None:
        """A broker's connection broke, and nobody listens at its address: it is likely dead."""
        record = self._node.state.brokers.get(broker_id)
        if record is not None:
            self._gone_in[broker_id] = record.epoch
        self._group.server.leader_gone(broker_id)
        if self._group.is_controller:
            self.sessions.suspect(broker_id, self._node.steady_s())
            self._control_due.set()

    async def control(self) -> None:
        """Do the controller's work while this broker is it, for ever."""
        node, group = self._node, self._group
        balanced_s = stepped_s = node.steady_s()
        while True:
            pause_s = _IDLE_S
            if group.is_controller:
                left_s = self.sessions.next_end_s() - node.steady_s()
                pause_s = min(max(left_s, _CONTROL_S_MIN), _CONTROL_S_MAX)
            await _set_or_later(self._control_due, pause_s)
            now_s = node.steady_s()
            if not group.is_controller:
                self._leave_office()
                if group.controller is not None:
                    self._predecessor = (group.controller, group.term)
                continue
            if self._term != group.term:
                self._leave_office()
            self.sessions.follow(node.state.sessions, now_s)
            if not self._term:
                self._term, balanced_s = group.term, now_s
                node.cluster_logger.info(
                    "control", "this broker is the controller", term=group.term
                )
                self._suspect_at_first(now_s)
            if self.office.holds(now_s):
                await self._fence_dead(now_s)
                if now_s - stepped_s > _STEP_S:
                    stepped_s = now_s
                    self._watch_removed(now_s)
                    await group.take_step(
                        {each for each, s in self._away_since_s.items() if now_s - s > _AWAY_S}
                    )
            if now_s - balanced_s > node.config.leader_balance_ms / 1000:
                balanced_s = now_s
                await self._balance()

    def _leave_office(self) -> None:
        if self._term:
            self._node.cluster_logger.info("control", "this broker is the controller no more")
            self._term = 0
            self._predecessor = (None, 0)
            self.sessions.clear()
            self._node.common_time.left()
            self.office.left()

    def _suspect_at_first(self, now_s: float) -> None:
        """Of whom a new controller need not wait for a whole session.

        Whoever it has heard of already has a lease from it, and is not what it was before: it has
        come back.
        """
        for gone in self._group.transport.gone:
            record = self._node.state.brokers.get(gone)
            dead = record is not None and record.epoch == self._gone_in.get(gone)
            if dead and self.sessions.is_silent(gone):  # else it has registered anew since
                self.sessions.suspect(gone, now_s)
        broker_id, former = self._predecessor
        if broker_id is None or not self.sessions.is_silent(broker_id):
            return
        if self._group.nobody_was_sure_between(former, self._term):
            # It was silent for an election timeout. Had anybody been in office between the two,
            # it could hold a lease as an ordinary broker, which lasts longer; a term in which
            # nobody won the vote was nobody's.
            self.sessions.suspect(broker_id, now_s, self.office.own_lease_s)

    def _watch_removed(self, now_s: float) -> None:
        """Note since when removed brokers have not been heard of."""
        status = self._group.server.metrics().status
        away = {
            each
            for each in strangers(self._node.state, status.membership)
            if not answers(status, each)
        }
        self._away_since_s = {each: self._away_since_s.get(each, now_s) for each in away}

    async def _fence_dead(self, now_s: float) -> None:
        node = self._node
        for broker_id in self.sessions.over(now_s):
            record = node.state.brokers.get(broker_id)
            if record is None or record.fenced:
                continue
            if not self.sessions.end(broker_id, node.steady_s()):
                continue  # it was heard while others were fenced
            node.cluster_logger.info(
                "fence", "a broker's session is over", broker=broker_id, epoch=record.epoch
            )
            try:
                # In this term or not at all: sent on to a successor, it could be carried out after
                # that one has granted the broker a lease. What is in the log already is applied
                # before a successor makes sure of its office, and until then it grants nothing.
                command = c.FenceBroker(broker_id, record.epoch)
                await self._group.propose(command, term=self._term)
            except CommandError as error:
                self.sessions.spare(broker_id, node.steady_s())
                node.cluster_logger.info("fence", str(error), broker=broker_id, sparse=True)
            except UncertainError as error:  # it may yet happen: no lease meanwhile
                node.cluster_logger.info("fence", str(error), broker=broker_id, sparse=True)

    async def _balance(self) -> None:
        """Give partitions back to their preferred leaders where those are in sync again."""
        able = self._node.state.able
        due = tuple(
            (topic.name, number)
            for topic in self._node.state.topics.values()
            for number, record in enumerate(topic.partitions)
            if record.leader != record.replicas[0]
            and record.replicas[0] in able
            and record.replicas[0] in record.in_sync
        )
        if due:
            try:
                self.elections += await self._group.propose(c.ElectLeaders(due, unclean=False))
            except (CommandError, UncertainError):
                return  # in the next round

    async def leave(self) -> None:
        """Hand leadership over before a shutdown; give up when nobody answers."""
        me = self._node.me
        if me is None or not self._group.has_quorum:
            return
        try:
            async with asyncio.timeout(self.sessions.timeout_s * 2):
                await self._group.propose(c.LeaveBroker(me.broker_id, me.epoch))
        except (CommandError, UncertainError, TimeoutError) as error:
            self._node.cluster_logger.info("leave", f"leadership could not be handed over: {error}")


async def _set_or_later(event: asyncio.Event, timeout_s: float) -> None:
    """Wait until an event is set, and clear it; or until the time is over.

    By a timer that sets it: a timeout, which cancels, costs several times as much, and this waits
    as long as the broker lives.
    """
    timer = asyncio.get_running_loop().call_later(timeout_s, event.set)
    try:
        await event.wait()
    finally:
        timer.cancel()
    event.clear()
