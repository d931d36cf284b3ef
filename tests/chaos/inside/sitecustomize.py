"""Loaded by the interpreter of a broker whose clock is set by libfaketime, before anything else.

``time.sleep`` ends in ``clock_nanosleep`` until a moment of the monotonic clock. libfaketime takes
that moment for one of the wall clock that it has changed: the call fails with EINVAL or sleeps for
a year, which no real clock ever does. ``select`` it leaves alone.
"""

from __future__ import annotations

import select
import time
from typing import SupportsFloat, SupportsIndex


def _sleep(seconds: SupportsFloat | SupportsIndex) -> None:
    select.select((), (), (), float(seconds))


time.sleep = _sleep
