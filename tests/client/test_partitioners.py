"""Partitioners against the published vectors of the clients that they agree with."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_client._partitioners import PARTITIONERS, make_partitioner, murmur2
from streambus_client.errors import InvalidArgumentError

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
MURMUR2_OF_JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
    b"": 275646681,
}

# librdkafka, tests/0048-partitioner.c: 17 partitions, crc32 constants as printed there
CRC32_OF_LIBRDKAFKA = {
    b"23456": 0xB1B451D7,
    b"this is another string with more length to it perhaps": 0xB0150DF7,
    b"hejsan": 0xD077037E,
}

# kafka-python, test_partitioner.py: 1000 partitions, compared with the Java client there
MURMUR2_OF_1000 = {b"": 681, b"a": 524, b"ab": 434, b"abc": 107, b"123456789": 566, b"\x00 ": 742}


@pytest.mark.parametrize(("key", "expected"), MURMUR2_OF_JAVA.items())
def test_murmur2_agrees_with_java(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected


@pytest.mark.parametrize(("key", "expected"), MURMUR2_OF_1000.items())
def test_murmur2_partition_agrees_with_java(key: bytes, expected: int) -> None:
    assert make_partitioner("murmur2", Random(1)).partition("t", key, 1000) == expected


@pytest.mark.parametrize(("key", "crc"), CRC32_OF_LIBRDKAFKA.items())
def test_crc32_partition_agrees_with_librdkafka(key: bytes, crc: int) -> None:
    assert make_partitioner("crc32", Random(1)).partition("t", key, 17) == crc % 17


@pytest.mark.parametrize("key", [None, b""])
def test_crc32_missing_and_empty_key_are_thrown_for_each_record(key: bytes | None) -> None:
    partitioner = make_partitioner("crc32", Random(7))
    seen = Counter(partitioner.partition("t", key, 4) for _ in range(400))
    assert set(seen) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["xxhash", "murmur2", "sticky"])
def test_missing_key_sticks_until_its_batch_closes(name: str) -> None:
    partitioner = make_partitioner(name, Random(3))
    chosen = []
    for _ in range(60):
        first = partitioner.partition("t", None, 5)
        assert all(partitioner.partition("t", None, 5) == first for _ in range(20))
        partitioner.batch_closed("t", first)
        chosen.append(first)
    assert set(chosen) == {0, 1, 2, 3, 4}


def test_empty_key_is_a_key_for_xxhash() -> None:
    partitioner = make_partitioner("xxhash", Random(3))
    # xxh3-64 of the empty input is published as 0x2D06800538D394C2
    assert partitioner.partition("t", b"", 1000) == 0x2D06800538D394C2 % 1000


def test_round_robin_takes_turns_by_topic() -> None:
    partitioner = make_partitioner("round_robin", Random(1))
    assert [partitioner.partition("a", b"k", 3) for _ in range(5)] == [0, 1, 2, 0, 1]
    assert partitioner.partition("b", None, 3) == 0


def test_sticky_choice_returns_into_range_when_partitions_are_fewer() -> None:
    partitioner = make_partitioner("sticky", Random(5))
    assert all(partitioner.partition("t", None, 100) < 100 for _ in range(3))
    assert partitioner.partition("t", None, 1) == 0


@given(
    name=st.sampled_from(sorted(PARTITIONERS)),
    keys=st.lists(st.none() | st.binary(max_size=40), max_size=30),
    count=st.integers(1, 300),
    seed=st.integers(),
)
def test_every_partitioner_stays_in_range_and_keeps_a_key_together(
    name: str, keys: list[bytes | None], count: int, seed: int
) -> None:
    partitioner = make_partitioner(name, Random(seed))
    homes: dict[bytes, int] = {}
    for key in keys:
        chosen = partitioner.partition("t", key, count)
        assert 0 <= chosen < count
        if key and name in ("xxhash", "murmur2", "crc32"):
            assert homes.setdefault(key, chosen) == chosen


def test_own_function_is_asked_and_checked() -> None:
    partitioner = make_partitioner(lambda _, key, __: len(key or b""), Random(1))
    assert partitioner.partition("t", b"ab", 3) == 2
    with pytest.raises(InvalidArgumentError, match="answered 5 for topic 't'"):
        partitioner.partition("t", b"abcde", 3)


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgumentError, match="xxhash, murmur2"):
        make_partitioner("md5", Random(1))
