"""The server: a node that runs. ``RaftServer`` is what a program uses.

    arguments = (1, (1, 2, 3), state_machine, storage, transport)
    async with RaftServer(*arguments, bootstrap=True) as server:  # the first time; then without
        answer = await server.propose(b"command")
        value = await server.read("query")

What runs behind it is in ``_engine``.
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Self

import anyio

from streambus_raft._client_session import ClientSession, propose_until_answered
from streambus_raft._collector import Collector
from streambus_raft._config import Config
from streambus_raft._engine import Engine
from streambus_raft._envelope import OPEN_SESSION, SessionRequest
from streambus_raft._event_loop import run_blocking
from streambus_raft._founding import begin_log
from streambus_raft._membership import Change, ChangeKind, Membership, new_membership
from streambus_raft._metrics import Leadership, ServerMetrics
from streambus_raft._reading import PendingRead
from streambus_raft._sessions import EXPIRE_AFTER_ENTRIES_DEFAULT
from streambus_raft._transport import MeasuredTransport
from streambus_raft._types import NUMBER_MAX, NodeId
from streambus_raft._watch import Watch
from streambus_raft.errors import (
    BusyError,
    ConfigError,
    MembershipError,
    MembershipPendingError,
    ProposalTooLargeError,
    RaftError,
    StoppedError,
    TransferError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
    from random import Random
    from types import TracebackType

    from streambus_raft._event_loop import Waiter
    from streambus_raft._state_machine import StateMachine
    from streambus_raft._storage import LogStorage, SnapshotMeta
    from streambus_raft._transport import Transport

ENVELOPE_BYTES = 128
"""What an envelope may add to a command."""


class RaftServer:
    """A node of a replicated state machine; an async context manager.

    Leaving the context stops the node and closes the storage. A server runs once. Several servers
    in one task must be left in the reverse order of entering, as any task groups; give each a task
    of its own where that does not fit.

    Args:
        node_id: This node, from 1.
        peers: The voters that the cluster began with, this node among them; the same at all of
            them. Without effect once the storage holds a log. Empty with ``join``.
        state_machine: What is replicated; it must be empty: it is restored from the storage.
        storage: The log. One that has a log already goes on with it.
        transport: The network.
        config: The core's settings; made from ``node_id`` alone by default.
        bootstrap: Found a cluster of ``peers`` if the storage is empty. Say so at the very first
            start alone: whoever says so always lets a node that has lost its disk found a second
            cluster, by itself if it was the only founder.
        join: Begin with no configuration if the storage is empty, and wait to be taken in by a
            leader's membership change: a new node, or one that has lost its disk.
        forward: Whether proposals at a node that is not the leader are sent on to it.
        snapshot_log_bytes: A snapshot is taken when so many bytes of entries were applied since the
            last one; 0 for only by hand.
        keep_entries: How many entries before a snapshot stay in the log for slow followers.
        patience_ticks: How long a forwarded proposal, and a read without a leader, may wait; by
            default four times ``config.election_ticks``.
        clock: What leases are measured by, in seconds; it never goes back, and best goes on while
            the machine sleeps. By default the event loop's time.
        random: Election timeouts and the first ticket; seed it to repeat a run under virtual time.

    Raises:
        ConfigError: arguments contradict each other.
        StorageEmptyError: at the start, with an empty storage and neither ``bootstrap`` nor
            ``join``.
    """

    def __init__(
        self,
        node_id: int,
        peers: Iterable[int],
        state_machine: StateMachine,
        storage: LogStorage,
        transport: Transport,
        *,
        config: Config | None = None,
        bootstrap: bool = False,
        join: bool = False,
        forward: bool = False,
        snapshot_log_bytes: int = 64 << 20,
        keep_entries: int = 1024,
        patience_ticks: int | None = None,
        clock: Callable[[], float] | None = None,
        random: Random | None = None,
    ) -> None:
        peers = tuple(peers)
        self.config = config or Config(node_id=NodeId(node_id))
        if self.config.node_id != node_id:
            raise ConfigError(f"node_id is {node_id}, config.node_id is {self.config.node_id}")
        if join and (peers or bootstrap):
            raise ConfigError("a node that joins has no peers of its own to begin with")
        if not join and node_id not in peers:
            raise ConfigError(f"node {node_id} is not among its peers {peers}")
        if snapshot_log_bytes < 0 or keep_entries < 0:
            raise ConfigError("snapshot_log_bytes and keep_entries are 0 or more")
        try:
            founders = new_membership(peers) if peers else Membership()
        except MembershipError as exc:
            raise ConfigError(str(exc)) from exc
        self.node_id = node_id
        self._begin_log = partial(
            begin_log, storage, self.config.node_id, founders, bootstrap=bootstrap, join=join
        )
        self._watch = Watch()
        self._patience_ticks = patience_ticks or 4 * self.config.election_ticks
        self._make_engine = partial(
            Engine,
            self.config,
            state_machine,
            storage,
            transport,
            self._watch,
            random or SystemRandom(),
            forward=forward,
            snapshot_log_bytes=snapshot_log_bytes,
            keep_entries=keep_entries,
            patience_ticks=self._patience_ticks,
            clock=clock,
        )
        self._storage = storage
        self._transport = transport
        self._command_bytes_max = self.config.command_bytes_max - ENVELOPE_BYTES
        self._stopped: str | None = "it was not started"
        self._run_context = self._running()
        self._engine: Engine  # once it is made
        self._made = False

    # --- running ---

    async def __aenter__(self) -> Self:
        if self._stopped != "it was not started":
            raise StoppedError("a server runs once; make another one with the same storage")
        self._stopped = "it could not be started"
        await self._run_context.__aenter__()
        self._stopped = None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped = "it was stopped"
        # Without the error: the task groups inside would wrap what is none of their business.
        await self._run_context.__aexit__(None, None, None)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        """Everything that lives as long as the server does."""
        try:
            await run_blocking(self._begin_log)
            self._engine = self._make_engine()
            self._made = True
            async with self._engine.running():
                yield
        finally:
            self._storage.close()

    def _check_running(self) -> None:
        if self._stopped is not None:
            raise StoppedError(self._stopped)
        failure = self._engine.driver.failure
        if failure is not None:
            raise StoppedError(str(failure)) from failure

    # --- proposals ---

    async def propose(self, command: bytes, *, request: SessionRequest | None = None) -> Any:
        """Have ``command`` applied by a majority's agreement, and return this node's answer to it.

        All proposals of one loop turn travel and are stored together, so many tasks that propose
        at the same time cost little more than one. Cancelling stops the waiting, not the proposal.

        Args:
            command: What ``StateMachine.apply`` gets; up to ``config.command_bytes_max`` minus 128.
            request: Which request of which session it is; see :meth:`open_session` for the easy
                way.

        Raises:
            NotLeaderError: this node does not lead, and does not forward or found no leader in
                time. Not proposed.
            BusyError: too much is on its way already. Not proposed.
            ProposalTooLargeError: the command exceeds the limit. Not proposed.
            ProposalDroppedError: leadership changed; certainly not applied.
            ProposalUnknownError: whether it is applied cannot be known.
            SessionError: the session's request was refused.
            StoppedError: the server does not run, or takes no part any more. Not proposed.
        """
        if self._stopped is not None or self._engine.driver.failure is not None:
            self._check_running()
        if len(command) > self._command_bytes_max:
            raise ProposalTooLargeError(len(command), self._command_bytes_max)
        waiter = self._engine.loop.create_waiter()
        self._engine.proposals.add(command, request, waiter)
        self._engine.signal.set()
        return await waiter

    async def propose_in_term(self, command: bytes, term: int) -> Any:
        """As :meth:`propose`, but only as the leader of ``term``; another leader never gets it.

        For a decision that was right in that term, and may be wrong under the next leader. Once
        appended it may be applied under a later one, but before that one answers its first read.

        Raises:
            RaftError: as :meth:`propose`; NotLeaderError where the term is over. Not proposed.
        """
        self._check_running()
        if len(command) > self._command_bytes_max:
            raise ProposalTooLargeError(len(command), self._command_bytes_max)
        waiter = self._engine.loop.create_waiter()
        self._engine.driver.propose_in_term(command, term, waiter)
        return await waiter

    async def propose_many(self, commands: Sequence[bytes]) -> list[Any]:
        """Propose several commands at once, in order; return their answers.

        They are not one transaction: other commands may come between them, and if it fails a
        beginning of them, or some of them, may have been applied.

        Raises:
            RaftError: as :meth:`propose`, for the first one that failed.
        """
        self._check_running()
        if not commands:
            return []
        largest = max(map(len, commands))
        if largest > self._command_bytes_max:
            raise ProposalTooLargeError(largest, self._command_bytes_max)
        waiter: Waiter[list[Any]] = self._engine.loop.create_waiter()
        for command, slot in zip(commands, Collector(waiter, len(commands)).slots(), strict=True):
            self._engine.proposals.add(command, None, slot)
        self._engine.signal.set()
        return await waiter

    async def open_session(
        self, expire_after_entries: int = EXPIRE_AFTER_ENTRIES_DEFAULT
    ) -> ClientSession:
        """Open a client session: its commands are applied exactly once, even if retried.

        Keeps trying while there is no leader; bound it by a cancel scope if that must end.

        Args:
            expire_after_entries: The session ends when so many log entries pass without its use.

        Raises:
            StoppedError: the server does not run, or takes no part any more.
        """
        if not 0 < expire_after_entries <= NUMBER_MAX:
            raise ConfigError("expire_after_entries is 1 or more")
        request = SessionRequest(OPEN_SESSION, expire_after_entries, 0)
        number = await propose_until_answered(self, b"", request)
        return ClientSession(self, number)

    # --- reads ---

    async def read(self, query: Any, *, lease: bool = False) -> Any:
        """Answer a query from a state that holds everything that was acknowledged before the call.

        Works at every node; costs a round trip between leader and a majority, shared by all reads
        of a loop turn, and at a follower one more to the leader. Nothing is written.

        Args:
            query: What ``StateMachine.query`` gets.
            lease: At the leader, save the round trip while its lease lasts. Rests on clocks that
                run at about the same speed (``config.clock_drift_max``).

        Raises:
            NotLeaderError: no leader confirmed the read in time.
            BusyError: too many reads wait already.
            StoppedError: the server does not run, or takes no part any more.
            Exception: whatever ``StateMachine.query`` raises.
        """
        self._check_running()
        driver = self._engine.driver
        if lease:
            index = driver.core.read_lease(self._engine.clock())
            if index is not None and index <= driver.applied_index and not driver.is_restoring:
                return self._engine.replica.query(query)
        waiter = self._engine.loop.create_waiter()
        driver.reading.add(PendingRead(query, waiter, driver.ticks + self._patience_ticks))
        self._engine.signal.set()
        return await waiter

    def read_local(self, query: Any) -> Any:
        """Answer a query from this node's state as it is: consistent, but perhaps behind.

        Raises:
            BusyError: a snapshot is just being restored.
            StoppedError: the server does not run, or takes no part any more.
        """
        self._check_running()
        if self._engine.driver.is_restoring:
            raise BusyError(1, 0, "restored snapshots")
        return self._engine.replica.query(query)

    def confirmed_at(self, term: int) -> float | None:
        """When this node was known to lead in ``term`` last; what a lease may be counted from.

        That is when the last heartbeats were sent that a majority has answered, by ``clock``:
        nobody was elected before. Costs no message; as old as the last heartbeats, usually.

        Returns:
            Seconds; None where this node does not lead in that term, or has not committed in it.

        Raises:
            StoppedError: the server does not run, or takes no part any more.
        """
        self._check_running()
        return self._engine.driver.core.confirmed_at(term)

    # --- membership and leadership ---

    async def change_membership(self, changes: Iterable[Change]) -> Membership:
        """Change who takes part, one or many at once; return the configuration that results.

        Returns once it is committed, and left again if it had to be joint. Only at the leader.
        While another change is under way, or the leader is too new, it waits its turn.

        Raises:
            NotLeaderError: this node does not lead.
            MembershipPendingError: it was not its turn within the time of ``patience_ticks``.
            MembershipError: the changes make no sense.
            ProposalDroppedError: leadership changed; certainly not made.
            ProposalUnknownError: the server stopped; whether it is made cannot be known.
            StoppedError: the server does not run, or takes no part any more.
        """
        changes = list(changes)
        deadline = self._engine.driver.ticks + self._patience_ticks
        while True:
            self._check_running()
            try:
                proposal = self._engine.driver.core.propose_membership(changes)
                break
            except MembershipPendingError:
                if self._engine.driver.ticks >= deadline:
                    raise
            await anyio.sleep(self.config.tick_seconds)
        waiter: Waiter[Membership] = self._engine.loop.create_waiter()
        self._engine.driver.expect_membership(proposal, waiter)
        return await waiter

    async def add_learner(self, node: int) -> Membership:
        """Let a node receive the log without counting. Raises as :meth:`change_membership`."""
        return await self.change_membership([Change(ChangeKind.LEARNER, NodeId(node))])

    async def promote(self, node: int) -> Membership:
        """Make a learner, or a new node, a voter. Raises as :meth:`change_membership`."""
        return await self.change_membership([Change(ChangeKind.VOTER, NodeId(node))])

    async def remove(self, node: int) -> Membership:
        """Take a node out. Raises as :meth:`change_membership`."""
        return await self.change_membership([Change(ChangeKind.REMOVE, NodeId(node))])

    async def transfer_leadership(self, target: int) -> None:
        """Hand leadership over to another voter, and wait until it has it.

        Proposals are refused meanwhile. Given up after ``config.election_ticks``.

        Raises:
            NotLeaderError: this node does not lead.
            TransferError: the target is no other voter, or did not take over in time.
            StoppedError: the server does not run, or takes no part any more.
        """
        self._check_running()
        self._engine.driver.core.transfer_leadership(NodeId(target))
        self._engine.signal.set()
        patience = 2 * self.config.election_ticks * self.config.tick_seconds
        with anyio.move_on_after(patience):
            async with aclosing(self.watch_leadership()) as watch:
                async for leadership in watch:
                    if leadership.leader == target:
                        return
        raise TransferError(f"node {target} did not take over in time")

    def leader_gone(self, leader: int) -> None:
        """Tell that a node's process has ended: if it led, the others elect at once.

        Call it where the operating system says so, at every node that hears of it: a connection
        broke, say, and nobody listens any more. Without effect where that node does not lead, or
        this server does not run. A leader that lives after all is deposed; what it answers by lease
        (:meth:`read`) may be out of date then.
        """
        if self._stopped is None and self._engine.driver.full is None:
            self._engine.driver.core.leader_gone(NodeId(leader))
            self._engine.signal.set()

    @property
    def leadership(self) -> Leadership:
        """Who leads, as far as this node knows."""
        return self._watch.leadership

    async def watch_leadership(self) -> AsyncGenerator[Leadership, None]:
        """Yield who leads, now and whenever it changes; a slow reader sees the newest alone.

        Close it (``contextlib.aclosing``) if you leave the loop early.

        Raises:
            StoppedError: the server does not run, or takes no part any more.
        """
        self._check_running()
        with self._watch.watcher(self._engine.loop) as watcher:
            seen = None
            while True:
                if self._watch.leadership != seen:
                    seen = self._watch.leadership
                    yield seen
                else:
                    await watcher.wait()
                    self._check_running()

    async def wait_for_leader(self) -> int:
        """Return the leader's node id as soon as one is known.

        Raises:
            StoppedError: the server does not run, or takes no part any more.
        """
        async with aclosing(self.watch_leadership()) as watch:
            async for leadership in watch:
                if leadership.leader is not None:
                    return leadership.leader
        raise StoppedError("it was stopped")

    # --- the rest ---

    async def take_snapshot(self) -> SnapshotMeta:
        """Write a snapshot of the state as it is, and drop the log that it replaces.

        Raises:
            StorageError: the disk failed; the node goes on without the snapshot.
            BusyError: a leader's snapshot is just being restored.
            StateMachineError: the state machine raised; the node takes no part any more.
            StoppedError: the server does not run, or takes no part any more.
        """
        self._check_running()
        return await self._engine.snapshotting.save()

    async def wait_failed(self) -> RaftError:
        """Wait until this node takes no part any more, and return why; for a supervisor."""
        driver = self._engine.driver
        with self._watch.watcher(self._engine.loop) as watcher:
            while driver.failure is None:
                await watcher.wait()
            return driver.failure

    @property
    def full(self) -> str | None:
        """Why this node stands still, its storage having no room; None while it does not."""
        engine = getattr(self, "_engine", None)
        return str(engine.driver.full) if engine and engine.driver.full else None

    def metrics(self) -> ServerMetrics:
        """Describe this node at this moment. Cost: a copy of what the core knows.

        Raises:
            StoppedError: the server was never started, or reads its log at the moment.
        """
        if not self._made:
            raise StoppedError(self._stopped or "it was not started")
        driver, transport = self._engine.driver, self._transport
        return ServerMetrics(
            status=driver.core.status(),
            applied_index=driver.applied_index,
            commands_applied=driver.applied_count,
            proposals_pending=self._engine.proposals.group_count,
            reads_pending=driver.reading.pending_count,
            sessions=len(self._engine.replica.sessions),
            snapshots_saved=self._engine.snapshotting.saved_count,
            snapshots_failed=self._engine.snapshotting.failed_count,
            snapshots_restored=self._engine.snapshotting.restored_count,
            messages_rejected=driver.rejected_messages,
            failure=str(driver.failure) if driver.failure else None,
            full=str(driver.full) if driver.full else None,
            transport=transport.metrics if isinstance(transport, MeasuredTransport) else None,
        )
