"""Proposals on their way to whoever leads: this node, or another one that they are sent on to.

A group that another node is asked to append is answered by being applied, or refused for certain;
there is nothing in between. If the leader changes meanwhile, a group of session requests is sent
to the next one as well, because sessions apply it once; any other waits for its time to be over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from streambus_raft._envelope import decode_envelope
from streambus_raft._forwarding import BUSY, NOT_LEADER, TOO_LARGE, Forward, ForwardRefused
from streambus_raft._proposals import fail
from streambus_raft._types import NO_NODE, NodeId, Role
from streambus_raft.errors import (
    BusyError,
    NotLeaderError,
    ProposalTooLargeError,
    ProposalUnknownError,
    RaftError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_raft._core import RaftCore
    from streambus_raft._proposals import Group, Proposals
    from streambus_raft._ready import Standing
    from streambus_raft._transport import Transport

SEEN_MAX: Final = 4096
"""So many of each node's forwarded groups are told from repetitions."""
_REASONS: Final = {NotLeaderError: NOT_LEADER, BusyError: BUSY, ProposalTooLargeError: TOO_LARGE}


class Relay:
    """Hands the groups of one node to its core, or sends them on.

    Args:
        core: Appends them while this node leads.
        transport: Carries them to the leader otherwise.
        proposals: Where they come from, and who waits for them.
        forward: Whether they are sent on at all.
        patience_ticks: How long a group may wait for a leader and its answer.
        bytes_max: How much may wait for a leader; more is refused as busy.
    """

    def __init__(
        self,
        core: RaftCore,
        transport: Transport,
        proposals: Proposals,
        *,
        forward: bool,
        patience_ticks: int,
        bytes_max: int,
    ) -> None:
        self._core = core
        self._transport = transport
        self._proposals = proposals
        self._forward = forward
        self._patience_ticks = patience_ticks
        self._bytes_max = bytes_max
        self._node_id = NodeId(core.status().node_id)
        self._tick = 0
        self._waiting_bytes = 0
        """What waits for a leader or for its answer; counted anew at every tick."""
        self._held: list[Group] = []
        """Groups that wait for a leader to be known."""
        self._seen: dict[int, dict[int, None]] = {}
        """By sender, the tickets of what was appended for it in this office."""

    @property
    def is_holding(self) -> bool:
        """Whether anything waits to be proposed again."""
        return bool(self._held)

    # --- this node's own ---

    def propose(self) -> None:
        """Propose what was added since, and what waited for long enough."""
        groups = self._proposals.take_groups()
        if self._held:
            held, self._held = self._held, []
            for group in held:
                (groups if group.pause_until_tick <= self._tick else self._held).append(group)
        for group in groups:
            try:
                proposal = self._core.propose(group.data)
            except NotLeaderError as exc:
                self._send_on(group, exc)
            except RaftError as exc:
                _give_up(group, twins(exc))
            else:
                self._proposals.appended(group, proposal.index, proposal.term)

    def _send_on(self, group: Group, error: NotLeaderError) -> None:
        if not self._forward:
            _give_up(group, twins(error))
            return
        if not group.deadline_tick:
            size = len(group.data)
            if self._waiting_bytes and self._waiting_bytes + size > self._bytes_max:
                busy = BusyError(self._waiting_bytes, self._bytes_max, "bytes for the leader")
                _give_up(group, twins(busy))
                return
            self._waiting_bytes += size
            group.deadline_tick = self._tick + self._patience_ticks
        leader = error.leader
        if not leader or leader == self._node_id:
            self._hold(group)
            return
        group.unanswered += 1
        self._proposals.forwarded[group.ticket] = group
        to = NodeId(leader)
        self._transport.send(to, [Forward(self._node_id, to, group.data)])

    def _hold(self, group: Group) -> None:
        """Keep a group until the next tick."""
        group.pause_until_tick = self._tick + 1
        self._held.append(group)

    def pass_time(self, tick: int) -> None:
        """It is ``tick`` now: give up what has waited for too long."""
        self._tick = tick
        if not (self._held or self._proposals.forwarded):  # nearly always
            self._waiting_bytes = 0
            return
        for group in self._proposals.overdue(tick):
            fail(group.waiters, lambda: ProposalUnknownError("the leader did not answer in time"))
        held, self._held = self._held, []
        for group in held:
            if group.deadline_tick > tick:
                self._held.append(group)
            else:
                _give_up(group, lambda: NotLeaderError(None, "no leader was found in time"))
        waiting = [*self._held, *self._proposals.forwarded.values()]
        self._waiting_bytes = sum(len(group.data) for group in waiting)

    def take_refusal(self, message: ForwardRefused) -> None:
        """A node did not append what it was sent, for certain."""
        group = self._proposals.forwarded.pop(message.ticket, None)
        if group is None:
            return
        group.unanswered -= 1
        if message.reason == BUSY:
            _give_up(group, lambda: BusyError(0, 0, "bytes at the leader"))
        elif message.reason == TOO_LARGE:
            size = len(group.data)
            _give_up(group, lambda: ProposalTooLargeError(size, 0))
        else:
            self._hold(group)

    def follow(self, standing: Standing) -> bool:
        """Role, term or leader changed; return whether there is something to propose anew."""
        if standing.role != Role.LEADER:
            self._seen.clear()
        if standing.leader == NO_NODE:
            return False
        self._held += self._proposals.take_repeatable()
        return bool(self._held)

    def release(self, make_error: Callable[[], Exception]) -> None:
        """Give up what waits for a leader."""
        held, self._held = self._held, []
        for group in held:
            _give_up(group, make_error)

    # --- what others send ---

    def take_forward(self, message: Forward) -> None:
        """Append what another node's callers proposed, or refuse it.

        Raises:
            EnvelopeError: it cannot be read.
        """
        ticket = decode_envelope(message.data).ticket
        seen = self._seen.setdefault(message.sender, {})
        if ticket in seen:
            return
        try:
            self._core.propose(message.data)
        except RaftError as exc:
            reason = _REASONS.get(type(exc), NOT_LEADER)
            leader = getattr(exc, "leader", None) or NO_NODE
            reply = ForwardRefused(self._node_id, message.sender, ticket, reason, leader)
            self._transport.send(message.sender, [reply])
            return
        seen[ticket] = None
        if len(seen) > SEEN_MAX:
            del seen[next(iter(seen))]


def _give_up(group: Group, make_error: Callable[[], Exception]) -> None:
    """Tell the callers of a group why; that it was not proposed only where that is certain."""
    if group.unanswered:
        fail(group.waiters, lambda: ProposalUnknownError("a leader was asked, and did not answer"))
    else:
        fail(group.waiters, make_error)


def twins(error: Exception) -> Callable[[], Exception]:
    """Make a factory of equal errors, because each waiter must raise an object of its own."""

    def twin() -> Exception:
        copy = type(error).__new__(type(error))
        copy.args = error.args
        copy.__dict__.update(error.__dict__)
        return copy

    return twin
