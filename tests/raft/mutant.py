"""What a seeded bug is: one change to one module of the core."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change to one module of the core."""

    name: str
    module: str
    old: str
    """Found exactly once in the module."""
    new: str
    effect: str
    test: str | None = None
    """The test that has to fail; None: the simulator has to notice."""
