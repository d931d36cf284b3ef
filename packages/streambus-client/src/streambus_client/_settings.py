"""Topic settings as they travel: text, whatever the caller wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def config_text(config: Mapping[str, object]) -> dict[str, str]:
    """Write settings as text: booleans as true and false, sequences separated by commas."""
    return {name: setting_text(value) for name, value in config.items()}


def alteration_text(config: Mapping[str, object | None]) -> dict[str, str | None]:
    """As ``config_text``; None stays, and means the default."""
    return {name: None if value is None else setting_text(value) for name, value in config.items()}


def setting_text(value: object) -> str:
    """Write one setting as text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(setting_text(item) for item in value)
    return str(value)
