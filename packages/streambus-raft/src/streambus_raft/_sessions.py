"""Client sessions: a retried command is applied once (thesis, section 6.3).

Rules, the same on every node because all of them decide from the log alone:

- A session is opened by a command; its number is derived from the position of that command.
- The answer to each request is kept until the client says that it has it, at most
  ``ANSWERS_MAX`` of them; a retry gets the kept answer and changes nothing.
- A session that is not used for its ``expire_after_entries`` log positions expires, and the least
  recently used one when there are ``SESSIONS_MAX``. A request of an expired session is *refused*,
  never applied: nobody could tell any more whether it is a retry.
- A retry whose answer is no longer kept is refused too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgpack

from streambus_raft.errors import AnswerForgottenError, SessionError, SessionExpiredError

if TYPE_CHECKING:
    from streambus_raft._envelope import SessionRequest

ANSWERS_MAX: Final = 1024
SESSIONS_MAX: Final = 65_536
EXPIRE_AFTER_ENTRIES_DEFAULT: Final = 1_000_000


class _Session:
    __slots__ = ("answers", "expire_after_entries", "floor", "used_at")

    def __init__(self, used_at: int, expire_after_entries: int, floor: int) -> None:
        self.used_at = used_at
        self.expire_after_entries = expire_after_entries
        self.floor = floor
        """Requests below this are no longer told from retries."""
        self.answers: dict[int, bytes] = {}
        """Packed answers by sequence, oldest application first."""


class Sessions:
    """The table of sessions: a part of the replicated state."""

    def __init__(self) -> None:
        self._sessions: dict[int, _Session] = {}  # least recently used first
        self._last_number = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, index: int, expire_after_entries: int) -> int:
        """Open a session at this log position and return its number."""
        self._last_number = max(index, self._last_number + 1)
        while self._sessions:
            oldest = next(iter(self._sessions))
            if len(self._sessions) < SESSIONS_MAX and not _expired(self._sessions[oldest], index):
                break
            del self._sessions[oldest]
        self._sessions[self._last_number] = _Session(index, expire_after_entries, 1)
        return self._last_number

    def check(self, index: int, request: SessionRequest) -> tuple[Any] | SessionError | None:
        """Decide about a request at this log position.

        Returns:
            None: apply it, and report the answer to :meth:`keep`. A tuple: a retry, with the
            answer it was given. An error: refused.
        """
        session = self._sessions.get(request.session)
        if session is None or _expired(session, index):
            return SessionExpiredError(request.session)
        session.used_at = index
        self._sessions[request.session] = self._sessions.pop(request.session)
        if request.acknowledged_below > session.floor:
            session.floor = request.acknowledged_below
            for sequence in [s for s in session.answers if s < session.floor]:
                del session.answers[sequence]
        if request.sequence < session.floor:
            return AnswerForgottenError(request.session, request.sequence)
        packed = session.answers.get(request.sequence)
        return None if packed is None else (msgpack.unpackb(packed, strict_map_key=False),)

    def keep(self, request: SessionRequest, answer: Any) -> None:
        """Keep the answer of a request that was just applied.

        Raises:
            TypeError: msgpack cannot hold the answer.
        """
        packed = msgpack.packb(answer)
        session = self._sessions.get(request.session)
        if session is None:
            return  # a session that was opened in the same entry pushed it out
        session.answers[request.sequence] = packed
        if len(session.answers) > ANSWERS_MAX:
            oldest = min(session.answers)
            del session.answers[oldest]
            # Requests may come in any order, but what was once forgotten stays so.
            session.floor = max(session.floor, oldest + 1)

    def dump(self) -> bytes:
        """Encode the whole table for a snapshot."""
        rows = [
            (
                n,
                s.used_at,
                s.expire_after_entries,
                s.floor,
                list(s.answers),
                list(s.answers.values()),
            )
            for n, s in self._sessions.items()
        ]
        packed: bytes = msgpack.packb((self._last_number, rows))
        return packed

    def load(self, packed: bytes) -> None:
        """Replace the whole table by a dumped one."""
        last_number, rows = msgpack.unpackb(packed)
        sessions: dict[int, _Session] = {}
        for number, used_at, expire_after_entries, floor, sequences, answers in rows:
            session = sessions[number] = _Session(used_at, expire_after_entries, floor)
            session.answers = dict(zip(sequences, answers, strict=True))
        self._sessions = sessions
        self._last_number = last_number


def _expired(session: _Session, index: int) -> bool:
    return index > session.used_at + session.expire_after_entries
