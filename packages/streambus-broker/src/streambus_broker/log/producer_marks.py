"""Keep what a partition knows of its producers beside its log, so that a restart finds it quickly.

The mark (`streambus_broker.log.keys`) holds the high watermark and the producer states as they were
at some offset. It is written now and then; what the log has beyond that offset is learned from the
headers of its batches. So a mark may be old, or missing, and nothing is lost but time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack

from streambus_broker.log.keys import TOTALS_BYTES, batch_key, partition_prefix, state_key
from streambus_protocol import read_batch_header

if TYPE_CHECKING:
    from streambus_broker.log.partition import PartitionLog
    from streambus_storage import LSMTree


def store_mark(tree: LSMTree, log: PartitionLog) -> None:
    """Write a log's mark as things are.

    Raises:
        StorageError: The older one stays in force.
    """
    state = [log.high_watermark, log.producers.encode(log.next_offset)]
    tree.put(state_key(log.partition_id), msgpack.packb(state))
    log.marked_offset = log.next_offset


def load_mark(tree: LSMTree, log: PartitionLog) -> tuple[int, int] | None:
    """Read a log's mark into its producer states.

    Returns:
        The high watermark of that time, and the offset up to which the states are true; None
        where there is no mark, and the states are empty.

    Raises:
        ValueError: It makes no sense; the states are empty.
        StorageError: The tree cannot be read.
    """
    log.producers.clear()
    stored = tree.get(state_key(log.partition_id))
    if stored is None:
        return None
    try:
        watermark, producers = msgpack.unpackb(stored)
        known_to = log.producers.load(producers)
    except (TypeError, msgpack.UnpackException) as exc:
        log.producers.clear()
        raise ValueError(f"not a mark of a log: {exc}") from exc
    if known_to > log.next_offset:  # the log lost its end: the states know too much
        log.producers.clear()
        known_to = log.log_start_offset
    return watermark, known_to


def learn_producers(tree: LSMTree, log: PartitionLog, offset: int) -> None:
    """Learn producers from the headers of the batches from ``offset`` on.

    Raises:
        StorageError: The tree cannot be read.
    """
    start = batch_key(log.partition_id, offset)
    found = tree.scan(start, partition_prefix(log.partition_id + 1))
    try:
        for _, value in found:
            header = read_batch_header(value, TOTALS_BYTES)
            if header.producer_id >= 0:
                log.producers.appended(header, header.base_offset)
    finally:
        found.close()
