"""What a setting is: a dataclass field that carries its range, unit, choices and help.

Rules:

- A settings class is a frozen dataclass; every field is made by `setting`.
- `check_settings` runs in ``__post_init__``: an object that exists is valid.
- Text from a file, the environment or a flag becomes a typed value by `parse_setting`, and only
  there. ``10MiB`` and ``7d`` are understood where the unit is bytes or milliseconds.
- A wrong value gives a `SettingError` that names key, value, source and remedy.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streambus_broker.errors import ConfigError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
INT64_MAX = 2**63 - 1

_BYTE_UNITS = {"": 1, "b": 1, "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1024 * GIB}
_BYTE_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_TIME_UNITS = {"": 1, "ms": 1, "s": SECOND_MS, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}
_NUMBER = re.compile(r"^(-?\d{1,30})\s*([a-zA-Z]*)$")  # longer ones are out of every range
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one setting beside its type and default.

    Attributes:
        help: One sentence for ``--help`` and the reference.
        minimum: Smallest allowed integer, inclusive; None where it is not an integer.
        maximum: Largest allowed integer, inclusive.
        choices: The allowed words; empty where any text will do.
        unlimited: True where -1 stands for "no limit" although it lies below ``minimum``.
        check: Further check of a text; returns the problem, or an empty string.
    """

    help: str
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    unlimited: bool = False
    check: Callable[[str], str] | None = None


def setting(
    default: Any,
    help: str,  # noqa: A002 (a keyword that reads as what it is)
    *,
    minimum: int | None = None,
    maximum: int | None = None,
    choices: tuple[str, ...] = (),
    unlimited: bool = False,
    check: Callable[[str], str] | None = None,
) -> Any:
    """Make a dataclass field that carries its `Facts`."""
    facts = Facts(help, minimum, maximum, choices, unlimited, check)
    return dataclasses.field(default=default, metadata={"facts": facts})


def settings_of(table: type) -> dict[str, tuple[type, Any, Facts]]:
    """List the settings of a table: key → (type, default, facts), in order of declaration."""
    kinds = {"int": int, "bool": bool, "str": str}
    return {
        field.name: (kinds[str(field.type)], field.default, field.metadata["facts"])
        for field in dataclasses.fields(table)
    }


def parse_setting(table: type, key: str, value: object, source: str = "") -> int | bool | str:
    """Turn what a user wrote for ``key`` into its typed value.

    Args:
        table: The settings class.
        key: Name of the setting.
        value: An integer, a boolean or text; ``"16MiB"``, ``"7d"``, ``"on"`` are understood.
        source: Where it was written, for the error.

    Raises:
        SettingError: The key is unknown, or the value has the wrong type, range or form.
    """
    known = settings_of(table)
    if key not in known:
        raise unknown_key(key, known, source)
    kind, _, facts = known[key]
    if kind is bool:
        parsed: int | bool | str = _parse_boolean(key, value, source)
    elif kind is int:
        parsed = _parse_integer(key, value, source)
    elif isinstance(value, str):
        parsed = value
    else:
        raise SettingError(key, value, "is not a text", "write it as a text in quotes", source)
    check_value(key, parsed, kind, facts, source)
    return parsed


def check_value(key: str, value: object, kind: type, facts: Facts, source: str = "") -> None:
    """Check an already typed value against its range, choices and form.

    Raises:
        SettingError: It does not fit.
    """
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise SettingError(key, value, "is not an integer", _range_remedy(facts), source)
        if facts.unlimited and value == -1:
            return
        too_small = facts.minimum is not None and value < facts.minimum
        too_large = facts.maximum is not None and value > facts.maximum
        if too_small or too_large:
            raise SettingError(key, value, "is out of range", _range_remedy(facts), source)
    elif kind is bool:
        if not isinstance(value, bool):
            raise SettingError(key, value, "is neither true nor false", "use true or false", source)
    elif not isinstance(value, str):
        raise SettingError(key, value, "is not a text", "write it as a text", source)
    elif facts.choices and value not in facts.choices:
        remedy = f"choose one of {', '.join(facts.choices)}"
        raise SettingError(key, value, "is not a known choice", remedy, source)
    elif facts.check is not None and (problem := facts.check(value)):
        raise SettingError(key, value, problem, f"expected: {facts.help}", source)


def check_settings(table: object) -> None:
    """Check every field of a settings object; for ``__post_init__``.

    Raises:
        ConfigError: One or more fields are wrong; all of them are listed.
    """
    problems = []
    for key, (kind, _, facts) in settings_of(type(table)).items():
        try:
            check_value(key, getattr(table, key), kind, facts)
        except SettingError as problem:
            problems.append(problem)
    if problems:
        raise ConfigError(problems)


def parse_settings(
    table: type, values: Mapping[str, object], source: str = ""
) -> tuple[dict[str, int | bool | str], list[SettingError]]:
    """Parse many settings at once; return those that are right and an error for each other."""
    good: dict[str, int | bool | str] = {}
    problems = []
    for key, value in values.items():
        try:
            good[key] = parse_setting(table, key, value, source)
        except SettingError as problem:
            problems.append(problem)
    return good, problems


def unknown_key(key: str, known: Iterable[str], source: str = "") -> SettingError:
    """Build the error for a key that does not exist, with the nearest that does."""
    names = list(known)
    near = nearest(key.replace(".", "_").replace("-", "_"), names)
    remedy = f"did you mean {near}?" if near else f"known settings: {', '.join(names)}"
    return SettingError(key, None, "is not a known setting", remedy, source)


def nearest(key: str, known: list[str], cutoff: float = 0.6) -> str:
    """Find the known name that looks most like ``key``; empty where none does."""
    import difflib

    found = difflib.get_close_matches(key, known, n=1, cutoff=cutoff)
    return found[0] if found else ""


def _parse_boolean(key: str, value: object, source: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise SettingError(key, value, "is neither true nor false", "use true or false", source)


def _parse_integer(key: str, value: object, source: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _NUMBER.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise SettingError(key, value, "is not an integer", "write digits", source)
    units = _TIME_UNITS if key.endswith("_ms") else _BYTE_UNITS if "bytes" in key else {"": 1}
    digits, unit = match.groups()
    factor = units.get(unit if units is _TIME_UNITS else unit.lower())
    if factor is None:
        allowed = ", ".join(name for name in units if name) or "none"
        problem = f"has an unknown unit {unit!r}"
        raise SettingError(key, value, problem, f"allowed units: {allowed}", source)
    return int(digits) * factor


def _range_remedy(facts: Facts) -> str:
    low = "…" if facts.minimum is None else str(facts.minimum)
    high = "…" if facts.maximum is None else str(facts.maximum)
    return f"use {low} to {high}" + (", or -1 for no limit" if facts.unlimited else "")


def setting_text(value: int | bool | str) -> str:
    """Write a value as text that `parse_setting` reads back."""
    return str(value).lower() if isinstance(value, bool) else str(value)
