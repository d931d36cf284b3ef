"""What a client can be told, checked once, at construction: every wrong value has its own message.

Durations are milliseconds in the options, because people write them, and seconds everywhere below.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeAlias

from streambus_client._addresses import Address, parse_addresses
from streambus_client._backoff import BackoffPolicy
from streambus_client._types import Timestamp
from streambus_client.errors import InvalidArgumentError
from streambus_protocol import ACKS_ALL, ACKS_LEADER, ACKS_NONE, FRAME_BYTES_MAX, Codec
from streambus_protocol.errors import UnsupportedCodecError

Acks: TypeAlias = Literal[0, 1, "all"]
"""When a send is answered: not at all, written by the leader, or durable on the in-sync set."""

Compression: TypeAlias = Literal["none", "gzip", "snappy", "lz4", "zstd"]
PartitionerChoice: TypeAlias = str | Callable[[str, bytes | None, int], int]
Start: TypeAlias = Literal["earliest", "latest"] | int | Timestamp | dt.datetime
"""Where reading begins: an end, an offset, or the first record at or after a time."""

OutOfRange: TypeAlias = Literal["error", "earliest", "latest"]

_ACKS: dict[object, int] = {0: ACKS_NONE, 1: ACKS_LEADER, "all": ACKS_ALL, -1: ACKS_ALL}

REQUEST_OVERHEAD_BYTES = 4096
"""Kept free in a request for its header and names."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What all clients have in common.

    Attributes:
        addresses: bootstrap servers, in the order given.
        client_id: how the client calls itself; the brokers' logs show it.
        connect_timeout_s: for one connection, handshake included.
        request_timeout_s: for one request on a connection.
        backoff: the waits between attempts.
        metadata_age_s_max: metadata older than this is asked for again.
        random: the dice of jitter, sticky partitions and the choice of a broker.
    """

    addresses: tuple[Address, ...]
    client_id: str
    connect_timeout_s: float
    request_timeout_s: float
    backoff: BackoffPolicy
    metadata_age_s_max: float
    random: Random

    @classmethod
    def make(
        cls,
        brokers: str | Sequence[str],
        *,
        client_id: str,
        connect_timeout_ms: float,
        request_timeout_ms: float,
        retry_backoff_ms: float,
        retry_backoff_ms_max: float,
        metadata_age_ms_max: float,
        random: Random | None,
    ) -> ClientOptions:
        """Check and convert.

        Raises:
            InvalidArgumentError: a value cannot be used.
        """
        _positive("connect_timeout_ms", connect_timeout_ms)
        _positive("request_timeout_ms", request_timeout_ms)
        _positive("retry_backoff_ms", retry_backoff_ms)
        _positive("metadata_age_ms_max", metadata_age_ms_max)
        if retry_backoff_ms_max < retry_backoff_ms:
            raise InvalidArgumentError("retry_backoff_ms_max", "is below retry_backoff_ms")
        return cls(
            addresses=parse_addresses(brokers),
            client_id=client_id,
            connect_timeout_s=connect_timeout_ms / 1000,
            request_timeout_s=request_timeout_ms / 1000,
            backoff=BackoffPolicy(
                first_s=retry_backoff_ms / 1000, max_s=retry_backoff_ms_max / 1000
            ),
            metadata_age_s_max=metadata_age_ms_max / 1000,
            random=random or Random(),  # noqa: S311 - jitter and spread, not secrets
        )


@dataclass(frozen=True, slots=True)
class ProducerOptions:
    """What a producer can be told beside ``ClientOptions``.

    Attributes:
        acks: the number of the wire.
        codec: the Codec number.
        partitioner: a name or a function.
        linger_s: how long a submitted record may wait for company.
        batch_bytes_max: a batch does not grow beyond this, before compression.
        buffer_bytes_max: records submitted and not acknowledged; beyond it ``submit`` waits.
        delivery_timeout_s: from submit to failure, retries included.
        retries_max: attempts after the first; None is without limit until the deadline.
        idempotent: whether batches are numbered, so that retries neither double nor reorder.
    """

    acks: int
    codec: int
    partitioner: PartitionerChoice
    linger_s: float
    batch_bytes_max: int
    buffer_bytes_max: int
    delivery_timeout_s: float
    retries_max: int | None
    idempotent: bool

    @property
    def repeatable(self) -> bool:
        """Whether a batch may be sent again, and be written once all the same."""
        return self.idempotent and self.retries_max != 0

    @classmethod
    def make(
        cls,
        *,
        acks: Acks,
        compression: str,
        partitioner: PartitionerChoice,
        linger_ms: float,
        batch_bytes_max: int,
        buffer_bytes_max: int,
        delivery_timeout_ms: float,
        retries_max: int | None,
        idempotent: bool | None,
    ) -> ProducerOptions:
        """Check and convert.

        Raises:
            InvalidArgumentError: a value cannot be used.
        """
        if isinstance(acks, bool) or acks not in _ACKS:
            raise InvalidArgumentError("acks", f'is {acks!r}; use 0, 1 or "all"')
        try:
            codec = Codec.parse(compression)
        except UnsupportedCodecError as error:
            raise InvalidArgumentError("compression", str(error)) from error
        if linger_ms < 0:
            raise InvalidArgumentError("linger_ms", f"is {linger_ms}; use 0 or more")
        batch_top = FRAME_BYTES_MAX - REQUEST_OVERHEAD_BYTES
        if not 1 <= batch_bytes_max <= batch_top:
            raise InvalidArgumentError(
                "batch_bytes_max", f"is {batch_bytes_max}; use 1 to {batch_top} bytes"
            )
        if buffer_bytes_max < batch_bytes_max:
            raise InvalidArgumentError("buffer_bytes_max", "is below batch_bytes_max")
        _positive("delivery_timeout_ms", delivery_timeout_ms)
        if retries_max is not None and retries_max < 0:
            raise InvalidArgumentError("retries_max", f"is {retries_max}; use 0 or more, or None")
        if idempotent and acks != "all":
            raise InvalidArgumentError(
                "idempotent",
                f'is True with acks={acks!r}: only acks="all" tells whether a batch is there',
            )
        return cls(
            acks=_ACKS[acks],
            codec=int(codec),
            partitioner=partitioner,
            linger_s=linger_ms / 1000,
            batch_bytes_max=batch_bytes_max,
            buffer_bytes_max=buffer_bytes_max,
            delivery_timeout_s=delivery_timeout_ms / 1000,
            retries_max=retries_max,
            idempotent=acks == "all" if idempotent is None else idempotent,
        )


@dataclass(frozen=True, slots=True)
class ConsumerOptions:
    """What a consumer can be told beside ``ClientOptions``.

    Attributes:
        start: where a partition begins that has no position yet; an offset, or a ListOffsets time.
        out_of_range: what to do at an offset that the log no longer, or not yet, has.
        fetch_wait_ms: how long a broker may wait for ``fetch_bytes_min``.
        fetch_bytes_min: bytes.
        fetch_bytes_max: of one answer.
        partition_bytes_max: of one partition in it.
        prefetch_bytes_max: fetched and not yet handed out; 0 asks only when the caller does.
        client_rack: where the program stands; None for nowhere in particular.
    """

    start: Start
    out_of_range: OutOfRange
    fetch_wait_ms: int
    fetch_bytes_min: int
    fetch_bytes_max: int
    partition_bytes_max: int
    prefetch_bytes_max: int
    client_rack: str | None

    @classmethod
    def make(
        cls,
        *,
        start: Start,
        out_of_range: OutOfRange,
        fetch_wait_ms: int,
        fetch_bytes_min: int,
        fetch_bytes_max: int,
        partition_bytes_max: int,
        prefetch_bytes_max: int,
        client_rack: str,
    ) -> ConsumerOptions:
        """Check and convert.

        Raises:
            InvalidArgumentError: a value cannot be used.
        """
        check_start(start)
        if out_of_range not in ("error", "earliest", "latest"):
            raise InvalidArgumentError(
                "out_of_range", f'is {out_of_range!r}; use "error", "earliest" or "latest"'
            )
        if fetch_wait_ms < 0:
            raise InvalidArgumentError("fetch_wait_ms", f"is {fetch_wait_ms}; use 0 or more")
        _positive("fetch_bytes_min", fetch_bytes_min)
        _positive("partition_bytes_max", partition_bytes_max)
        if not 1 <= fetch_bytes_max <= FRAME_BYTES_MAX:
            raise InvalidArgumentError(
                "fetch_bytes_max", f"is {fetch_bytes_max}; use 1 to {FRAME_BYTES_MAX} bytes"
            )
        if prefetch_bytes_max < 0:
            raise InvalidArgumentError("prefetch_bytes_max", "is negative; use 0 to switch it off")
        if type(client_rack) is not str:
            raise InvalidArgumentError("client_rack", f"is {client_rack!r}; use the name of a rack")
        return cls(
            start=start,
            out_of_range=out_of_range,
            fetch_wait_ms=int(fetch_wait_ms),
            fetch_bytes_min=fetch_bytes_min,
            fetch_bytes_max=fetch_bytes_max,
            partition_bytes_max=partition_bytes_max,
            prefetch_bytes_max=prefetch_bytes_max,
            client_rack=client_rack or None,
        )


def wall_clock_ms() -> int:
    """The time of day, in milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def check_start(start: Start) -> None:
    """Refuse what is no place to start.

    Raises:
        InvalidArgumentError: not an end, an offset of 0 or more, a Timestamp, or an aware datetime.
    """
    if isinstance(start, dt.datetime):
        if start.tzinfo is None:
            raise InvalidArgumentError("start", f"{start!r} has no time zone; give it one")
    elif isinstance(start, Timestamp):
        if start.ms < 0:
            raise InvalidArgumentError("start", f"is {start.ms} ms; times are 0 or more")
    elif isinstance(start, int) and not isinstance(start, bool):
        if start < 0:
            raise InvalidArgumentError("start", f"is offset {start}; offsets are 0 or more")
    elif start not in ("earliest", "latest"):
        raise InvalidArgumentError(
            "start",
            f'is {start!r}; use "earliest", "latest", an offset, a Timestamp or an aware datetime',
        )


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise InvalidArgumentError(name, f"is {value}; use more than 0")
