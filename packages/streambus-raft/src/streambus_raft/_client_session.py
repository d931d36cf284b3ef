"""A client's session: its commands are applied exactly once, however often they are retried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import anyio

from streambus_raft._envelope import SessionRequest
from streambus_raft.errors import ProposalUnknownError, RaftError

if TYPE_CHECKING:
    from streambus_raft._server import RaftServer

_PAUSE_SECONDS_MIN: Final = 0.02
_PAUSE_SECONDS_MAX: Final = 1.0


class ClientSession:
    """Made by :meth:`RaftServer.open_session`. For one program; any number of tasks.

    Attributes:
        number: The session's number, the same at every node. A program that reaches several nodes
            over a network of its own sends it along with each request.
    """

    def __init__(self, server: RaftServer, number: int) -> None:
        self.number = number
        self._server = server
        self._sequence = 0
        self._pending: set[int] = set()

    async def propose(self, command: bytes) -> Any:
        """Propose until there is an answer; apply once.

        Keeps trying while there is no leader, or leadership changes; bound it by a cancel scope
        (``anyio.fail_after``) if that must end.

        Raises:
            SessionExpiredError: the session was not used for too long; the fate of this command is
                not known.
            StoppedError: the server has stopped; the fate of this command is not known.
            RaftError: any other error that a retry does not heal.
        """
        self._sequence += 1
        sequence = self._sequence
        self._pending.add(sequence)
        try:
            request = SessionRequest(self.number, sequence, min(self._pending))
            return await propose_until_answered(self._server, command, request)
        finally:
            self._pending.discard(sequence)


async def propose_until_answered(
    server: RaftServer, command: bytes, request: SessionRequest
) -> Any:
    """Propose again and again, which a session's request allows, until there is an answer."""
    pause = _PAUSE_SECONDS_MIN
    while True:
        try:
            return await server.propose(command, request=request)
        except ProposalUnknownError:
            pass  # the next attempt gets the answer of the one that was applied
        except RaftError as exc:
            if not exc.retriable:
                raise
        await anyio.sleep(pause)
        pause = min(2 * pause, _PAUSE_SECONDS_MAX)
