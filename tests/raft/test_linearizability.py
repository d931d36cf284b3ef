"""The checker of histories, on histories that are known to be good or bad."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from streambus_raft.testing import FOREVER, Operation, find_violation


def op(
    kind: str,
    begin: float,
    end: float,
    value: object = None,
    result: object = None,
    expected: object = None,
    key: str = "k",
) -> Operation:
    return Operation(1, key, kind, value, expected, result, begin, end)


def write(value: object, begin: float, end: float = FOREVER, key: str = "k") -> Operation:
    return op("write", begin, end, value, key=key)


def read(result: object, begin: float, end: float, key: str = "k") -> Operation:
    return op("read", begin, end, result=result, key=key)


def cas(
    expected: object, value: object, result: object, begin: float, end: float = FOREVER
) -> Operation:
    return op("cas", begin, end, value, result, expected)


GOOD = {
    "empty": [],
    "one after the other": [write(1, 0, 1), read(1, 2, 3)],
    "never written": [read(None, 0, 1)],
    "overlapping reads see old and new": [write(1, 0, 10), read(None, 1, 2), read(1, 3, 4)],
    "unknown write takes effect late": [write(1, 0), read(None, 5, 6), read(1, 7, 8)],
    "unknown write never happens": [write(1, 0), read(None, 5, 6)],
    "concurrent writes in either order": [write(1, 0, 5), write(2, 0, 5), read(1, 6, 7)],
    "comparison that succeeds": [write(1, 0, 1), cas(1, 2, True, 2, 3), read(2, 4, 5)],
    "comparison that fails": [write(1, 0, 1), cas(7, 2, False, 2, 3), read(1, 4, 5)],
    "comparison fails because of an unknown write": [
        write(1, 0, 1),
        write(2, 1),
        cas(1, 3, False, 5, 6),
    ],
    "keys do not mix": [write(1, 0, 1, "a"), read(None, 2, 3, "b")],
}

BAD = {
    "stale read": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "lost write": [write(1, 0, 1), read(None, 2, 3)],
    "new, then old": [write(1, 0, 10), read(1, 1, 2), read(None, 3, 4)],
    "from nowhere": [read(7, 0, 1)],
    "from the future": [read(1, 0, 1), write(1, 2, 3)],
    "unknown write is undone": [write(1, 0), read(1, 5, 6), read(None, 7, 8)],
    "both comparisons succeed": [
        write(1, 0, 1),
        cas(1, 2, True, 2, 5),
        cas(1, 3, True, 2, 5),
    ],
    "comparison fails without a reason": [write(1, 0, 1), cas(1, 2, False, 2, 3)],
    "comparison succeeds without a reason": [write(1, 0, 1), cas(2, 3, True, 2, 3)],
    "readers disagree on the order": [
        write(1, 0, 9),
        write(2, 0, 9),
        read(1, 10, 11),
        read(2, 12, 13),
    ],
    "bad key beside a good one": [
        write(1, 0, 1, "a"),
        read(1, 2, 3, "a"),
        write(1, 0, 1, "b"),
        read(None, 2, 3, "b"),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_history_is_accepted(name: str) -> None:
    assert find_violation(GOOD[name]) is None


@pytest.mark.parametrize("name", BAD)
def test_bad_history_is_found(name: str) -> None:
    assert find_violation(BAD[name]) is not None


def brute_force(history: list[Operation]) -> bool:
    """By definition: some order that respects time and explains each result."""
    for order in permutations(history):
        state: object = None
        fits = all(
            not later.end < earlier.begin
            for place, earlier in enumerate(order)
            for later in order[place + 1 :]
        )
        for each in order:
            if each.kind == "read":
                fits = fits and each.result == state
            elif each.kind == "write":
                state = each.value
            else:
                done = state == each.expected
                fits = fits and each.result == done
                state = each.value if done else state
        if fits:
            return True
    return False


@pytest.mark.parametrize("seed", range(300))
def test_checker_agrees_with_the_definition(seed: int) -> None:
    random = Random(seed)
    history = []
    for value in range(random.randint(1, 5)):
        begin = random.random()
        end = begin + random.random()
        kind = random.choice(("read", "write", "cas"))
        seen = random.choice((None, 0, 1, 2))
        if kind == "read":
            history.append(read(seen, begin, end))
        elif kind == "write":
            history.append(write(value, begin, end))
        else:
            history.append(cas(seen, value, random.random() < 0.5, begin, end))
    assert (find_violation(history) is None) == brute_force(history), history


def test_long_history_is_judged_quickly() -> None:
    random = Random(1)
    history, state, now = [], None, 0.0
    for value in range(2000):
        begin, now = now - 0.5 * random.random(), now + 1
        if random.random() < 0.5:
            history.append(write(value, begin, now))
            state = value
        else:
            history.append(read(state, begin, now))
    assert find_violation(history) is None
    history[-1] = read("from nowhere", now, now + 1)
    assert find_violation(history) is not None
