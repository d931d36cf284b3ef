"""How much a decoder may build from what it was sent: memory is judged before it is taken.

One byte of msgpack can become a list of 72 bytes, so a frame of 16 MiB could become a gigabyte of
objects. A small body is harmless whatever it says. A large message is walked over first: nearly all
of it are batches, which are one object each, so the walk is short or ends early. A large batch has
too many objects for that; its records are bytes, and every list or map beyond its columns is
refused while it is decoded.
"""

from __future__ import annotations

from typing import Any

SMALL_BYTES = 64 * 1024
"""Up to here a body needs no budget: 72 times as much is still little."""
ELEMENTS_MAX = 100_000
"""The most entries of any one array or map in a message."""
ELEMENTS_IN_ALL_MAX = 500_000
"""The most objects of a whole message."""

_ONE_BYTE = {0xC0, 0xC2, 0xC3}
_FIXED = {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
# First byte: bytes of the length field.
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAYS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}


class OverBudgetError(ValueError):
    """More objects than any honest sender would send; a ValueError like the decoder's own."""


def check_budget(body: bytes, elements_max: int = ELEMENTS_IN_ALL_MAX) -> None:
    """Walk over one msgpack value without building it.

    Raises:
        OverBudgetError: it holds more than ``elements_max`` objects, or a type that no message has.
            Where it is cut short nothing is raised: the decoder will say so.
    Cost: about 0.2 µs an object, however large the strings and batches are.
    """
    position, end, left, seen = 0, len(body), 1, 0
    while left and position < end:
        first = body[position]
        left -= 1
        inside = 0
        if first < 0x80 or first >= 0xE0 or first in _ONE_BYTE:
            position += 1
        elif first < 0x90:
            inside, position = 2 * (first & 0x0F), position + 1
        elif first < 0xA0:
            inside, position = first & 0x0F, position + 1
        elif first < 0xC0:
            position += 1 + (first & 0x1F)
        elif first in _BYTES:
            width = _BYTES[first]
            position += 1 + width + int.from_bytes(body[position + 1 : position + 1 + width], "big")
        elif first in _FIXED:
            position += _FIXED[first]
        elif first in _ARRAYS or first in _MAPS:
            width = _ARRAYS.get(first) or _MAPS[first]
            inside = int.from_bytes(body[position + 1 : position + 1 + width], "big")
            inside *= 2 if first in _MAPS else 1
            position += 1 + width
        else:
            raise OverBudgetError(f"msgpack type 0x{first:02x} is not used by any message")
        left += inside
        seen += 1
        if seen + left > elements_max:
            raise OverBudgetError(f"more than {elements_max} objects")


class ListBudget:
    """A ``list_hook``: counts the lists of a batch as they end, and refuses too many."""

    def __init__(self, lists_max: int) -> None:
        self._left = lists_max

    def __call__(self, entries: list[Any]) -> list[Any]:
        """Take note of one list."""
        self._left -= 1
        if self._left < 0:
            raise OverBudgetError("more lists than the batch has columns and records")
        return entries


def no_maps(_: dict[Any, Any]) -> Any:
    """An ``object_hook``: a batch has no maps, and even an empty one takes memory."""
    raise OverBudgetError("a map where a batch has none")
