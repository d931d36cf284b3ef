"""Randomness from one seed."""

from __future__ import annotations

import random


def random_source(seed: int, name: str = "") -> random.Random:
    """Derive an independent random stream from a seed and the name of its user.

    One stream for each user keeps a trace stable: a disk that draws one number more does not
    change what the scheduler draws.

    Args:
        seed: the seed of the whole run, any integer.
        name: who draws from the stream, such as ``"disk"``.
    """
    # A str seed is hashed with SHA-512 by Random itself, the same on every machine and version.
    return random.Random(f"{seed}/{name}")  # noqa: S311 - reproducible on purpose, nothing secret
