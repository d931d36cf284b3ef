r"""Read Kafka configuration: Java ``.properties``, or what ``kafka-configs --describe`` prints.

Rules:

- Every entry is kept, in order, with its line; duplicates too. Whoever converts decides.
- ``.properties`` is read as Java reads it (and so Kafka): ISO-8859-1, ``=``, ``:`` or white space
  behind the key, lines continued by a backslash, ``\\uXXXX``. A broken ``\\u`` is an error in Java,
  and is one here.
- Sizes are bounded before anything is parsed.

Source: java.util.Properties.load(InputStream), which Kafka's start scripts reach through
Utils.loadProps; the describe format is printed by kafka.admin.ConfigCommand.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import javaproperties

from streambus_migrate.errors import NotPropertiesError, UnreadableFileError

FILE_BYTES_MAX = 256 * 1024  # Kafka's own longest sample has 8 KiB
JOINING_BYTES_MAX = 32 * 1024 * 1024
"""Bytes looked at while continued lines are joined: the parser looks at all that came before, once
for each of them. 1,000 lines of certificates cost as much; half a file of backslashes far more."""
EXIT_NOT_FOUND, EXIT_NOT_ALLOWED, EXIT_USAGE = 5, 4, 2

_DESCRIBE_HEADING = re.compile(
    r"^(?:Dynamic|Static|Default|All|Quota)?\s*configs? for (?:the )?(?:default )?"
    r"(?P<type>[\w-]+?)s?(?: (?P<name>\S+))?(?: in the entire cluster)? are:?\s*$",
    re.IGNORECASE,
)
_DESCRIBE_ENTRY = re.compile(
    r"^\s+(?P<key>[\w.\-]+)=(?P<value>.*?) sensitive=(?P<sensitive>true|false) synonyms=\{.*\}\s*$"
)
_KIND_OF_ENTITY = {"topic": "topic", "broker": "server"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with its value, as written.

    Attributes:
        line: Number of the line on which it begins, from 1.
        key: Unescaped; never empty in a file that makes sense, but Java allows it.
        value: Unescaped; white space at its end is kept, as Java keeps it.
        hidden: True where the source itself says that the value is secret.
    """

    line: int
    key: str
    value: str
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Entries that configure one thing.

    Attributes:
        name: The entity a listing names; empty for a properties file.
        kind: ``server`` or ``topic`` where a listing says so, else None.
        entries: In order of lines, duplicates included.
        ignored: Lines that hold no entry and are no comment: ``(line, why)``.
    """

    name: str
    kind: str | None
    entries: tuple[Entry, ...]
    ignored: tuple[tuple[int, str], ...] = ()


def read_bytes(path: str) -> bytes:
    """Read a whole file.

    Raises:
        UnreadableFileError: It does not exist, is a directory, or may not be read.
        NotPropertiesError: It is larger than `FILE_BYTES_MAX`.
    """
    try:
        if os.path.isdir(path):
            raise UnreadableFileError(path, "is a directory; name the files", EXIT_USAGE)
        with open(path, "rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as exc:
        raise UnreadableFileError(path, "does not exist", EXIT_NOT_FOUND) from exc
    except PermissionError as exc:
        raise UnreadableFileError(path, "may not be read by this user", EXIT_NOT_ALLOWED) from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
        raise UnreadableFileError(path, f"cannot be read: {exc}", 1) from exc
    if len(content) > FILE_BYTES_MAX:
        problem = f"has more than {FILE_BYTES_MAX // 1024} KiB; a Kafka configuration is smaller"
        raise NotPropertiesError(path, problem)
    return content


def parse(path: str, content: bytes) -> list[Section]:
    r"""Parse configuration text into sections; a properties file is one section.

    Args:
        path: Named in errors only.
        content: The bytes of the file.

    Raises:
        NotPropertiesError: It is binary or UTF-16, or has a broken ``\\u`` escape.
    """
    if b"\0" in content:
        problem = "is not a properties file: it holds NUL bytes (UTF-16?); save it as ISO-8859-1"
        raise NotPropertiesError(path, problem)
    lines = content.decode("latin-1").splitlines()
    if any(_DESCRIBE_HEADING.match(line) or _DESCRIBE_ENTRY.match(line) for line in lines):
        return _parse_description(lines)
    return [Section("", None, tuple(_parse_properties(path, content)))]


def _parse_properties(path: str, content: bytes) -> list[Entry]:
    entries: list[Entry] = []
    line = 1
    _check_joining(path, content)
    try:
        for element in javaproperties.parse(content):
            if isinstance(element, javaproperties.KeyValue):
                entries.append(Entry(line, element.key, element.value))
            line += _line_count(element.source)
    except javaproperties.InvalidUEscapeError as exc:
        problem = "a \\u that is not followed by four hexadecimal digits; Java refuses the file too"
        raise NotPropertiesError(path, problem, line) from exc
    return entries


def _check_joining(path: str, content: bytes) -> None:
    joined = cost = 0
    for number, line in enumerate(content.splitlines(), 1):
        joined += len(line)
        cost += joined
        if (len(line) - len(line.rstrip(b"\\"))) % 2 == 0:
            joined = 0
        if joined and cost > JOINING_BYTES_MAX:
            problem = "too many lines are joined by backslashes; no Kafka setting is that long"
            raise NotPropertiesError(path, problem, number)


def _line_count(source: str) -> int:
    return source.count("\n") + source.count("\r") - source.count("\r\n")


def _parse_description(lines: list[str]) -> list[Section]:
    """Split a listing at its headings; lines before the first heading make a section of their own.

    A value that is an object's ``null`` in a secret entry was never shown by Kafka: it is hidden.
    """
    found: list[tuple[str, str | None, list[Entry], list[tuple[int, str]]]] = [("", None, [], [])]
    for number, line in enumerate(lines, 1):
        if heading := _DESCRIBE_HEADING.match(line):
            entity = heading["type"].lower()
            name = " ".join(filter(None, [entity, heading["name"]]))
            found.append((name, _KIND_OF_ENTITY.get(entity), [], []))
        elif entry := _DESCRIBE_ENTRY.match(line):
            hidden = entry["sensitive"] == "true"
            found[-1][2].append(Entry(number, entry["key"], entry["value"], hidden))
        elif line.strip():
            found[-1][3].append((number, "is neither a heading nor 'key=value sensitive=…'"))
    return [
        Section(name, kind, tuple(entries), tuple(ignored))
        for name, kind, entries, ignored in found
        if name or entries or ignored
    ]
