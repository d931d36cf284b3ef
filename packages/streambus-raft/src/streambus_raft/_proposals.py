"""Proposals on their way: what waits to be proposed, and who waits for which answer.

Pure bookkeeping. A *group* is what one entry holds: the proposals of one loop turn, up to a size.
Each group has a ticket; the entry carries it, so whoever applies the entry finds the group again.

How a group ends:

- its own entry is applied: each waiter gets its answer;
- an entry of a later term is applied first: it is *dropped*, for certain. (The leader of that later
  term had another log there, and an entry of an older term behind it can never be committed.)
- a leader that it was forwarded to refuses it: it is retried there or elsewhere;
- none of that within its time, or a snapshot jumps over its place: *unknown*.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from streambus_raft._envelope import Envelope, encode_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from streambus_raft._envelope import SessionRequest
    from streambus_raft._event_loop import Waiter

GROUP_BYTES: Final = 256 * 1024
"""An entry is closed when its commands exceed this, so that appends can be cut between entries."""
GROUP_COMMANDS: Final = 4096
TURN_BYTES: Final = 4 << 20


@dataclass(slots=True, eq=False)
class Group:
    """Proposals that share an entry.

    Attributes:
        ticket: What it is called in the entry.
        data: The encoded envelope.
        waiters: Who gets the answers; one for each command, or a single :class:`Collector`.
        term: The term it was appended in, 0 while that is not known (it was forwarded).
        index: Where it was appended, 0 while that is not known.
        deadline_tick: When a forwarded group is given up.
        pause_until_tick: Not to be tried again before.
        unanswered: How many leaders were asked to append it and have not refused.
        repeatable: All of it belongs to client sessions, so appending it twice does no harm.
    """

    ticket: int
    data: bytes
    waiters: Sequence[Waiter[Any]]
    index: int = 0
    term: int = 0
    deadline_tick: int = 0
    pause_until_tick: int = 0
    unanswered: int = 0
    repeatable: bool = False


class Proposals:
    """The groups of one node.

    Args:
        node_id: This node; the origin of its groups.
        first_ticket: Must not repeat a ticket of an earlier life of this node: draw it at random.
    """

    def __init__(self, node_id: int, first_ticket: int) -> None:
        self._node_id = node_id
        self._next_ticket = first_ticket
        self._commands: list[bytes] = []
        self._requests: list[SessionRequest | None] = []
        self._waiters: list[Waiter[Any]] = []
        self._has_requests = False
        self.pending_bytes = 0
        self._appended: deque[Group] = deque()
        """Appended by this node as leader, in order of their index."""
        self.forwarded: dict[int, Group] = {}

    @property
    def pending_count(self) -> int:
        """How many proposals wait to be put into a group."""
        return len(self._commands)

    @property
    def group_count(self) -> int:
        """How many groups wait for their end."""
        return len(self._appended) + len(self.forwarded)

    def add(self, command: bytes, request: SessionRequest | None, waiter: Waiter[Any]) -> None:
        """Put a proposal into the next group."""
        self._commands.append(command)
        self._waiters.append(waiter)
        self.pending_bytes += len(command)
        if request is not None or self._has_requests:
            if not self._has_requests:
                self._has_requests = True
                self._requests = [None] * (len(self._commands) - 1)
            self._requests.append(request)

    def take_groups(self) -> list[Group]:
        """Make groups of what was added; the caller appends or forwards them.

        Not more than about ``TURN_BYTES`` at a time, so that a flood does not hold up heartbeats;
        what is left is taken by the next call.
        """
        commands, waiters = self._commands, self._waiters
        if not commands:
            return []
        requests = self._requests if self._has_requests else None
        cuts = [(0, len(commands))]
        if self.pending_bytes > GROUP_BYTES or len(commands) > GROUP_COMMANDS:
            cuts = list(islice(_cuts(commands), TURN_BYTES // GROUP_BYTES))
        end = cuts[-1][1]
        self._commands, self._waiters = commands[end:], waiters[end:]
        self._requests = requests[end:] if requests is not None else []
        self._has_requests = requests is not None and bool(self._commands)
        self.pending_bytes = sum(map(len, self._commands))
        groups: list[Group] = []
        for start, stop in cuts:
            part = requests[start:stop] if requests is not None else None
            group = self._group(commands[start:stop], waiters[start:stop], part)
            group.repeatable = part is not None and None not in part
            groups.append(group)
        return groups

    def lone_group(self, command: bytes, waiter: Waiter[Any]) -> Group:
        """Make a group of one proposal, which the caller appends."""
        return self._group([command], [waiter], None)

    def _group(
        self,
        commands: list[bytes],
        waiters: list[Waiter[Any]],
        requests: list[SessionRequest | None] | None,
    ) -> Group:
        ticket = self._next_ticket
        self._next_ticket += 1
        data = encode_envelope(Envelope(self._node_id, ticket, commands, requests))
        return Group(ticket, data, waiters)

    def appended(self, group: Group, index: int, term: int) -> None:
        """This node appended the group as leader of ``term``; call it in the order of the log."""
        group.index, group.term = index, term
        self._appended.append(group)

    def applied(self, ticket: int, index: int, term: int) -> Group | None:
        """An entry of this node with ``ticket`` is applied: return its group if it is known."""
        for group in self._appended:
            if group.ticket == ticket and (group.index, group.term) == (index, term):
                self._appended.remove(group)
                return group
        return self.forwarded.pop(ticket, None)

    def dropped_before(self, term: int) -> list[Group]:
        """An entry of ``term`` is applied: return the groups that can never be any more."""
        if not self._appended or self._appended[0].term >= term:
            return []
        dropped = [group for group in self._appended if group.term < term]
        self._appended = deque(group for group in self._appended if group.term >= term)
        return dropped

    def jumped_over(self, index: int, term: int) -> list[Group]:
        """A snapshot at ``index`` was restored: return the groups that will not be applied here.

        Those of an older term behind it are certainly gone, those before it may be part of it.
        """
        jumped = [group for group in self._appended if group.index <= index or group.term < term]
        self._appended = deque(group for group in self._appended if group not in jumped)
        return jumped

    def overdue(self, tick: int) -> list[Group]:
        """Forwarded groups whose time is over."""
        late = [group for group in self.forwarded.values() if group.deadline_tick <= tick]
        for group in late:
            del self.forwarded[group.ticket]
        return late

    def take_repeatable(self) -> list[Group]:
        """Take out the forwarded groups that may be sent to another leader as well."""
        again = [group for group in self.forwarded.values() if group.repeatable]
        for group in again:
            del self.forwarded[group.ticket]
        return again

    def take_all(self) -> tuple[list[Group], list[Waiter[Any]]]:
        """Everything that waits, because nothing can be known of it any more.

        Returns:
            Groups whose end is unknown, and waiters whose proposals never left.
        """
        groups = [*self._appended, *self.forwarded.values()]
        waiters, self._waiters = self._waiters, []
        self._appended.clear()
        self.forwarded.clear()
        self._commands, self._requests, self._has_requests = [], [], False
        self.pending_bytes = 0
        return groups, waiters


def _cuts(commands: list[bytes]) -> Iterator[tuple[int, int]]:
    start = size = 0
    for position, command in enumerate(commands):
        size += len(command)
        if size > GROUP_BYTES or position - start >= GROUP_COMMANDS - 1:
            yield start, position + 1
            start, size = position + 1, 0
    if start < len(commands):
        yield start, len(commands)


def answer(waiters: Sequence[Waiter[Any]], answers: Sequence[Any]) -> None:
    """Give each waiter its answer; an exception among the answers is raised to its waiter."""
    for waiter, value in zip(waiters, answers, strict=True):
        if not waiter.done():
            if isinstance(value, Exception):
                waiter.set_exception(value)
            else:
                waiter.set_result(value)


def fail(waiters: Sequence[Waiter[Any]], make_error: Callable[[], Exception]) -> None:
    """Raise an error of its own to each waiter."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(make_error())
