"""Kafka's value types: parse them as Kafka does, and say plainly what does not fit.

Source: org.apache.kafka.common.config.ConfigDef.parseType (white space around a value is dropped,
integers are decimal with an optional sign, booleans are true or false in any case).
"""

from __future__ import annotations

import re

Value = int | bool | str

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_ENDPOINT = re.compile(
    r"(?:(?P<name>[A-Za-z][\w.-]*)://)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[\w.-]*)):(?P<port>[0-9]{1,5})",
    re.ASCII,
)
SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS


class InvalidValueError(ValueError):
    """A value that Kafka itself would refuse. The message never repeats the value."""


class NoCounterpartError(ValueError):
    """A right value for which StreamBus has nothing; the message says why."""


def integer(text: str) -> int:
    """Parse a decimal integer, as Java does."""
    if not _INTEGER.fullmatch(text):
        raise InvalidValueError("is not an integer")
    return int(text)


def boolean(text: str) -> bool:
    """Parse true or false, in any case."""
    word = text.lower()
    if word not in {"true", "false"}:
        raise InvalidValueError("is neither true nor false")
    return word == "true"


def text(value: str) -> str:
    """Take a text as it is."""
    return value


def items(value: str) -> list[str]:
    """Split a comma-separated list; empty parts are dropped."""
    return [part for part in (part.strip() for part in value.split(",")) if part]


def seconds(value: str) -> int:
    """Turn seconds into milliseconds; -1 stays no limit."""
    return _scaled(value, SECOND_MS)


def minutes(value: str) -> int:
    """Turn minutes into milliseconds; -1 stays no limit."""
    return _scaled(value, MINUTE_MS)


def hours(value: str) -> int:
    """Turn hours into milliseconds; -1 stays no limit."""
    return _scaled(value, HOUR_MS)


def _scaled(value: str, factor: int) -> int:
    count = integer(value)
    return count if count == -1 else count * factor


def endpoint(value: str) -> tuple[str, str, int]:
    """Split ``NAME://HOST:PORT`` into its listener name ('' if none), host and port.

    IPv6 hosts stand in brackets and are returned in brackets.
    """
    match = _ENDPOINT.fullmatch(value)
    if match is None or int(match["port"]) > 65535:
        raise InvalidValueError("is not NAME://HOST:PORT")
    host = f"[{match['v6']}]" if match["v6"] else match["host"]
    return match["name"] or "", host, int(match["port"])
