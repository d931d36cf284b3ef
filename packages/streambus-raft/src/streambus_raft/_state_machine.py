"""What a program brings to be replicated: a deterministic state machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class StateMachine(Protocol):
    """State that changes by commands alone, so that equal commands give equal states everywhere.

    ``apply`` must be deterministic: no clock, no randomness, no reading of anything but the state
    and the command. What is wrong with a command is an *answer*, not an exception: a state machine
    that raises ends this node's part in the cluster (``StateMachineError``), because its state is
    then unknown; and what raises on one node raises on all of them.

    All methods but the iteration of what ``snapshot`` returned, and ``restore``, are called on the
    event loop's thread, never two at a time; they hold up everything else while they run.
    """

    def apply(self, index: int, commands: Sequence[bytes]) -> Sequence[Any]:
        """Apply committed commands in order and return an answer for each.

        Args:
            index: The log position that the commands share; never seen twice, ever rising.
            commands: At least one.

        Returns:
            As many answers. One that is an exception is raised to whoever proposed the command.
            Answers to commands of a client session must be values that msgpack
            can hold, because they are kept for the session's retries.
        """

    def query(self, query: Any) -> Any:
        """Answer a read without changing anything. What it raises is raised to the reader alone."""

    def snapshot(self) -> Iterable[bytes]:
        """Capture the whole state as it is now, to be written as one stream of bytes.

        The iterable is consumed later and in another thread, while commands are applied: it must
        stand on a copy, or on values that never change. Pieces of up to about a megabyte are best.
        """

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by what a snapshot holds. Called in a worker thread.

        The pieces have other boundaries than the ones ``snapshot`` gave; nothing is applied or
        queried meanwhile.
        """
