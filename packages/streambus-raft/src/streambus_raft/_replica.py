"""The replicated state: the program's state machine, and beside it the table of client sessions.

Both change by committed entries alone, and go into snapshots together. A snapshot's bytes are
``[length u32 little-endian][sessions][whatever the state machine gave]``.
"""

from __future__ import annotations

import struct
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from streambus_raft._envelope import OPEN_SESSION, Envelope, SessionRequest
from streambus_raft._sessions import Sessions
from streambus_raft.errors import StateMachineError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from streambus_raft._state_machine import StateMachine

_LENGTH: Final = struct.Struct("<I")


class Replica:
    """Applies envelopes, and captures and restores everything that they changed.

    Args:
        state_machine: The program's.
    """

    def __init__(self, state_machine: StateMachine) -> None:
        self._state_machine = state_machine
        self.sessions = Sessions()
        self.index = 0
        """The last entry whose effects the state holds."""

    def apply(self, index: int, envelope: Envelope) -> Sequence[Any]:
        """Apply the commands of the entry at ``index``; return an answer for each.

        The answer to a refused session request is a ``SessionError`` in its place.

        Raises:
            StateMachineError: the state machine raised; the state is not known any more.
        """
        self.index = index
        if envelope.requests is None:
            return self._apply_plain(index, envelope.commands)
        answers: list[Any] = [None] * len(envelope.commands)
        fresh: list[bytes] = []
        places: list[int] = []  # of each fresh command: where its answer goes
        first: dict[tuple[int, int], int] = {}  # of each fresh request: where its answer goes
        repeated: list[tuple[int, int]] = []  # (where an answer goes, whose it is)
        for place, (command, request) in enumerate(
            zip(envelope.commands, envelope.requests, strict=True)
        ):
            if request is not None:
                if request.session == OPEN_SESSION:
                    answers[place] = self.sessions.open(index, request.sequence)
                    continue
                if request[:2] in first:
                    repeated.append((place, first[request[:2]]))
                    continue
                verdict = self.sessions.check(index, request)
                if verdict is not None:
                    answers[place] = verdict[0] if isinstance(verdict, tuple) else verdict
                    continue
                first[request[:2]] = place
            fresh.append(command)
            places.append(place)
        # All at once: the state machine may rely on seeing an index once.
        if fresh:
            for place, answer in zip(places, self._apply_plain(index, fresh), strict=True):
                answers[place] = answer
                request = envelope.requests[place]
                if request is not None:
                    self._keep(index, request, answer)
        for place, earlier in repeated:
            answers[place] = answers[earlier]
        return answers

    def _apply_plain(self, index: int, commands: Sequence[bytes]) -> Sequence[Any]:
        answers: Sequence[Any] = _guarded(
            index, "apply", self._state_machine.apply, index, commands
        )
        try:
            count = len(answers)
        except TypeError:
            count = -1
        if count != len(commands):
            problem = f"{count} answers to {len(commands)} commands"
            raise StateMachineError(index, "apply", problem)
        return answers

    def _keep(self, index: int, request: SessionRequest, answer: Any) -> None:
        try:
            self.sessions.keep(request, answer)
        except (TypeError, ValueError, OverflowError) as exc:
            problem = f"the answer to a session's command cannot be kept: {exc}"
            raise StateMachineError(index, "apply", problem) from exc

    def query(self, query: Any) -> Any:
        """Answer a read; what the state machine raises is the reader's."""
        return self._state_machine.query(query)

    def capture(self) -> Iterator[bytes]:
        """Capture the state as it is now; the result may be consumed in another thread.

        Raises:
            StateMachineError: the state machine raised.
        """
        sessions = self.sessions.dump()
        head = _LENGTH.pack(len(sessions)) + sessions
        chunks = _guarded(self.index, "take a snapshot", self._state_machine.snapshot)
        return chain((head,), chunks)

    def restore(self, index: int, chunks: Iterable[bytes]) -> None:
        """Replace the state by that of the snapshot at ``index``; blocks while it reads.

        Raises:
            StateMachineError: the state machine raised, or it is no snapshot of this library.
            StorageError: the snapshot cannot be read.
        """
        source = iter(chunks)
        head = bytearray()
        need = _LENGTH.size
        while len(head) < need:
            chunk = next(source, None)
            if chunk is None:
                raise StateMachineError(index, "restore", "the snapshot is cut off")
            head += chunk
            if len(head) >= _LENGTH.size:
                need = _LENGTH.size + _LENGTH.unpack_from(head)[0]
        sessions = Sessions()
        _guarded(index, "restore", sessions.load, bytes(head[_LENGTH.size : need]))
        rest = bytes(head[need:])
        pieces = chain((rest,), source) if rest else source
        _guarded(index, "restore", self._state_machine.restore, pieces)
        self.sessions = sessions
        self.index = index


def _guarded(index: int, doing: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call the program's code; whatever it raises ends this node's part."""
    try:
        return call(*arguments)
    except (StateMachineError, StorageError):
        raise
    except Exception as exc:
        raise StateMachineError(index, doing, repr(exc)) from exc
