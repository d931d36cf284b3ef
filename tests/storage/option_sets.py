"""Random options, all small: a few writes must reach every level and every code path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random


def first_byte(key: bytes) -> bytes:
    """A key partitioner: keys belong together by their first byte."""
    return bytes(key[:1])


def random_options(source: random.Random) -> dict[str, Any]:
    """Keyword arguments for ``Options``, without the doors.

    Every draw uses the same number of random numbers, so a seed that failed stays readable when
    a choice is added at the end.
    """
    trigger = source.choice((1, 2, 4))
    return {
        "memtable_bytes": source.choice((1024, 2048, 8192, 65536)),
        "memtables_max": source.choice((1, 2, 4)),
        "block_bytes": source.choice((64, 256, 4096)),
        "raw_value_bytes": source.choice((64, 128, 4096)),
        "table_bytes": source.choice((1024, 4096, 65536)),
        "partition_bytes": source.choice((1, 512, 65536)),
        "level0_trigger": trigger,
        "level0_slow": trigger + source.choice((1, 8)),
        "level0_stop": trigger + 16,
        "level1_bytes": source.choice((1024, 8192, 1 << 20)),
        "level_multiplier": source.choice((2, 4, 10)),
        "holes_max": source.choice((1, 4, 64)),
        "filter_bits_per_key": source.choice((0, 1, 10)),
        "cache_bytes": source.choice((0, 1024, 1 << 20)),
        "key_partitioner": source.choice((None, None, first_byte)),
        "automatic_compaction": source.random() < 0.85,
    }
