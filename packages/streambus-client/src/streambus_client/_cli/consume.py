"""``streambus consume``: records become lines of standard output."""

import base64
import json
import sys
from bisect import bisect_left
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer

from streambus_client import Consumer, Record, RecordColumns, TopicPartition
from streambus_client._cli._lines import NO_NEWLINE, Format, LineWriter
from streambus_client._cli._options import (
    DEFAULT_BROKERS,
    RACK_VARIABLE,
    Brokers,
    TimeoutS,
    parse_start,
    unescape,
)
from streambus_client._cli._running import say


class Shape(StrEnum):
    """How records are written."""

    lines = "lines"
    jsonl = "jsonl"


def consume(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Where from.")],
    offset: Annotated[
        str,
        typer.Option("--offset", "-o", help="start, end, an offset, or @ and ms or ISO 8601."),
    ] = "start",
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=0, help="Stop after so many records.")
    ] = None,
    exit_at_end: Annotated[
        bool, typer.Option("--exit", "-e", help="Stop at the end, as it is now.")
    ] = False,
    format_: Annotated[
        str | None,
        typer.Option("--format", "-f", help=r"%t %p %o %T %k %v %h %%, and \n \t \xHH."),
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", "-p", min=0, help="Only this; repeatable.")
    ] = None,
    output: Annotated[Shape, typer.Option("--output", help="Lines, or JSON objects.")] = (
        Shape.lines
    ),
    client_rack: Annotated[
        str,
        typer.Option(
            "--client-rack", envvar=RACK_VARIABLE, help="Read from replicas in this rack."
        ),
    ] = "",
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Print the values of records, each with a newline, byte for byte.

    A line that `produce` read without a newline at the end of its input is printed without one.
    """
    start = parse_start(offset)
    template = None
    if format_ is not None:
        try:
            template = Format(unescape(format_))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--format") from error
    if count == 0:
        return
    with Consumer(
        brokers,
        start=start,  # type: ignore[arg-type]  # parse_start gives nothing else
        request_timeout_ms=timeout_s * 1000,
        client_rack=client_rack,
        client_id="streambus-cli",
    ) as consumer:
        if partition:
            consumer.assign([TopicPartition(topic, number) for number in partition])
        else:
            consumer.subscribe(topic)
        ends = consumer.latest()
        if isinstance(start, int):
            _say_if_beyond(start, ends)
        write = _json_lines if output is Shape.jsonl else _formatted(template)
        for columns in _until(consumer, ends if exit_at_end else None, count):
            sys.stdout.buffer.write(write(columns))
            sys.stdout.buffer.flush()


def _say_if_beyond(start: int, ends: dict[TopicPartition, int]) -> None:
    """An offset beyond the end is likely a mistake: nothing is there yet."""
    for where, end in sorted(ends.items()):
        if start > end:
            say(f"{where} ends at offset {end}; there is no record at {start} yet")


def _until(
    consumer: Consumer, ends: dict[TopicPartition, int] | None, count: int | None
) -> Iterator[RecordColumns]:
    """Batches until the ends or the count are reached, cut to size."""
    left = count
    if ends is not None:
        positions = consumer.positions()
        ends = {where: end for where, end in ends.items() if positions.get(where, 0) < end}
        if not ends:
            return
    for columns in consumer.batches():
        stop = len(columns.offsets)
        where = TopicPartition(columns.topic, columns.partition)
        if ends is not None:
            end = ends.get(where, 0)
            stop = bisect_left(columns.offsets, end)
        if left is not None:
            stop = min(stop, left)
            left -= stop
        if stop == len(columns.offsets):
            yield columns
        elif stop:
            yield _cut(columns, stop)
        if left == 0:
            return
        if ends is not None:
            positions = consumer.positions()
            ends = {one: end for one, end in ends.items() if positions.get(one, 0) < end}
            if not ends:
                return


def _cut(columns: RecordColumns, stop: int) -> RecordColumns:
    headers = columns.headers[:stop] if columns.headers is not None else None
    return RecordColumns(
        columns.topic,
        columns.partition,
        columns.offsets[:stop],
        columns.timestamps_ms[:stop],
        columns.keys[:stop],
        columns.values[:stop],
        headers,
    )


class _formatted:  # noqa: N801 - a function with a memory
    """Write batches in a format, or as plain lines."""

    def __init__(self, template: Format | None) -> None:
        self._template = template
        self._writer = LineWriter()

    def __call__(self, columns: RecordColumns) -> bytes:
        if self._template is not None:
            return b"".join(map(self._template.write, columns.records()))
        open_ended: list[bool] = []
        if columns.headers is not None:
            open_ended = [
                any(name == NO_NEWLINE for name, _ in headers) for headers in columns.headers
            ]
        return self._writer.values((columns.topic, columns.partition), columns.values, open_ended)


def _json_lines(columns: RecordColumns) -> bytes:
    return b"".join(_json_line(record) for record in columns.records())


def _json_line(record: Record) -> bytes:
    thing = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(value)] for name, value in record.headers],
    }
    return json.dumps(thing, separators=(",", ":")).encode() + b"\n"


def _text(data: bytes | None) -> object:
    """UTF-8 as a string, anything else as ``{"base64": ...}``."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
