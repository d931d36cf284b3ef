"""The metadata group on this broker: its Raft server, and the state machine that it drives.

Every broker applies the same commands in the same order. What a command is refused for is its
answer; what a command changes is handed to the node at once, on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

from streambus_broker.cluster import votes
from streambus_broker.cluster.commands import (
    RegisterBroker,
    RemoveBroker,
    SetVote,
    decode_command,
    encode_command,
)
from streambus_broker.cluster.peers import PeerError
from streambus_broker.cluster.raft_log import TreeLogStorage
from streambus_broker.cluster.raft_transport import RaftTransport
from streambus_broker.cluster.state import ClusterState
from streambus_broker.errors import BrokerError
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import DescribeClusterRequest, DescribeClusterResponse, ErrorCode
from streambus_raft import Change, ChangeKind, Config, NodeId, RaftServer
from streambus_raft.errors import ProposalUnknownError, RaftError, TransferError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from random import Random

    from streambus_broker.cluster.commands import ClusterCommand
    from streambus_broker.cluster.node import ClusterNode
    from streambus_broker.cluster.peers import PeerConnection
    from streambus_broker.observe.logs import Logger
    from streambus_raft import Membership
    from streambus_storage import LSMTree

TICK_S = 0.05
ELECTION_TICKS = 10
HEARTBEAT_TICKS = 2
SNAPSHOT_LOG_BYTES = 4 * 1024 * 1024
_GREET_S = 2.0
_ANSWER_S = 10.0
"""A leader that was cut off learns what became of its proposals only when it is back, if ever."""


def group_name(voters: Mapping[int, tuple[str, int]]) -> str:
    """The name of the metadata group that these first voters form."""
    text = ",".join(f"{node}@{host}:{port}" for node, (host, port) in sorted(voters.items()))
    return "metadata-" + hashlib.sha256(text.encode()).hexdigest()[:32]


class UncertainError(BrokerError):
    """Whether a command is carried out cannot be known here: look at the metadata, or ask again."""


class MetadataMachine:
    """``StateMachine`` of streambus_raft over `ClusterState`.

    A snapshot is read by another thread; the state changes on the event loop alone, at once, so
    that nobody there sees a part of it.

    Attributes:
        changed: Called with the changes and the topics that were deleted.
        restored: Called on the event loop after a snapshot replaced the state.
        broken: Told why a snapshot that was read could not become the state.
        history_end: The last index that was in the log when this process began. What is applied up
            to there happened long ago, perhaps: whom it concerned was told then.
    """

    def __init__(self, state: ClusterState, logger: Logger) -> None:
        self.state = state
        self.changed: Callable[[Any, list[Any]], None] = lambda _changes, _deleted: None
        self.restored: Callable[[], None] = lambda: None
        self.broken: Callable[[Exception], None] = lambda _error: None
        self.history_end = 0
        self._read: ClusterState | None = None
        self._logger = logger
        self._loop = asyncio.get_running_loop()

    def apply(self, index: int, commands: Sequence[bytes]) -> list[Any]:
        """Carry commands out; the answer is (error code, detail, answer, warnings)."""
        self._install()
        return [self._apply(index, command) for command in commands]

    def _apply(self, index: int, data: bytes) -> list[Any]:
        state = self.state
        command = decode_command(data)  # one of a later version ends this node's part: it must
        state.index = index
        try:
            changes = state.judge(index, command)
        except CommandError as error:
            # Whoever operates the others should know, too.
            if isinstance(command, RegisterBroker) and index > self.history_end:
                self._logger.warning("register", error.detail, category="cluster", sparse=True)
            return [int(error.code), error.detail, None, []]
        deleted = [state.topics[name] for name in changes.deleted]
        state.adopt(changes)
        for warning in changes.warnings if index > self.history_end else ():
            self._logger.error("metadata", warning, category="cluster", index=index)
        self.changed(changes, deleted)
        return [0, None, changes.answer, list(changes.warnings)]

    def query(self, query: Any) -> Any:
        """Nothing is asked this way: the state is at hand, as new as it has to be."""
        self._install()
        return query

    def snapshot(self) -> Iterable[bytes]:
        """Capture the state."""
        self._install()
        return (self.state.encode(),)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Read what is to replace the state; in another thread."""
        read = ClusterState()
        read.load(b"".join(chunks))
        self._read = read
        self._loop.call_soon_threadsafe(self._install_soon)

    def _install_soon(self) -> None:
        try:
            self._install()
        except Exception as error:  # noqa: BLE001 - as where a command fails: it ends this broker
            self.broken(error)

    def _install(self) -> None:
        """Make what was read the state."""
        read, self._read = self._read, None
        if read is not None:
            self.state.become(read)
            self.restored()


class MetadataGroup:
    """See the module.

    Args:
        node_id: This broker.
        voters: The voters that a new cluster begins with, and where they are; where this broker
            joins a running cluster, its members.
        name: What the members have in common.
        joins: Whether this broker is to be taken in by others.
        tree: The ``meta`` tree.
        state: What is replicated; still empty.
        random: Election timeouts.
        logger: For what operators must see.
        steady_s: The clock that leases are measured by.
        gone: Told which broker's process is no more, by all that its host says.
    """

    def __init__(
        self,
        node_id: int,
        voters: Mapping[int, tuple[str, int]],
        *,
        name: str,
        joins: bool,
        tree: LSMTree,
        state: ClusterState,
        random: Random,
        logger: Logger,
        steady_s: Callable[[], float],
        gone: Callable[[int], None],
    ) -> None:
        self.node_id = node_id
        self.name = name
        self.state = state
        self.machine = MetadataMachine(state, logger)
        self.transport = RaftTransport(
            node_id,
            name,
            lambda: state.cluster.cluster_id,
            gone,
            greet=self._greet,
            complain=lambda peer, problem: logger.info("connect", problem, broker=peer),
        )
        for voter, address in voters.items():
            self.transport.set_peer(voter, address)
        config = Config(
            node_id=NodeId(node_id),
            tick_seconds=TICK_S,
            election_ticks=ELECTION_TICKS,
            heartbeat_ticks=HEARTBEAT_TICKS,
        )
        self._storage = storage = TreeLogStorage(tree, random)
        self.storage_id = storage.state().storage_id
        self.machine.history_end = storage.last_index()
        self.server = RaftServer(
            node_id,
            () if joins else tuple(voters),
            self.machine,
            storage,
            self.transport,
            config=config,
            bootstrap=not joins,
            join=joins,
            forward=True,
            snapshot_log_bytes=SNAPSHOT_LOG_BYTES,
            clock=steady_s,
            random=random,
        )

    @property
    def controller(self) -> int | None:
        """The broker that leads the group, as far as this one knows."""
        return self.server.leadership.leader

    @property
    def is_controller(self) -> bool:
        """Whether this broker leads the group."""
        return self.server.leadership.is_leader

    @property
    def membership(self) -> Membership:
        """Who takes part in the group."""
        return self.server.metrics().status.membership

    @property
    def term(self) -> int:
        """The group's term."""
        return self.server.leadership.term

    def nobody_was_sure_between(self, former: int, term: int) -> bool:
        """Whether no controller of a term between these two has ever been sure of its office.

        For that it must have committed an entry of its term; whoever is elected later has that in
        its log. To be called by the controller of the later term.
        """
        return self._storage.term_before(term) <= former

    @property
    def has_quorum(self) -> bool:
        """Whether a leader is known; a leader without its quorum steps down by itself."""
        return self.controller is not None

    async def catch_up(self, within_s: float) -> bool:
        """Have the metadata here hold all that was acknowledged before; return whether it does.

        Args:
            within_s: How long that may take, seconds.
        """
        try:
            async with asyncio.timeout(within_s):
                await self.server.read(None)
        except (TimeoutError, RaftError):
            return False
        return True

    def why_no_quorum(self) -> str:
        """What keeps a majority of the voters from agreeing, as far as this broker knows."""
        voters = self.membership.voters
        missing = {
            each: problem
            for each, problem in sorted(self.transport.problems.items())
            if each in voters or not voters
        }
        if not missing:
            return "no leader of the metadata group is known"
        reasons = "; ".join(f"broker {each}: {problem}" for each, problem in missing.items())
        return f"no majority of the voters can be reached: {reasons}"

    async def _greet(self, link: PeerConnection) -> None:
        """See that the other side is of this group; its cluster id tells where that is known.

        Raises:
            PeerError: It is of another one.
        """
        if self.state.cluster.cluster_id:
            return
        found = await link.request(DescribeClusterRequest(), DescribeClusterResponse, _GREET_S)
        if found.raft_group != self.name:
            raise PeerError(
                f"broker {link.broker_id} is of cluster {found.cluster_id!r}, which was formed by"
                " other voters; name the voters with which it began, or start this broker with"
                " --join",
                ErrorCode.WRONG_CLUSTER,
            )

    @property
    def full(self) -> str | None:
        """Why this broker takes no part until its metadata log has room; None while it does."""
        return self.server.full

    async def change_member(self, action: str, node_id: int, address: tuple[str, int]) -> None:
        """Change who takes part; on the controller.

        Raises:
            RaftError: It cannot be done, or not now.
            CommandError: An added member has no address.
        """
        if action == "add":
            if not address[0] or not address[1]:
                raise CommandError(ErrorCode.INVALID_REQUEST, "a new member needs HOST:PORT")
            self.transport.set_peer(node_id, address)
            await self.server.add_learner(node_id)
        elif action in ("promote", "demote"):
            await self._wish_vote(node_id, wanted=action == "promote")
        elif action == "transfer":
            await self._transfer(node_id)
        else:
            await self._remove(node_id)

    async def _transfer(self, node_id: int) -> None:
        """Make another voter the controller; one that is it already is fine."""
        if node_id not in self.membership.voters:
            raise CommandError(ErrorCode.INVALID_REQUEST, f"broker {node_id} is no voter")
        if node_id == self.node_id:
            return
        try:
            await self.server.transfer_leadership(node_id)
        except TransferError as exc:  # it may be behind, or busy: the same again may work
            raise CommandError(ErrorCode.REQUEST_TIMED_OUT, str(exc)) from exc

    async def _wish_vote(self, node_id: int, *, wanted: bool) -> None:
        """Note that a broker is to have a vote or not; the controller sees to it (`next_step`)."""
        self.state.broker(node_id)
        kind = ChangeKind.VOTER if wanted else ChangeKind.LEARNER
        self._check_harm(Change(kind, NodeId(node_id)))
        if wanted and node_id not in self.membership.members():
            raise CommandError(
                ErrorCode.INVALID_REQUEST,
                f"broker {node_id} takes no part in the metadata; start it with --join",
            )
        await self.propose(SetVote(node_id, wanted))

    def _check_harm(self, change: Change) -> None:
        """Refuse what would leave a group without a majority that can be reached."""
        status = self.server.metrics().status
        is_voter = change.node in status.membership.voters
        if is_voter == (change.kind == ChangeKind.VOTER):
            return  # nothing would change
        problem = votes.harm(status, [change])
        if problem is not None:
            raise CommandError(ErrorCode.INVALID_REQUEST, f"that would stop the cluster: {problem}")

    async def _remove(self, node_id: int) -> None:
        """Take a broker out for good: it holds nothing, and is a member no more.

        One that was removed already is fine: who did not hear of it asks again.
        """
        if node_id not in self.membership.members() and node_id not in self.state.removed:
            self.state.broker(node_id)
        if node_id in self.state.brokers:
            self.state.plan(RemoveBroker(node_id))
        removal = Change(ChangeKind.REMOVE, NodeId(node_id))
        self._check_harm(removal)
        if node_id == self.node_id:
            raise CommandError(
                ErrorCode.INVALID_REQUEST,
                f"broker {node_id} is the controller; make another one that first"
                " (`streambus cluster transfer-leader`)",
            )
        if node_id in self.state.brokers:
            await self.propose(RemoveBroker(node_id))
        if node_id in self.membership.members():
            await self.server.change_membership([removal])
        self.transport.forget_peer(node_id)

    async def take_step(self, gone: Collection[int]) -> None:
        """As the controller, do what is next about votes (`votes`); nothing where it fails.

        Args:
            gone: Removed brokers that have been away for long enough.
        """
        status = self.server.metrics().status
        step = votes.next_step(self.state, status)
        with contextlib.suppress(CommandError, UncertainError, RaftError):
            if step.changes:
                await self.server.change_membership(step.changes)
            elif step.command is not None:
                await self.propose(step.command)
            elif step.hand_over_to is not None:
                await self.server.transfer_leadership(step.hand_over_to)
            elif not status.membership_pending:
                for each in votes.strangers(self.state, status.membership):
                    removal = Change(ChangeKind.REMOVE, each)
                    if each != self.node_id and each in gone and not votes.harm(status, [removal]):
                        await self.server.change_membership([removal])
                        self.transport.forget_peer(each)
                        break

    def use_node(self, node: ClusterNode) -> None:
        """Hand changes to the node, and its commands to the group."""
        self.machine.changed = node.adopt
        self.machine.restored = node.adopt_all
        node.propose = self.propose
        node.voter_count = lambda: len(self.membership.voters)

    async def propose(self, command: ClusterCommand, *, term: int | None = None) -> Any:
        """Have a command carried out; return its answer once this broker has applied it.

        Args:
            command: What to do.
            term: Only as the controller of this term; None for by whoever is the controller.

        Raises:
            CommandError: It was refused, or certainly not carried out (NO_QUORUM).
            UncertainError: It may yet be carried out.
        """
        answer, _ = await self.propose_warned(command, term=term)
        return answer

    async def propose_warned(
        self, command: ClusterCommand, *, term: int | None = None
    ) -> tuple[Any, list[str]]:
        """As `propose`; give the warnings too."""
        encoded, server = encode_command(command), self.server
        proposed = (
            server.propose(encoded) if term is None else server.propose_in_term(encoded, term)
        )
        try:
            async with asyncio.timeout(_ANSWER_S):
                code, detail, answer, warnings = await proposed
        except (ProposalUnknownError, TimeoutError) as exc:
            problem = str(exc) or f"nothing within {_ANSWER_S:g} s"
            raise UncertainError(f"the metadata group has not answered: {problem}") from exc
        except RaftError as exc:
            raise CommandError(
                ErrorCode.NO_QUORUM, f"the metadata cannot change now: {exc}"
            ) from exc
        if code:
            raise CommandError(ErrorCode(code), detail)
        return answer, warnings

    def follow_addresses(self) -> None:
        """Dial every broker where its record says that it is; no more those that were removed."""
        for broker in self.state.brokers.values():
            self.transport.set_peer(broker.broker_id, (broker.host, broker.port))
        for removed in votes.gone(self.state, self.membership):
            self.transport.forget_peer(removed)

    @contextlib.asynccontextmanager
    async def running(self) -> Any:
        """Take part while the context is open."""
        async with self.server:
            yield
