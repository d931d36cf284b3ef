"""Calls what users want to be called when a record has ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_log = logging.getLogger("streambus_client")


def call_back(callbacks: Iterable[Callable[[], None]]) -> None:
    """Call callbacks; one that raises is logged and keeps no other from being called."""
    for callback in callbacks:
        try:
            callback()
        except Exception:  # noqa: BLE001 - it is the user's, and may raise anything
            _log.exception("a done callback raised")
