"""Which partition a record goes to.

Rules:
    1. A partitioner is a function of (topic, key, partition count) and of its own small state; all
       dice come from an injected ``random.Random``.
    2. An explicit partition given by the caller is never overruled: it does not come here at all.
    3. ``None`` and ``b""`` are different keys, except where the imitated client says otherwise.
    4. The result is always in ``range(partition_count)``.

Keyed records of the three hashing partitioners agree, byte for byte, with the clients that they
are named after, so that producers of both kinds can feed one topic during a migration.
"""

from __future__ import annotations

import zlib
from struct import unpack_from
from typing import TYPE_CHECKING, Protocol

from xxhash import xxh3_64_intdigest

from streambus_client.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


class Partitioner(Protocol):
    """What a producer asks for each record without an explicit partition."""

    def partition(self, topic: str, key: bytes | None, partition_count: int, /) -> int:
        """Choose a partition in ``range(partition_count)``; ``partition_count`` is at least 1."""
        ...

    def batch_closed(self, topic: str, partition: int, /) -> None:
        """Take note that a batch for this partition is full or due: a sticky choice moves on."""
        ...


def murmur2(data: bytes) -> int:
    """Hash as Java Kafka does; the result is the signed 32-bit number that Java prints.

    Source: ``org.apache.kafka.common.utils.Utils.murmur2``; vectors of its ``UtilsTest``.
    """
    length = len(data)
    hashed = 0x9747B28C ^ length
    whole = length & ~3
    for word in unpack_from(f"<{whole >> 2}I", data):
        mixed = word * 0x5BD1E995 & 0xFFFFFFFF
        mixed = (mixed ^ mixed >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        hashed = hashed * 0x5BD1E995 & 0xFFFFFFFF ^ mixed
    if whole != length:
        hashed ^= int.from_bytes(data[whole:], "little")
        hashed = hashed * 0x5BD1E995 & 0xFFFFFFFF
    hashed = (hashed ^ hashed >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    hashed ^= hashed >> 15
    return hashed - (1 << 32) if hashed & 0x80000000 else hashed


class _Sticky:
    """One random partition per topic until its batch closes, then another.

    Records without a key need no spread record by record; keeping them together makes few large
    batches instead of many small ones. Source: KIP-480.
    """

    __slots__ = ("_current", "_random")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._current: dict[str, int] = {}

    def choose(self, topic: str, partition_count: int) -> int:
        current = self._current.get(topic)
        if current is None or current >= partition_count:
            current = self._random.randrange(partition_count)
            self._current[topic] = current
        return current

    def closed(self, topic: str, partition: int) -> None:
        if self._current.get(topic) == partition:
            del self._current[topic]


class XxhashPartitioner:
    """The default: xxh3-64 of the key modulo the partition count; without a key, sticky."""

    __slots__ = ("_sticky",)

    def __init__(self, random: Random) -> None:
        self._sticky = _Sticky(random)

    def partition(self, topic: str, key: bytes | None, partition_count: int, /) -> int:
        """Choose by hash, or stick where there is no key."""
        if key is None:
            return self._sticky.choose(topic, partition_count)
        return xxh3_64_intdigest(key) % partition_count

    def batch_closed(self, topic: str, partition: int, /) -> None:
        """Let records without a key move to another partition."""
        self._sticky.closed(topic, partition)


class Murmur2Partitioner:
    """The choice of the Java Kafka client: positive murmur2 of the key; without a key, sticky.

    An empty key is a key: it hashes to 275646681, as in Java.
    """

    __slots__ = ("_sticky",)

    def __init__(self, random: Random) -> None:
        self._sticky = _Sticky(random)

    def partition(self, topic: str, key: bytes | None, partition_count: int, /) -> int:
        """Choose by hash, or stick where there is no key."""
        if key is None:
            return self._sticky.choose(topic, partition_count)
        return (murmur2(key) & 0x7FFFFFFF) % partition_count

    def batch_closed(self, topic: str, partition: int, /) -> None:
        """Let records without a key move to another partition."""
        self._sticky.closed(topic, partition)


class Crc32Partitioner:
    """The choice of librdkafka's default, ``consistent_random``.

    crc32 of the key modulo the partition count. A missing key *and an empty one* get a random
    partition, record by record. Source: ``rd_kafka_msg_partitioner_consistent_random``; vectors of
    librdkafka's ``0048-partitioner.c``.
    """

    __slots__ = ("_random",)

    def __init__(self, random: Random) -> None:
        self._random = random

    def partition(self, _topic: str, key: bytes | None, partition_count: int, /) -> int:
        """Choose by checksum, or at random where the key is missing or empty."""
        if not key:
            return self._random.randrange(partition_count)
        return zlib.crc32(key) % partition_count

    def batch_closed(self, topic: str, partition: int, /) -> None:
        """Nothing to note: every record without a key is thrown anew."""


class RoundRobinPartitioner:
    """Each record to the next partition of its topic; keys are ignored."""

    __slots__ = ("_next",)

    def __init__(self, random: Random) -> None:
        del random
        self._next: dict[str, int] = {}

    def partition(self, topic: str, _key: bytes | None, partition_count: int, /) -> int:
        """Choose the partition after the last one, from 0."""
        chosen = self._next.get(topic, 0) % partition_count
        self._next[topic] = chosen + 1
        return chosen

    def batch_closed(self, topic: str, partition: int, /) -> None:
        """Nothing to note: the turn goes by record."""


class StickyPartitioner:
    """One partition until its batch closes, then another; keys are ignored."""

    __slots__ = ("_sticky",)

    def __init__(self, random: Random) -> None:
        self._sticky = _Sticky(random)

    def partition(self, topic: str, _key: bytes | None, partition_count: int, /) -> int:
        """Choose the current partition of the topic."""
        return self._sticky.choose(topic, partition_count)

    def batch_closed(self, topic: str, partition: int, /) -> None:
        """Move to another partition."""
        self._sticky.closed(topic, partition)


class CustomPartitioner:
    """A caller's own function of topic, key and partition count, its result checked."""

    __slots__ = ("_choose",)

    def __init__(self, choose: Callable[[str, bytes | None, int], int]) -> None:
        self._choose = choose

    def partition(self, topic: str, key: bytes | None, partition_count: int, /) -> int:
        """Ask the caller's function.

        Raises:
            InvalidArgumentError: it answered with something outside ``range(partition_count)``.
        """
        chosen = self._choose(topic, key, partition_count)
        if type(chosen) is not int or not 0 <= chosen < partition_count:
            raise InvalidArgumentError(
                "partitioner",
                f"answered {chosen!r} for topic {topic!r}, which has partitions 0 to "
                f"{partition_count - 1}; return a number in that range",
            )
        return chosen

    def batch_closed(self, topic: str, partition: int, /) -> None:
        """Nothing to note."""


PARTITIONERS: dict[str, Callable[[Random], Partitioner]] = {
    "xxhash": XxhashPartitioner,
    "murmur2": Murmur2Partitioner,
    "crc32": Crc32Partitioner,
    "round_robin": RoundRobinPartitioner,
    "sticky": StickyPartitioner,
}


def make_partitioner(
    choice: str | Callable[[str, bytes | None, int], int], random: Random
) -> Partitioner:
    """Build the partitioner that a producer was asked for.

    Args:
        choice: a name of ``PARTITIONERS``, or a function (topic, key, partition count) to a
            partition.
        random: the dice of the sticky and random choices.

    Raises:
        InvalidArgumentError: the name is not known.
    """
    if callable(choice):
        return CustomPartitioner(choice)
    factory = PARTITIONERS.get(choice)
    if factory is None:
        raise InvalidArgumentError(
            "partitioner", f"{choice!r} is not one of {', '.join(PARTITIONERS)}, nor a function"
        )
    return factory(random)
