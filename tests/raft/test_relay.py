"""Proposals on their way to a leader elsewhere: what their callers are told when it goes wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streambus_raft import Forward, ForwardRefused, NodeId, SessionRequest
from streambus_raft._envelope import decode_envelope
from streambus_raft._forwarding import BUSY, NOT_LEADER
from streambus_raft._proposals import Proposals
from streambus_raft._ready import Standing
from streambus_raft._relay import Relay
from streambus_raft._types import Role, Term
from streambus_raft.errors import (
    BusyError,
    NotLeaderError,
    ProposalUnknownError,
    StoppedError,
)
from tests.raft.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from streambus_raft import PeerMessage


class Caller:
    """A waiter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: Any = None

    def done(self) -> bool:
        return self.told is not None

    def set_result(self, value: Any) -> None:
        self.told = value

    def set_exception(self, exception: BaseException) -> None:
        self.told = exception

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError


class Follower:
    """Node 1 follows node 2; what it sends stays here."""

    def __init__(self) -> None:
        cluster = Cluster()
        cluster.elect(2)
        self.sent: list[PeerMessage] = []
        self.proposals = Proposals(1, 100)
        core = cluster[1].core
        self.relay = Relay(
            core, self, self.proposals, forward=True, patience_ticks=10, bytes_max=10_000
        )

    def running(self, _receiver: Any) -> Any:
        raise AssertionError

    def send(self, _to: NodeId, messages: Sequence[PeerMessage]) -> None:
        self.sent += messages

    def propose(self, request: SessionRequest | None = None) -> Caller:
        """Propose, which sends it on; return who waits for it."""
        caller = Caller()
        self.proposals.add(b"command", request, caller)
        self.relay.propose()
        return caller

    def refuse(self, reason: int) -> None:
        """The node that was asked last says no."""
        message = self.sent[-1]
        assert isinstance(message, Forward)
        ticket = decode_envelope(message.data).ticket
        self.relay.take_refusal(ForwardRefused(message.to, NodeId(1), ticket, reason, 0))


REQUEST = SessionRequest(5, 1, 1)


def test_refused_is_certainly_not_proposed() -> None:
    follower = Follower()
    caller = follower.propose()
    follower.refuse(BUSY)
    assert isinstance(caller.told, BusyError)
    caller = follower.propose()
    follower.refuse(NOT_LEADER)
    follower.relay.pass_time(10)
    assert isinstance(caller.told, NotLeaderError)


def test_unanswered_in_time_is_unknown() -> None:
    follower = Follower()
    caller = follower.propose()
    follower.relay.pass_time(9)
    assert not caller.done()
    follower.relay.pass_time(10)
    assert isinstance(caller.told, ProposalUnknownError)


@pytest.mark.parametrize("reason", [BUSY, NOT_LEADER])
def test_what_an_earlier_leader_did_not_refuse_stays_unknown(reason: int) -> None:
    """A session's request goes to the next leader too; the first one may have appended it."""
    follower = Follower()
    caller = follower.propose(REQUEST)
    assert follower.relay.follow(Standing(Role.FOLLOWER, Term(2), NodeId(3)))
    follower.relay.propose()
    assert len(follower.sent) == 2
    follower.refuse(reason)
    follower.relay.pass_time(10)
    assert isinstance(caller.told, ProposalUnknownError)


def test_end_of_the_server_tells_apart_what_was_sent() -> None:
    follower = Follower()
    callers = [follower.propose(), follower.propose(REQUEST)]
    follower.refuse(NOT_LEADER)  # the second; the first is still with the leader
    callers.append(follower.propose(SessionRequest(5, 2, 1)))
    assert follower.relay.follow(Standing(Role.FOLLOWER, Term(2), NodeId(3)))
    follower.relay.release(lambda: StoppedError("it was stopped"))
    told = [type(caller.told) for caller in callers]
    assert told == [type(None), StoppedError, ProposalUnknownError]
