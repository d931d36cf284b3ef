"""One replica's log with what replication keeps beside it: epochs, producers, durable end.

Leader epochs are written with an epoch's first batch, high watermark and producer states now and
then (`streambus_broker.log.keys`). The high watermark on disk may be behind, never ahead. Producer
states that are behind are brought up to date from the headers of the batches that follow.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from streambus_broker.cluster.epochs import LeaderEpochs
from streambus_broker.errors import StoredStateError
from streambus_broker.log.keys import (
    StartMark,
    batch_key,
    encode_start_mark,
    epochs_key,
    marked_partition,
    partition_prefix,
    start_mark_key,
    state_key,
)
from streambus_broker.log.producer_marks import learn_producers, load_mark, store_mark
from streambus_protocol import check_batch, iterate_batches
from streambus_protocol.errors import CorruptBatchError
from streambus_storage import StorageError, WriteBatch

if TYPE_CHECKING:
    from streambus_broker.log.partition import PartitionLog
    from streambus_broker.log.store import LogStore
    from streambus_protocol import BatchHeader

CHECKPOINT_BATCHES = 2_000  # headers to read again after a crash, at most


class Written(NamedTuple):
    """What a log holds at some moment: up to where, and after how many cuts."""

    end: int
    cuts: int


class ReplicaLog:
    """See the module.

    Attributes:
        log: The log.
        epochs: Which leader epoch wrote what.
        producers: What is known of its producers.
        knows_producers: Whether that is what the log says. It is not where the log could not be
            read after records were dropped: then nothing may be appended, because a producer's
            retry could not be told from something new.
        durable: Up to where it is synced.
    """

    __slots__ = (
        "_cuts",
        "_unsaved",
        "durable",
        "epochs",
        "knows_producers",
        "log",
        "producers",
        "store",
    )

    def __init__(self, log: PartitionLog, store: LogStore) -> None:
        self.log = log
        self.store = store
        self.epochs = LeaderEpochs()
        self.producers = log.producers
        self.knows_producers = True
        self.durable = 0
        self._cuts = 0
        self._unsaved = 0

    def recover(self) -> None:
        """Find everything from what is stored; what is found is durable, the tree sees to that.

        Raises:
            StoredStateError: It makes no sense.
            StorageError: The tree cannot be read.
        """
        log, tree = self.log, self.store.tree
        self.store.recover(log)
        self.durable = log.next_offset
        try:
            stored = tree.get(epochs_key(log.partition_id))
            if stored is not None:
                self.epochs = LeaderEpochs.decode(stored)
                self.epochs.cut(log.next_offset)
            watermark, known_to = load_mark(tree, log) or (log.log_start_offset,) * 2
        except ValueError as exc:
            raise StoredStateError(
                self.store.path,
                f"what is kept beside {log.topic}[{log.partition}] cannot be read: {exc}",
                "remove the data directory, the other replicas have the records",
            ) from exc
        log.high_watermark = max(log.log_start_offset, min(watermark, log.next_offset))
        log.marked_offset = known_to
        if known_to < log.next_offset:
            learn_producers(tree, log, known_to)
            self._unsaved = 1  # a mark of it makes the next start quicker

    # --- writing -------------------------------------------------------------------------------

    def append(self, header: BatchHeader, batch: bytes | memoryview) -> tuple[int, int]:
        """Append a producer's checked batch in the leader epoch of the log.

        To be called only while `knows_producers`: it was checked against these.

        Returns:
            Its base offset and the write's sequence number.

        Raises:
            StorageError: Nothing was appended.
        """
        log = self.log
        key, value = log.place(header, batch)
        sequence = self._write(log.leader_epoch, log.next_offset, key, value)
        base_offset = log.appended(header)
        self._appended(header, base_offset, value)
        return base_offset, sequence

    def follow(self, batches: bytes) -> int:
        """Append batches as a leader sent them; return the last write's sequence number, or -1.

        Raises:
            CorruptBatchError: One is damaged, or does not begin at the log's end; what came before
                it is appended.
            StorageError: What came before the failure is appended.
        """
        if not self.knows_producers:
            self.learn_producers()
        log = self.log
        sequence = -1
        for header, view in iterate_batches(batches):
            check_batch(view)
            if header.base_offset != log.next_offset:
                raise CorruptBatchError(
                    f"a batch begins at {header.base_offset}, the log ends at {log.next_offset}"
                )
            if header.leader_epoch < self.epochs.latest:
                raise CorruptBatchError(
                    f"a batch of epoch {header.leader_epoch} behind epoch {self.epochs.latest}"
                )
            key, value = log.place_stamped(header, bytes(view))
            sequence = self._write(header.leader_epoch, header.base_offset, key, value)
            self._appended(header, log.appended(header), value)
        return sequence

    def _write(self, epoch: int, base_offset: int, key: bytes, value: bytes) -> int:
        if epoch <= self.epochs.latest:
            return self.store.tree.put(key, value)
        ahead = self.epochs.copy()
        ahead.begin(epoch, base_offset)
        batch = WriteBatch()
        batch.put(key, value)
        batch.put(epochs_key(self.log.partition_id), ahead.encode())
        sequence = self.store.tree.write(batch)
        self.epochs = ahead
        return sequence

    def _appended(self, header: BatchHeader, base_offset: int, value: bytes) -> None:
        log = self.log
        self.store.tail.add(log.partition_id, base_offset, log.next_offset, value)
        if header.producer_id >= 0:
            self.producers.appended(header, base_offset)
        self._unsaved += 1
        if self._unsaved >= CHECKPOINT_BATCHES:
            with contextlib.suppress(StorageError):  # the batch is written; tried again later
                self.checkpoint()

    def written(self) -> Written:
        """What is to become durable: to be told to `synced` once the tree has synced it."""
        return Written(self.log.next_offset, self._cuts)

    def synced(self, written: Written) -> bool:
        """Count what was written as durable, unless records were dropped since.

        Others may have come in their place, at the same offsets, and are not synced yet.
        """
        if written.cuts != self._cuts:
            return False
        self.durable = max(self.durable, written.end)
        return True

    def checkpoint(self) -> None:
        """Store the high watermark and the producer states as they are.

        Raises:
            StorageError: The older ones stay in force, which costs time after a crash and no more.
        """
        store_mark(self.store.tree, self.log)
        self._unsaved = 0

    def checkpoint_if_moved(self) -> bool:
        """Store them where something was appended since; raises as `checkpoint` does.

        Not while they are not known: without a mark they are found in the log, with a wrong one
        they are lost.

        Returns:
            Whether they were stored.
        """
        if not (self._unsaved and self.knows_producers):
            return False
        self.checkpoint()
        return True

    # --- going back ----------------------------------------------------------------------------

    def truncate(self, offset: int) -> int:
        """Drop everything from ``offset`` on, or from the batch that holds it; return the new end.

        Raises:
            StorageError: Nothing was dropped.
        """
        log, store = self.log, self.store
        if offset >= log.next_offset:
            return log.next_offset
        end, position, timestamp_ms = store.end_before(log, offset)
        left = self.epochs.copy()
        left.cut(end)
        mark = StartMark(min(log.log_start_offset, end), end, position, timestamp_ms)
        # What was noted of producers before the cut is still true, and spares the reading of
        # everything before that note: the event loop waits for it.
        self._begin_again(mark, left, keeps_state=log.marked_offset <= end)
        log.go_back(end, position, timestamp_ms)
        self._forget(end)
        return end

    def start_over(self, offset: int) -> None:
        """Drop everything and begin at ``offset``: the leader keeps nothing older.

        Raises:
            StorageError: Nothing was dropped.
        """
        log = self.log
        self._begin_again(StartMark(offset, offset, 0, -1), LeaderEpochs(), keeps_state=False)
        log.begin_at(offset)
        self._forget(offset)

    def _begin_again(self, mark: StartMark, epochs: LeaderEpochs, *, keeps_state: bool) -> None:
        partition_id = self.log.partition_id
        batch = WriteBatch()
        batch.delete_range(
            batch_key(partition_id, mark.next_offset), partition_prefix(partition_id + 1)
        )
        if mark.log_start_offset == mark.next_offset:  # nothing is left
            batch.delete_range(
                batch_key(partition_id, 0), batch_key(partition_id, mark.next_offset)
            )
        batch.put(start_mark_key(partition_id), encode_start_mark(mark))
        batch.put(epochs_key(partition_id), epochs.encode())
        if not keeps_state:
            batch.delete(state_key(partition_id))
        self.store.tree.write(batch)
        self.epochs = epochs

    def _forget(self, end: int) -> None:
        self.store.tail.forget(self.log.partition_id)
        self.durable = min(self.durable, end)
        self._cuts += 1
        self._unsaved += 1  # there may be no mark now
        self.knows_producers = False
        with contextlib.suppress(StorageError):  # tried again before anything is appended
            self.learn_producers()

    def learn_producers(self) -> None:
        """Know the log's producers again where they are not known.

        Raises:
            StorageError: The log cannot be read; they are still not known.
        """
        if self.knows_producers:
            return
        self.store.recover_producers(self.log)
        self.knows_producers = True


def drop_marks(batch: WriteBatch, partition_id: int) -> None:
    """Drop what is kept beside a partition's log, together with the log."""
    batch.delete(epochs_key(partition_id))
    batch.delete(state_key(partition_id))


def stored_partitions(store: LogStore) -> set[int]:
    """The partitions of which there is anything on disk: batches, or marks beside them.

    Raises:
        StorageError: The tree cannot be read.
    """
    found = set(store.partition_ids())
    marks = store.tree.scan(partition_prefix(0), partition_prefix(1))
    try:
        found.update(marked_partition(bytes(key)) for key, _ in marks)
    finally:
        marks.close()
    return found
