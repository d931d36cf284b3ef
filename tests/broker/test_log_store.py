"""What a broker that starts finds of its logs: which there are, where each begins and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streambus_broker.config.topics import TopicSettings
from streambus_broker.log.keys import StartMark, encode_start_mark, start_mark_key
from streambus_broker.log.partition import PartitionLog
from streambus_broker.log.store import LogStore
from streambus_protocol import check_produced_batch, encode_batch
from streambus_storage import LSMTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTITION = 7


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LogStore]:
    with LSMTree.open(tmp_path / "data") as tree:
        yield LogStore(tree, str(tmp_path), 0)


def log_of(partition_id: int) -> PartitionLog:
    return PartitionLog("t", 0, partition_id, TopicSettings())


def fill(store: LogStore, partition_id: int, *counts: int) -> PartitionLog:
    """Append batches of so many records."""
    log = log_of(partition_id)
    for count in counts:
        batch = encode_batch([b"v"] * count, base_timestamp_ms=1)
        header = check_produced_batch(batch, 1_000_000)
        store.tree.put(*log.place(header, batch))
        log.appended(header)
    return log


def test_partitions_are_found_however_many_batches_they_have(store: LogStore) -> None:
    batches = {1: 1, 2: 30, 3: 8, 5: 9, 6: 1, 40: 7, 41: 25}
    for partition_id, count in batches.items():
        fill(store, partition_id, *[1] * count)
    assert store.partition_ids() == list(batches)


def test_nothing_is_found_where_nothing_is(store: LogStore) -> None:
    assert store.partition_ids() == []


@pytest.mark.parametrize(
    ("counts", "start", "found"),
    [
        ((4,), 0, (0, 4)),
        ((4,), 2, (2, 4)),  # within the only batch
        ((4,), 4, (4, 4)),  # behind it: retention has let go of all
        ((4, 3), 0, (0, 7)),
        ((4, 3), 3, (3, 7)),
        ((4, 3), 4, (4, 7)),
        ((4, 3), 6, (6, 7)),
        ((4, 3), 7, (7, 7)),
        ((), 5, (5, 5)),
    ],
)
def test_a_log_is_where_its_mark_and_its_batches_say(
    counts: tuple[int, ...], start: int, found: tuple[int, int], store: LogStore
) -> None:
    written = fill(store, PARTITION, *counts)
    fill(store, PARTITION - 1, 9)
    fill(store, PARTITION + 1, 9)
    if start:
        mark = StartMark(start, max(start, written.next_offset), written.end_position, 1)
        store.tree.put(start_mark_key(PARTITION), encode_start_mark(mark))
    log = log_of(PARTITION)
    store.recover(log)
    assert (log.log_start_offset, log.next_offset) == found
    assert log.end_position == written.end_position
