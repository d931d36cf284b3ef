"""A broker of a cluster: the single broker's life, with the metadata group and replication."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from streambus_broker.broker import Broker
from streambus_broker.cluster.api import serve_cluster_apis
from streambus_broker.cluster.describe import ANSWERING
from streambus_broker.cluster.fetcher import Fetchers
from streambus_broker.cluster.group import MetadataGroup, group_name
from streambus_broker.cluster.identity import keep_group, load_identity, note_damage
from streambus_broker.cluster.in_sync_requests import InSyncRequests
from streambus_broker.cluster.member import IncompatibleReleaseError, Member
from streambus_broker.cluster.node import ClusterNode
from streambus_broker.cluster.peers import PeerError, connect
from streambus_broker.cluster.replica_sessions import ReplicaSessions
from streambus_broker.cluster.snapshots import worth_a_snapshot
from streambus_broker.cluster.state import ClusterState
from streambus_broker.cluster.storage_watch import StorageWatch
from streambus_broker.cluster.throttle import Throttle
from streambus_broker.config.addresses import parse_voters, split_address
from streambus_broker.errors import BrokerError, DataDirectoryError
from streambus_broker.log.producers import IdleProducers
from streambus_broker.metadata.registry import CommandError
from streambus_broker.observe.health import Component, Health
from streambus_protocol import (
    AlterMemberRequest,
    AlterMemberResponse,
    DescribeClusterRequest,
    DescribeClusterResponse,
    ErrorCode,
)
from streambus_raft.errors import (
    QuarantinedError,
    RaftError,
    StorageFullError,
    TransferError,
)
from streambus_raft.errors import StorageError as RaftStorageError
from streambus_storage import CorruptionError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anyio.abc import TaskGroup
    from prometheus_client.metrics_core import Metric

    from streambus_broker.api.table import Apis
    from streambus_broker.log.store import LogStore
    from streambus_broker.network.server import DataServer
    from streambus_broker.node import Node

_JOIN_TIMEOUT_S = 5.0
_JOIN_PAUSE_S = 0.2
_FAREWELL_S = 0.05
_CHECKPOINT_S = 5.0


class JoinError(BrokerError):
    """The cluster to join cannot be reached, or is none; check the address.

    Attributes:
        address: Where it was sought.
    """

    def __init__(self, address: str, problem: str) -> None:
        self.address = address
        super().__init__(f"cannot join the cluster at {address}: {problem}")


class ClusterBroker(Broker):
    """See the module.

    Attributes:
        group: The metadata group.
        member: This broker's session.
    """

    node: ClusterNode
    group: MetadataGroup
    member: Member

    _damage_remedy = "empty it: the broker is rebuilt from its peers"

    async def _make_node(self, server: DataServer, store: LogStore) -> Node:
        with self.directory.errors(), self._group_errors():
            return await self._make_cluster_node(server, store)

    @contextlib.contextmanager
    def _group_errors(self) -> Iterator[None]:
        """Say what an error of the metadata group's log means for the data directory."""
        path = self.config.data_dir
        try:
            yield
        except StorageFullError as exc:
            remedy = "make room on its disk, or choose another directory"
            raise DataDirectoryError(path, f"cannot be begun: {exc}", remedy) from exc
        except RaftStorageError as exc:
            raise DataDirectoryError(
                path, f"is damaged: {exc}", self.directory.damage_remedy
            ) from exc

    async def _make_cluster_node(self, server: DataServer, store: LogStore) -> Node:
        config, random = self.config, self._doors.random
        identity = load_identity(
            self.meta_tree, self.data_tree, config.data_dir, config.node_id, random
        )
        if config.voters:
            members = parse_voters(config.voters)
            name = group_name(members)
        elif identity.group:
            members, name = {}, identity.group
        else:
            members, name = await self._find_group()
        keep_group(self.meta_tree, config.data_dir, identity, name)
        state = ClusterState()
        node = ClusterNode(
            *self._node_parts(state, server, store),
            incarnation=random.randbytes(16),
            logger=self.logger("cluster"),
        )
        node.damaged = self._damaged
        node.sessions = ReplicaSessions(node, Throttle(config.replication_throttle_bytes_per_s))
        node.fetchers = Fetchers(node)
        self.group = MetadataGroup(
            config.node_id,
            members,
            name=name,
            joins=not config.voters,
            tree=self.meta_tree,
            state=state,
            random=random,
            logger=node.cluster_logger,
            steady_s=node.steady_s,
            gone=lambda broker_id: self.member.process_gone(broker_id),
        )
        self.group.use_node(node)
        self.group.machine.broken = self._fail
        self.member = Member(node, self.group, identity.storage_id)
        return node

    async def _find_group(self) -> tuple[dict[int, tuple[str, int]], str]:
        """Ask the cluster to join for its members."""
        address = self.config.join
        try:
            link = await connect(
                *split_address(address), cluster_id=None, expect=None, timeout_s=_JOIN_TIMEOUT_S
            )
            try:
                answer = await link.request(
                    DescribeClusterRequest(), DescribeClusterResponse, _JOIN_TIMEOUT_S
                )
            finally:
                link.close()
        except PeerError as exc:
            raise JoinError(address, str(exc)) from exc
        taken = {each.broker_id: each for each in answer.members}
        own = taken.get(self.config.node_id)
        if own is not None and own.state in ANSWERING:
            raise JoinError(
                address, f"it has a living broker {own.broker_id} already; choose another node id"
            )
        members = {each.broker_id: (each.host, each.port) for each in answer.members}
        members.pop(self.config.node_id, None)
        if not members:
            raise JoinError(address, "it has no members yet; try again when it has formed")
        return members, answer.raft_group

    def _serve_apis(self) -> Apis:
        return serve_cluster_apis(self.node, self.group, self.member, self.health)

    async def _take_part(self, stack: contextlib.AsyncExitStack, tasks: TaskGroup) -> None:
        with self._group_errors():
            await stack.enter_async_context(self.group.running())
        stack.push_async_callback(self.node.fetchers.stop)
        self.group.follow_addresses()
        if self.config.join:
            tasks.start_soon(self._be_taken_in)
        tasks.start_soon(self._run_member)
        tasks.start_soon(InSyncRequests(self.node, self.group).run)
        tasks.start_soon(self.member.control)
        tasks.start_soon(StorageWatch(self.node, self.group, self.data_tree, self.meta_tree).run)
        tasks.start_soon(self.member.watch_office)
        tasks.start_soon(self._watch_group)
        tasks.start_soon(self._keep_up)

    async def _run_member(self) -> None:
        try:
            await self.member.run()
        except IncompatibleReleaseError as error:
            if self.config.node_id not in self.node.state.brokers:
                await self._withdraw()
            self._fail(error)
        except BrokerError as error:
            self._fail(error)

    async def _withdraw(self) -> None:
        """Be a member of the metadata group no more, if one may ask for that now."""
        link = self.group.transport.link(self.group.controller or -1)
        if link is not None:
            request = AlterMemberRequest("remove", self.config.node_id, "", 0)
            with contextlib.suppress(PeerError):
                await link.request(request, AlterMemberResponse, _JOIN_TIMEOUT_S)

    async def _watch_group(self) -> None:
        """A broker whose metadata log has failed cannot go on."""
        error = await self.group.server.wait_failed()
        if isinstance(error.__cause__, CorruptionError):  # met as a command was carried out
            self._damaged(error.__cause__)
        elif isinstance(error, QuarantinedError):  # its log lacks what it had acknowledged
            self._damaged(error)
        else:
            self._fail(error)

    def _damaged(self, error: StorageError | QuarantinedError) -> None:
        """What this broker holds is not what was written: it takes no part until it is rebuilt."""
        if not self.failed.is_set():
            note_damage(self.meta_tree, str(error))
            problem = f"is damaged: {error}"
            self._fail(
                DataDirectoryError(self.config.data_dir, problem, self.directory.damage_remedy)
            )

    def _fail(self, error: Exception) -> None:
        self._logger.error("fail", str(error), category="cluster")
        self.failure = error
        self.failed.set()

    async def _be_taken_in(self) -> None:
        """Have the controller add this broker to the metadata group, until it has registered.

        One that comes back is a member already: it only sees that it is told to join its own
        cluster, and, where it was killed before it had learnt that, where the others are; else it
        could answer nobody. One that was taken out of the group before it had learnt of its own
        registration is a member by its own log alone: it is taken in once more, and registers, or
        reads in the metadata that it was removed. Once it has read of its registration the
        controller keeps it in the group.
        """
        host, port = self.node.advertised
        request = AlterMemberRequest("add", self.config.node_id, host, port)
        tries = 0
        address = split_address(self.config.join)
        while True:
            try:
                address = await self._ask_to_be_taken_in(request, address)
            except JoinError as error:
                self._fail(error)
                return
            except PeerError as error:
                self._logger.info("join", str(error), sparse=True)
                tries += 1
                addresses = self._where_to_ask()
                address = addresses[tries % len(addresses)]
            if self._is_member() and self.member.own_record() is not None:
                return
            await asyncio.sleep(_JOIN_PAUSE_S)

    def _where_to_ask(self) -> list[tuple[str, int]]:
        """The broker that was named to join, and those of which the metadata tells here."""
        own = self.config.node_id
        brokers = self.node.state.brokers.values()
        known = [(each.host, each.port) for each in brokers if each.broker_id != own]
        return [split_address(self.config.join), *known]

    def _is_forgotten(self, found: DescribeClusterResponse) -> bool:
        """Whether the cluster has no such broker, and nobody leads this one."""
        own = self.config.node_id
        known = any(each.broker_id == own for each in found.members)
        return self.group.controller is None and found.controller >= 0 and not known

    def _is_member(self) -> bool:
        return self.config.node_id in self.group.membership.members()

    async def _ask_to_be_taken_in(
        self, request: AlterMemberRequest, address: tuple[str, int]
    ) -> tuple[str, int]:
        """Ask once, if that is needed; learn where all members are.

        Returns:
            Where to ask next.

        Raises:
            JoinError: It is another cluster than the one that the data directory belongs to.
            PeerError: Nobody answers there.
        """
        link = await connect(*address, cluster_id=None, expect=None, timeout_s=_JOIN_TIMEOUT_S)
        try:
            found = await link.request(
                DescribeClusterRequest(), DescribeClusterResponse, _JOIN_TIMEOUT_S
            )
            if found.raft_group != self.group.name:
                raise JoinError(
                    f"{address[0]}:{address[1]}",
                    f"it is cluster {found.cluster_id!r}, and data directory"
                    f" {self.config.data_dir} belongs to another one; join that one, or choose an"
                    " empty directory",
                )
            answer = AlterMemberResponse(0, None)
            if not self._is_member() or self._is_forgotten(found):
                answer = await link.request(request, AlterMemberResponse, _JOIN_TIMEOUT_S)
        finally:
            link.close()
        for member in found.members:
            # One that had not registered when this broker began may lead the group: nothing that
            # it sends could be answered.
            if member.host:
                self.group.transport.set_peer(member.broker_id, (member.host, member.port))
            if answer.error == ErrorCode.NOT_CONTROLLER and member.broker_id == found.controller:
                address = member.host, member.port
        return address

    async def _keep_up(self) -> None:
        """Now and then, note how far replicas are, and forget idle producers."""
        node = self.node
        settled = False
        changed = 0
        forgetting = IdleProducers(self.config.producer_idle_ms_max, node.loop.time())
        while True:
            await asyncio.sleep(_CHECKPOINT_S)
            if not settled and node.knows_latest:
                settled = True
                node.remove_unknown()
            if worth_a_snapshot(node.changed_count - changed, node.state.partition_count):
                changed = node.changed_count
                await self._take_snapshot()
            rounds_max = forgetting.due(node.loop.time())
            for replica in list(node.replicas.values()):
                if node.replicas.get(replica.partition_id) is not replica:
                    continue  # dropped meanwhile: nothing may be noted beside it any more
                stored = replica.stored
                try:
                    noted = stored.checkpoint_if_moved()
                except StorageError as error:
                    node.storage_failed("checkpoint", error)
                    break
                if rounds_max:
                    stored.producers.expire(rounds_max)
                if noted:
                    await asyncio.sleep(0)
            self.group.follow_addresses()

    async def _take_snapshot(self) -> None:
        """Begin the metadata's log anew with its state; the next start has less to go through."""
        with contextlib.suppress(RaftError):  # the log stays as it is
            await self.group.server.take_snapshot()

    def _mark_all(self) -> None:
        for replica in self.node.replicas.values():
            replica.stored.checkpoint_if_moved()

    async def _hand_over(self) -> None:
        if self.failed.is_set():
            return
        if self.group.is_controller:
            await self._hand_over_control()
        await self.member.leave()
        # Clients hear of the new leaders from this broker as long as it answers.
        await asyncio.sleep(_FAREWELL_S)
        self.node.sessions.close()
        await self.node.fetchers.stop()

    def _is_drained(self) -> bool:
        """As for the single broker; followers of what is still led here would wait for ever."""
        return self.node.server.pending <= self.node.sessions.waiting_count

    async def _hand_over_control(self) -> None:
        for node_id in self.group.membership.voters:
            if node_id != self.config.node_id and self.group.transport.is_connected(node_id):
                with contextlib.suppress(TransferError, RaftError, CommandError):
                    await self.group.server.transfer_leadership(node_id)
                    return

    def broker_count(self) -> int:
        """How many brokers have a session."""
        return len(self.node.state.living)

    def more_metrics(self, *, detail: bool = False) -> Iterator[Metric]:
        """Replication, leadership and the metadata group."""
        from streambus_broker.cluster.metrics import cluster_metrics, partition_metrics

        return partition_metrics(self) if detail else cluster_metrics(self)

    def health(self) -> Health:
        """Judge how this broker does, its part in the cluster included."""
        health = super().health()
        component = self._cluster_health()
        ready = health.ready and component.status != "failed"
        return Health(health.live, ready, health.uptime_ms, (*health.components, component))

    def _cluster_health(self) -> Component:
        node, group = self.node, self.group
        if self.failure is not None:
            return Component("cluster", "failed", str(self.failure))
        if group.full is not None:
            return Component("cluster", "failed", f"no room for metadata: {group.full}")
        if not group.has_quorum:
            return Component("cluster", "failed", group.why_no_quorum())
        if node.me is None:
            return Component("cluster", "failed", "this broker has no session with the controller")
        if node.me.read_only:
            reason = "its storage takes no writes, or is not known to yet: others lead"
            return Component("cluster", "failed", reason)
        if node.lapsed():
            return Component("cluster", "failed", "the controller has not answered for a session")
        return Component("cluster", "ok", None)
