"""Is a history of concurrent operations one that a single copy could have produced?

The search of Wing and Gong (1993) with the memory of Lowe (2017): take any operation that no
finished one precedes, see whether its result fits the state, go on with the rest; never look twice
at the same set of operations done in the same state. Keys are independent of each other, so each
key's history is judged by itself (Herlihy and Wing's locality).

An operation whose outcome is unknown may have happened at any time after its beginning, or never.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

FOREVER = float("inf")

UNSEEN = object()
"""Any value that nobody has seen: they need not be told apart."""


class Operation(NamedTuple):
    """One operation on one key, as its client saw it.

    ``kind`` is ``"read"`` (``result`` is the value), ``"write"`` (of ``value``) or ``"cas"`` (from
    ``expected`` to ``value``; ``result`` says whether it was done). A key that was never written
    reads as None.
    """

    client: int
    key: str
    kind: str
    value: object
    expected: object
    result: object
    begin: float
    end: float
    """``FOREVER`` where the outcome is unknown; ``result`` means nothing then."""


def _step(state: object, operation: Operation) -> tuple[bool, object]:
    """Whether the operation can have had its result in ``state``, and the state after it."""
    known = operation.end != FOREVER
    if operation.kind == "read":
        return (not known or operation.result == state), state
    if operation.kind == "write":
        return True, operation.value
    done = state == operation.expected
    return (not known or operation.result == done), (operation.value if done else state)


def find_violation(operations: Iterable[Operation]) -> list[Operation] | None:
    """The history of a key that no order explains, or None if all of them are linearizable.

    Cost: exponential in the number of operations that overlap, for each key.
    """
    by_key: dict[str, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    for history in by_key.values():
        relevant = _without_unseen(history)
        if not _is_linearizable(relevant):
            return relevant
    return None


def _without_unseen(history: list[Operation]) -> list[Operation]:
    """Leave out unknown operations that cannot matter, which keeps the search short.

    Reads of unknown outcome never matter. A write of unknown outcome whose value nobody has seen
    may count as never done, unless a comparison failed: it may have failed because of that write.
    """
    seen = {each.result for each in history if each.kind == "read" and each.end != FOREVER}
    seen |= {each.expected for each in history if each.kind == "cas"}
    failed = any(each.kind == "cas" and each.end != FOREVER and not each.result for each in history)
    relevant = []
    for each in history:
        if each.end != FOREVER or each.value in seen:
            relevant.append(each)
        elif each.kind != "read" and failed:
            relevant.append(each._replace(value=UNSEEN))
    return [each for each in relevant if each.end != FOREVER or each.kind != "read"]


def _is_linearizable(history: list[Operation]) -> bool:
    history = sorted(history, key=lambda each: each.begin)
    required = 0
    for position, each in enumerate(history):
        if each.end != FOREVER:
            required |= 1 << position
    explored: set[tuple[int, object]] = set()
    stack: list[tuple[int, object]] = [(0, None)]
    while stack:
        done, state = stack.pop()
        if done & required == required:
            return True
        if (done, state) in explored:
            continue
        explored.add((done, state))
        # What ends first is tried first: it comes off the stack last pushed.
        for position in sorted(_possible_next(history, done), key=lambda at: -history[at].end):
            fits, after = _step(state, history[position])
            if fits:
                stack.append((done | 1 << position, after))
    return False


def _possible_next(history: list[Operation], done: int) -> list[int]:
    """Positions of what may come next: everything that no other one has to precede."""
    first = (~done & (done + 1)).bit_length() - 1
    horizon = FOREVER
    undone = []
    nothing_seen = False
    for position in range(first, len(history)):
        each = history[position]
        # Whatever ends first must come before anything that begins after that end.
        if each.begin > horizon:
            break
        if done >> position & 1:
            continue
        horizon = min(horizon, each.end)
        if each.value is UNSEEN and each.kind == "write":
            # One of them is as good as another, so only the first is tried.
            if nothing_seen:
                continue
            nothing_seen = True
        undone.append(position)
    return [position for position in undone if history[position].begin <= horizon]
