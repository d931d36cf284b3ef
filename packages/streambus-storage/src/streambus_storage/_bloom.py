"""Bloom filters, blocked: one 64-bit word per key, four bits in it.

One hash, one word, one comparison: that is what a pure-Python reader can afford (about 0.25 µs).
With 10 bits per key about 2 % of the absent keys get through.

For a filter of n words and h = xxh3_64(key): the word is ``h mod n``; the bits in it are the
four 6-bit numbers that make up the top 24 bits of h.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

hash_key = xxh3_64_intdigest

_PAIR = [(1 << (pair & 63)) | (1 << (pair >> 6)) for pair in range(4096)]
"""Two bits of a word for each 12-bit number."""


class Filter:
    """Says "surely not here" or "perhaps"."""

    __slots__ = ("words",)

    def __init__(self, words: array[int]) -> None:
        self.words = words

    def may_hold(self, key: bytes) -> bool:
        """Tell whether ``key`` may be among the keys that the filter was built from."""
        h = hash_key(key)
        words = self.words
        mask = _PAIR[h >> 52] | _PAIR[(h >> 40) & 4095]
        return words[h % len(words)] & mask == mask

    def to_bytes(self) -> bytes:
        """Return the words, little-endian."""
        words = self.words
        if sys.byteorder == "big":  # pragma: no cover - no such machine at hand
            words = array("Q", words)
            words.byteswap()
        return words.tobytes()


def build_slices(
    hashes: Sequence[int], bits_per_key: int, slice_keys: int = 1024
) -> Iterator[Filter | None]:
    """Build a filter in slices: yield None after each, and at last the filter."""
    count = max(1, -(-len(hashes) * bits_per_key // 64))
    words = array("Q", bytes(8 * count))  # a fifth of a list's memory: it is written at random
    pair = _PAIR
    for begin in range(0, len(hashes), slice_keys):
        for h in hashes[begin : begin + slice_keys]:
            top = h >> 40
            words[h % count] |= pair[top >> 12] | pair[top & 4095]
        yield None
    yield Filter(words)


def from_bytes(data: bytes) -> Filter | None:
    """Return the filter stored as ``data``, or None if there is none (no whole word)."""
    if not data or len(data) % 8:
        return None
    words = array("Q", data)
    if sys.byteorder == "big":  # pragma: no cover - no such machine at hand
        words.byteswap()
    return Filter(words)
