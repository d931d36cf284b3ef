"""The ways in which the outside world reaches a broker, beside the event loop's network.

The real ones by default; a simulation gives its own, and a broker then runs under virtual time on a
disk that forgets.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_storage import FileSystem, Scheduler


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


if hasattr(time, "CLOCK_BOOTTIME"):  # there is none on some systems

    def steady_clock_s() -> float:
        """A clock that never jumps, seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)  # it goes on while the machine sleeps

else:
    steady_clock_s = time.monotonic


@dataclass(frozen=True, slots=True)
class Doors:
    """See the module.

    Attributes:
        clock_ms: The wall clock, milliseconds since 1970.
        random: The source of ids.
        file_system: Where the trees live; None for the real one.
        scheduler: Makes the scheduler of one tree; None for threads.
        steady_s: A clock that never jumps, seconds; None for the event loop's time, which an event
            loop may hold still while it works.
    """

    clock_ms: Callable[[], int] = _wall_clock_ms
    random: random.Random = field(default_factory=random.SystemRandom)
    file_system: FileSystem | None = None
    scheduler: Callable[[], Scheduler] | None = None
    steady_s: Callable[[], float] | None = None
