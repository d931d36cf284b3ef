"""What a seeded bug is."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change to one module of the broker."""

    name: str
    module: str
    """Below ``streambus_broker``."""
    old: str
    """Found exactly once in the module."""
    new: str
    effect: str
