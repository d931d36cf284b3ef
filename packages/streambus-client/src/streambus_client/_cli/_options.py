"""Options and parsers that several commands share."""

from __future__ import annotations

import datetime as dt
import re
from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from streambus_client._cli import BROKERS_VARIABLE
from streambus_client._types import Timestamp

DEFAULT_BROKERS = "127.0.0.1:9092"
RACK_VARIABLE = "STREAMBUS_CLIENT_RACK"

Brokers: TypeAlias = Annotated[
    str,
    typer.Option(
        "--brokers", "-b", envvar=BROKERS_VARIABLE, help="Servers to begin with: HOST:PORT,..."
    ),
]
TimeoutS: TypeAlias = Annotated[
    float, typer.Option("--timeout", min=0.1, help="Seconds until a command gives up.")
]
DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Only say whether it could be done.")
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Settings: TypeAlias = Annotated[
    list[str] | None, typer.Option("--config", "-c", help="A setting, NAME=VALUE; repeatable.")
]


class Output(StrEnum):
    """How a list of things is written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"


OutputOption: TypeAlias = Annotated[Output, typer.Option("--output", "-o", help="How to write it.")]

_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\"}
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)


def unescape(text: str) -> bytes:
    r"""Turn an argument into bytes: ``\n``, ``\t``, ``\r``, ``\0``, ``\\`` and ``\xHH``."""

    def one(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        if code.startswith(b"x") and len(code) == 3:
            return bytes([int(code[1:], 16)])
        return _ESCAPES.get(code.decode("latin-1"), match.group(0))

    return _ESCAPE.sub(one, text.encode("utf-8", "surrogateescape"))


def parse_settings(settings: list[str] | None) -> dict[str, str]:
    """Read ``NAME=VALUE`` settings.

    Raises:
        typer.BadParameter: there is no ``=``.
    """
    parsed = {}
    for setting in settings or []:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{setting!r} is not NAME=VALUE", param_hint="--config")
        parsed[name] = value
    return parsed


def parse_headers(headers: list[str] | None) -> list[tuple[str, bytes | None]]:
    """Read ``NAME=VALUE`` record headers; ``NAME`` alone has no value.

    Raises:
        typer.BadParameter: the name is empty.
    """
    parsed: list[tuple[str, bytes | None]] = []
    for header in headers or []:
        name, equals, value = header.partition("=")
        if not name:
            raise typer.BadParameter(f"{header!r} is not NAME=VALUE", param_hint="--header")
        parsed.append((name, value.encode("utf-8", "surrogateescape") if equals else None))
    return parsed


def parse_time(text: str) -> Timestamp:
    """Read a time: milliseconds since 1970-01-01 UTC, or ISO 8601 (UTC where no zone is given).

    Raises:
        typer.BadParameter: it is neither.
    """
    if text.isascii() and text.isdigit():
        return Timestamp(int(text))
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither milliseconds nor ISO 8601") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return Timestamp(int(moment.timestamp() * 1000))


def parse_start(text: str) -> str | int | Timestamp:
    """Read where to begin: ``start``, ``end``, an offset, or ``@`` and a time.

    Raises:
        typer.BadParameter: it is none of them.
    """
    if text in ("start", "earliest"):
        return "earliest"
    if text in ("end", "latest"):
        return "latest"
    if text.startswith("@"):
        return parse_time(text[1:])
    if text.isascii() and text.isdigit():
        return int(text)
    raise typer.BadParameter(f"{text!r} is not start, end, an offset, or @ and a time")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed.

    Raises:
        typer.BadParameter: nobody is there to be asked, and ``--yes`` was not given.
        typer.Exit: the answer was no (exit code 1).
    """
    if yes:
        return
    import sys

    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is here to be asked; give --yes", param_hint="--yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(1)
