r"""Lines to records and back, byte for byte. Pure.

A line is what stands before a ``\n``; nothing else ends one, and nothing is decoded. A last line
without its ``\n`` becomes a record with the header ``streambus-no-newline``, and is written without
one again: what ``produce`` reads, ``consume`` gives back to the byte. (Should a record of another
partition follow such a line in the output, the ``\n`` is put in between after all.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streambus_client._types import Record

NO_NEWLINE = "streambus-no-newline"
LINE_BYTES_MAX = 16 * 1024 * 1024


class LineTooLongError(Exception):
    """A line has more bytes than a record may have.

    Attributes:
        number: of the line, from 1.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"line {number} has more than {LINE_BYTES_MAX} bytes")
        self.number = number


class LineSplitter:
    """Chunks of input in, whole lines out."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._lines = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and give the lines that are now whole, without their newlines.

        Raises:
            LineTooLongError: no newline for too long.
        """
        if b"\n" not in chunk:
            self._rest.append(chunk)
            self._rest_bytes += len(chunk)
            if self._rest_bytes > LINE_BYTES_MAX:
                raise LineTooLongError(self._lines + 1)
            return []
        lines = b"".join((*self._rest, chunk)).split(b"\n")
        rest = lines.pop()
        self._rest = [rest] if rest else []
        self._rest_bytes = len(rest)
        self._lines += len(lines)
        return lines

    def last(self) -> bytes | None:
        """What is left at the end of the input: a line without a newline, or None."""
        return b"".join(self._rest) if self._rest else None


def split_keys(
    lines: Sequence[bytes], separator: bytes
) -> tuple[list[bytes | None], list[bytes | None]]:
    """Cut each line at the first separator; a line without one has no key.

    Returns:
        Keys and values.
    """
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    for line in lines:
        key, found, value = line.partition(separator)
        keys.append(key if found else None)
        values.append(value if found else key)
    return keys, values


class LineWriter:
    """Records in, bytes out, in the default format: each value and a newline."""

    def __init__(self) -> None:
        self._owed_to: tuple[str, int] | None = None

    def values(
        self, where: tuple[str, int], values: Sequence[bytes | None], open_ended: Sequence[bool]
    ) -> bytes:
        """Write values of one partition.

        Args:
            where: topic and partition.
            values: None is written as an empty line.
            open_ended: for each whether its newline is missing; empty for none.
        """
        before = b""
        if self._owed_to is not None and self._owed_to != where:
            before = b"\n"
        self._owed_to = None
        filled = [b"" if value is None else value for value in values] if None in values else values
        if not any(open_ended):
            return before + b"\n".join([*filled, b""])  # type: ignore[list-item]  # no None is left
        parts = [before]
        for value, is_open in zip(filled, open_ended, strict=True):
            parts.append(value or b"")
            parts.append(b"" if is_open else b"\n")
        if open_ended[-1]:
            self._owed_to = where
        return b"".join(parts)


class Format:
    r"""A format such as ``'%k %v\n'``, compiled once.

    ``%t`` topic, ``%p`` partition, ``%o`` offset, ``%T`` timestamp in ms, ``%k`` key, ``%v`` value,
    ``%h`` headers as ``name=value,...``, ``%%`` a percent sign. A missing key or value is written
    as nothing.

    Args:
        template: bytes, its escapes already resolved.

    Raises:
        ValueError: a ``%`` is followed by something else.
    """

    def __init__(self, template: bytes) -> None:
        self._parts: list[bytes | str] = []
        position = 0
        while (found := template.find(b"%", position)) >= 0:
            self._parts.append(template[position:found])
            code = template[found + 1 : found + 2].decode("latin-1")
            if code == "%":
                self._parts.append(b"%")
            elif code and code in "tpoTkvh":
                self._parts.append(code)
            else:
                raise ValueError(f"%{code} is not one of %t %p %o %T %k %v %h %%")
            position = found + 2
        self._parts.append(template[position:])

    def write(self, record: Record) -> bytes:
        """Write one record."""
        return b"".join(
            part if isinstance(part, bytes) else _field(record, part) for part in self._parts
        )


def _field(record: Record, code: str) -> bytes:
    if code == "v":
        return record.value or b""
    if code == "k":
        return record.key or b""
    if code == "o":
        return b"%d" % record.offset
    if code == "p":
        return b"%d" % record.partition
    if code == "T":
        return b"%d" % record.timestamp_ms
    if code == "t":
        return record.topic.encode()
    return b",".join(
        name.encode("utf-8", "surrogateescape") + (b"" if value is None else b"=" + value)
        for name, value in record.headers
    )
