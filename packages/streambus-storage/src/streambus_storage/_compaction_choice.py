"""What to compact next: a pure function from a version to a plan.

Theory of operation. In order of preference:

1. Drop: tables that lie wholly under range deletes go, unread.
2. Level 0, when more than `level0_trigger` of its tables overlap at one place: the tables
   around the deepest place, with everything that overlaps them, go to the base level. Tables
   of level 0 that overlap nothing are never merged: they cost a reader nothing.
3. A level that is over its target: the table with the least overlap below it goes one level
   down; if nothing overlaps there, it is moved without being read.
4. Tables of level 0 that overlap nothing anywhere, once there are many, go to the deepest level
   unread. (They came to level 0 because a merge was running around them.)
5. A table with more than `holes_max` holes is rewritten in place.

The base level and the targets follow the data (as in RocksDB's dynamic levels): the deepest
level has no target, each one above it a `level_multiplier`-th of the one below, and the base
is the first whose target is worth having. So a small tree has one level below 0 only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from streambus_storage._options import LEVELS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from streambus_storage._levels import TableMeta, Version
    from streambus_storage._options import Options

DEEPEST = LEVELS - 1


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove these tables, unread.

    Attributes:
        tables: All of their entries are deleted.
    """

    tables: tuple[TableMeta, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """Give tables another level, unread.

    Attributes:
        tables: Nothing overlaps them on the way.
        level: The new one.
    """

    tables: tuple[TableMeta, ...]
    level: int


@dataclass(frozen=True, slots=True)
class Merge:
    """Merge tables into new ones.

    Attributes:
        inputs: (level, table), newest first.
        level: Level of the output.
        lower: Least key of the inputs.
        upper: End of their range, exclusive.
        reason: Why, for statistics and logs.
    """

    inputs: tuple[tuple[int, TableMeta], ...]
    level: int
    lower: bytes
    upper: bytes
    reason: str


Plan = Drop | Move | Merge


class Targets(NamedTuple):
    """The shape that a tree should have.

    Attributes:
        base: The level that level 0 is merged into.
        bytes: Target size by level; 0 for those above the base; the deepest has none (-1).
    """

    base: int
    bytes: tuple[int, ...]


def targets(version: Version, options: Options) -> Targets:
    """Return the base level and each level's target size."""
    sizes = [0] * LEVELS
    base = DEEPEST
    sizes[DEEPEST] = -1
    bytes_left = version.level_bytes(DEEPEST)
    while base > 1 and bytes_left > options.level1_bytes:
        base -= 1
        bytes_left //= options.level_multiplier
        sizes[base] = max(bytes_left, options.level1_bytes // options.level_multiplier)
    # Levels above the base that hold tables (from other options) are drained first.
    occupied = next((lv for lv in range(1, LEVELS) if version.levels[lv]), DEEPEST)
    return Targets(min(base, occupied), tuple(sizes))


def depth(tables: Sequence[TableMeta]) -> tuple[int, bytes]:
    """Return how many tables overlap where most do, and the first key of that place."""
    edges = sorted(
        [(table.lower, 1) for table in tables] + [(table.upper, 0) for table in tables]
    )  # at one key, ends come before beginnings: bounds are half-open
    deepest, where, now = 0, b"", 0
    for key, begins in edges:
        now += 1 if begins else -1
        if now > deepest:
            deepest, where = now, key
    return deepest, where


def place(version: Version, table: TableMeta, busy: tuple[bytes, bytes] | None) -> int:
    """Choose the level of a freshly flushed table: the deepest if it overlaps nothing, else 0.

    Args:
        version: The present one.
        table: The new one.
        busy: The key range of the compaction that is running: its outputs may come to lie
            anywhere in it.
    """
    if busy is not None and table.overlaps(*busy):
        return 0
    if version.is_empty_between(table.lower, table.upper, range(LEVELS)):
        return DEEPEST
    return 0


def choose(version: Version, options: Options) -> Plan | None:
    """Return what to do next, or None."""
    covered = version.covered()
    if covered:
        return Drop(tuple(covered))
    shape = targets(version, options)
    deepest, where = depth(version.levels[0])
    if deepest >= options.level0_trigger:
        return _from_level0(version, shape.base, where)
    candidates = [
        (version.level_bytes(level) / max(1, shape.bytes[level]), level)
        for level in range(1, DEEPEST)
        if version.levels[level]
    ]
    score, level = max(candidates, default=(0.0, 0))
    if score > 1.0:
        return _from_level(version, level)
    if len(version.levels[0]) >= options.level0_slow:
        apart = isolated(version)
        if apart:
            return Move(tuple(apart), DEEPEST)
    if version.holes:
        for at, table in version.tables():
            if len(version.holes_in(table)) > options.holes_max and at:
                return _merge([(at, table)], at, "too many holes")
    return None


def isolated(version: Version) -> list[TableMeta]:
    """Return the tables of level 0 that share no key range with any other table."""
    ordered = sorted(version.levels[0], key=lambda table: table.lower)
    found: list[TableMeta] = []
    reach = b""  # no table before this one ends after it
    for at, table in enumerate(ordered):
        following = ordered[at + 1] if at + 1 < len(ordered) else None
        if (
            (at == 0 or reach <= table.lower)
            and (following is None or table.upper <= following.lower)
            and version.is_empty_between(table.lower, table.upper, range(1, LEVELS))
        ):
            found.append(table)
        reach = max(reach, table.upper)
    return found


def _from_level0(version: Version, base: int, where: bytes) -> Plan:
    """Merge the tables of level 0 around a place into the base level."""
    lower, upper = where, where + b"\x00"
    inputs = closure(version, lower, upper, range(1))
    lower, upper = _hull(inputs)
    below = [(base, table) for table in version.overlapping(base, lower, upper)]
    if len(inputs) == 1 and not below:
        return Move((inputs[0][1],), base)
    return _merge([*inputs, *below], base, "level 0 is deep")


def _from_level(version: Version, level: int) -> Plan:
    """Move or merge the table of a level that overlaps the least below it."""
    below = level + 1

    def cost(table: TableMeta) -> tuple[float, bytes]:
        overlap = version.overlapping(below, table.lower, table.upper)
        return sum(other.size for other in overlap) / max(1, table.size), table.lower

    table = min(version.levels[level], key=cost)
    overlap = version.overlapping(below, table.lower, table.upper)
    if not overlap:
        return Move((table,), below)
    return _merge([(level, table), *((below, t) for t in overlap)], below, "a level is full")


def closure(
    version: Version, lower: bytes, upper: bytes, levels: Collection[int]
) -> list[tuple[int, TableMeta]]:
    """Return all tables of ``levels`` that overlap [lower, upper), or each other, and so on.

    Newest first. What is left behind in these levels then shares no key with what is taken.
    """
    found: list[tuple[int, TableMeta]] = []
    while True:
        following = [
            (level, table) for level in levels for table in version.overlapping(level, lower, upper)
        ]
        if len(following) == len(found):
            return found
        found = following
        low, high = _hull(found)
        lower, upper = min(lower, low), max(upper, high)


def whole_range(version: Version, start: bytes, stop: bytes, *, force: bool) -> Merge | None:
    """Return the plan that brings [start, stop) into one level.

    None if it is in one level already, without deletes or holes; ``force``: merge all the same
    (a compaction filter is to see the entries).
    """
    inputs = closure(version, start, stop, range(LEVELS))
    if not inputs:
        return None
    level = max(at for at, _ in inputs) or DEEPEST
    clean = all(at == level and not t.tombstones and not version.holes_in(t) for at, t in inputs)
    if clean and not force:
        return None
    return _merge(inputs, level, "asked for")


def _hull(inputs: Sequence[tuple[int, TableMeta]]) -> tuple[bytes, bytes]:
    return min(t.lower for _, t in inputs), max(t.upper for _, t in inputs)


def _merge(inputs: Sequence[tuple[int, TableMeta]], level: int, reason: str) -> Merge:
    lower, upper = _hull(inputs)
    return Merge(tuple(inputs), level, lower, upper, reason)
