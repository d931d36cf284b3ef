"""How far flush and compaction are behind the writers, and how fast writers may be meanwhile.

Theory of operation. Level 0 is the buffer between writers and compaction: each flush makes it
deeper, each merge shallower again. From `level0_slow` on writers are held to a rate, which halves
`HALVINGS` times on the way to `level0_stop`. So a load at full speed settles at the depth at
which it is as fast as compaction; writers become slower, not still, and none of them waits for
long. Only what even that does not hold back waits, at `level0_stop`.

A write pays for the one before it: it waits until that would be through at the rate. Waits shorter
than `LUMP_SECONDS` are put off until they have added up.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from streambus_storage._compaction_choice import depth

if TYPE_CHECKING:
    from streambus_storage._options import Options
    from streambus_storage._view import TreeState

BYTES_PER_SECOND_MAX = 64 << 20
"""The rate at `level0_slow`: about what one writer can do, so that slowing down has no step."""

HALVINGS = 10
"""At `level0_stop` writers have a 1024th of it, 64 KiB a second."""

LUMP_SECONDS = 0.001
"""No writer sleeps for less: a sleep costs some 60 µs more than was asked for."""

WAIT_SECONDS_MAX = 1.0
"""No write waits longer than this for its turn, however large the one before it was."""

WRITE_BYTES = 64
"""What a write costs beside its key and value: an entry in a block, an index, a filter."""


class Pressure(IntEnum):
    """How far flush and compaction are behind the writers."""

    NONE = 0
    SLOW = 1
    STOP = 2


class Pace(NamedTuple):
    """What writers have to expect.

    Attributes:
        pressure: Whether they are held back.
        bytes_per_second: The rate that all writers together have; infinite unless `SLOW`.
    """

    pressure: Pressure
    bytes_per_second: float


FREE = Pace(Pressure.NONE, math.inf)
STANDING = Pace(Pressure.STOP, math.inf)


def is_overfull(state: TreeState | None, options: Options) -> bool:
    """Tell whether the memtable has twice its size: the next segment is not ready in time."""
    return state is not None and state.active.bytes >= 2 * options.memtable_bytes


def measure(state: TreeState | None, options: Options, *, prepared: bool) -> Pace:
    """Compute how far the background is behind.

    Args:
        state: The present one; None: the tree is closed.
        options: Of the tree.
        prepared: The next log segment is there.
    """
    if state is None:
        return FREE
    if len(state.frozen) > options.memtables_max:
        return STANDING
    if not prepared and is_overfull(state, options):
        return STANDING
    if options.automatic_compaction and len(state.tables.level0) >= options.level0_slow:
        deepest, _ = depth(state.tables.version.levels[0])
        if deepest >= options.level0_stop:
            return STANDING
        if deepest >= options.level0_slow:
            # What waits for its flush will lie on top.
            above = deepest + len(state.frozen) - options.level0_slow
            share = min(1.0, above / (options.level0_stop - options.level0_slow))
            return Pace(Pressure.SLOW, BYTES_PER_SECOND_MAX / 2 ** (HALVINGS * share))
    return FREE


class Dues:
    """What the last writes still owe. Pure; of several writers at once one may go unpaid."""

    __slots__ = ("_paid",)

    def __init__(self) -> None:
        self._paid = 0.0  # the time at which all of it is through

    def seconds(self, now: float) -> float:
        """Return how long the next write has to wait; 0: it may go on."""
        left = self._paid - now
        return min(left, WAIT_SECONDS_MAX) if left >= LUMP_SECONDS else 0.0

    def add(self, size: int, pace: Pace, now: float) -> None:
        """Note that a write of ``size`` bytes goes on ``now``."""
        seconds = (size + WRITE_BYTES) / pace.bytes_per_second
        self._paid = min(max(self._paid, now) + seconds, now + WAIT_SECONDS_MAX)
