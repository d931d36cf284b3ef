"""``streambus produce``: lines of standard input become records."""

import os
import sys
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from streambus_client import Producer, SendFuture, SendManyFuture
from streambus_client._cli._lines import NO_NEWLINE, LineSplitter, LineTooLongError, split_keys
from streambus_client._cli._options import (
    DEFAULT_BROKERS,
    Brokers,
    parse_headers,
    unescape,
)
from streambus_client._cli._running import ExitCode, exit_code_for, say
from streambus_client._types import Headers
from streambus_client.errors import ClientError

if TYPE_CHECKING:
    from streambus_client._options import Acks, Compression

_CHUNK_BYTES = 1024 * 1024
_UNDER_WAY_MAX = 10_000


class AcksChoice(StrEnum):
    """When a record counts as sent."""

    none = "0"
    leader = "1"
    all = "all"


class CompressionChoice(StrEnum):
    """How batches are compressed."""

    none = "none"
    gzip = "gzip"
    snappy = "snappy"
    lz4 = "lz4"
    zstd = "zstd"


class PartitionerChoice(StrEnum):
    """How a record finds its partition."""

    xxhash = "xxhash"
    murmur2 = "murmur2"
    crc32 = "crc32"
    round_robin = "round_robin"
    sticky = "sticky"


def produce(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Where to.")],
    key_separator: Annotated[
        str | None,
        typer.Option("--key-separator", "-k", help=r"What stands between key and value; \t too."),
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", help="NAME=VALUE for all; repeatable.")
    ] = None,
    acks: Annotated[AcksChoice, typer.Option("--acks", help="When a record counts as sent.")] = (
        AcksChoice.all
    ),
    partition: Annotated[
        int | None, typer.Option("--partition", "-p", min=0, help="All to this partition.")
    ] = None,
    partitioner: Annotated[
        PartitionerChoice, typer.Option("--partitioner", help="How keys are spread.")
    ] = PartitionerChoice.xxhash,
    compression: Annotated[
        CompressionChoice, typer.Option("--compression", "-z", help="Of batches.")
    ] = CompressionChoice.none,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No summary.")] = False,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds until a record has failed.")
    ] = 30.0,
) -> None:
    """Send each line of standard input as a record, byte for byte, without its newline.

    A last line without a newline is marked by a header, so that `consume` writes it without one.
    Without keys, lines stay in order within a partition, not between partitions.
    """
    separator = None if key_separator is None else unescape(key_separator)
    if separator == b"":
        raise typer.BadParameter("is empty", param_hint="--key-separator")
    headers = parse_headers(header)
    wanted_acks: Acks = "all" if acks is AcksChoice.all else 1 if acks is AcksChoice.leader else 0
    chosen: Compression = compression.value
    with Producer(
        brokers,
        acks=wanted_acks,
        compression=chosen,
        partitioner=partitioner.value,
        delivery_timeout_ms=timeout_s * 1000,
        request_timeout_ms=timeout_s * 1000,
        client_id="streambus-cli",
    ) as producer:
        producer.partition_count(topic)
        tally = _Tally()
        sender = _Sender(producer, topic, separator, headers, partition, tally)
        _pump(sender)
        tally.reap(under_way_max=0)
    if not quiet or tally.failed:
        say(f"{tally.sent} record(s) sent to {topic}, {tally.failed} failed")
    if tally.first_error is not None:
        say(str(tally.first_error))
        code = ExitCode.PARTLY_DONE if tally.sent else exit_code_for(tally.first_error)
        raise typer.Exit(int(code))


class _Tally:
    """Futures under way, and what became of those that ended."""

    def __init__(self) -> None:
        self.sent = 0
        self.failed = 0
        self.first_error: ClientError | None = None
        self._under_way: deque[tuple[SendFuture | SendManyFuture, int]] = deque()

    def add(self, future: SendFuture | SendManyFuture, count: int) -> None:
        self._under_way.append((future, count))
        self.reap(under_way_max=_UNDER_WAY_MAX)

    def reap(self, *, under_way_max: int) -> None:
        """Count what has ended; wait where more than so many are under way."""
        while self._under_way:
            future, count = self._under_way[0]
            if not future.done() and len(self._under_way) <= under_way_max:
                return
            self._under_way.popleft()
            error = future.exception()
            if error is None:
                self.sent += count
                continue
            if not isinstance(error, ClientError):
                raise error
            self.failed += count
            self.first_error = self.first_error or error


class _Sender:
    """Hands lines to the producer: as columns where they have no headers."""

    def __init__(
        self,
        producer: Producer,
        topic: str,
        separator: bytes | None,
        headers: list[tuple[str, bytes | None]],
        partition: int | None,
        tally: _Tally,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._separator = separator
        self._headers = headers
        self._partition = partition
        self._tally = tally

    def lines(self, lines: list[bytes]) -> None:
        if self._headers:
            for line in lines:
                self.line(line, self._headers)
            return
        keys: list[bytes | None] | None = None
        values: list[bytes | None] = list(lines)
        if self._separator is not None:
            keys, values = split_keys(lines, self._separator)
        future = self._producer.submit_many(self._topic, values, keys, partition=self._partition)
        self._tally.add(future, len(values))

    def line(self, line: bytes, headers: Headers) -> None:
        key, value = None, line
        if self._separator is not None:
            before, found, after = line.partition(self._separator)
            key, value = (before, after) if found else (None, before)
        future = self._producer.submit(
            self._topic, value, key=key, headers=headers, partition=self._partition
        )
        self._tally.add(future, 1)

    def last(self, line: bytes) -> None:
        self.line(line, [*self._headers, (NO_NEWLINE, None)])


def _pump(sender: _Sender) -> None:
    splitter = LineSplitter()
    descriptor = sys.stdin.fileno()
    try:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            lines = splitter.feed(chunk)
            if lines:
                sender.lines(lines)
    except LineTooLongError as error:
        raise typer.BadParameter(str(error), param_hint="standard input") from error
    last = splitter.last()
    if last is not None:
        sender.last(last)
