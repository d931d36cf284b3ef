"""Writing and restoring snapshots without holding up the event loop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import anyio

from streambus_raft._event_loop import run_blocking
from streambus_raft.errors import (
    BusyError,
    MembershipError,
    RaftError,
    StateMachineError,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_raft._driver import Driver
    from streambus_raft._replica import Replica
    from streambus_raft._storage import LogStorage, SnapshotMeta

logger = logging.getLogger("streambus_raft.server")

READ_BYTES: Final = 1 << 20


class Snapshotting:
    """The snapshots of one node.

    Args:
        driver: Tells up to where the state is applied, and is told what was done.
        replica: The state.
        storage: Where snapshots are kept.
        keep_entries: How many entries before a snapshot stay in the log.
    """

    def __init__(
        self, driver: Driver, replica: Replica, storage: LogStorage, keep_entries: int
    ) -> None:
        self._driver = driver
        self._replica = replica
        self._storage = storage
        self._keep_entries = keep_entries
        self._lock = anyio.Lock()
        self.is_busy = False
        self.saved_count = 0
        self.failed_count = 0
        self.restored_count = 0

    async def save(self) -> SnapshotMeta:
        """Write a snapshot of the state as it is now, and drop the log that it replaces.

        Raises:
            StorageError, MembershipError: it could not be written; the node goes on.
            StateMachineError: the state machine raised; the node takes no part any more.
        """
        async with self._lock:
            self.is_busy = True
            try:
                return await self._save()
            except (StorageError, MembershipError):
                self.failed_count += 1
                raise
            finally:
                self.is_busy = False

    async def _save(self) -> SnapshotMeta:
        driver, storage = self._driver, self._storage
        if driver.is_restoring:
            raise BusyError(1, 0, "restored snapshots")
        index = driver.applied_index
        if storage.snapshot().index >= index:
            driver.applied_bytes = 0
            return storage.snapshot()
        membership = driver.core.membership_at(index)
        try:
            chunks = self._replica.capture()
        except StateMachineError as exc:
            driver.fail(exc)
            raise
        driver.applied_bytes = 0
        meta = await run_blocking(storage.save_snapshot, index, membership, chunks)
        self.saved_count += 1
        keep_from = index - self._keep_entries
        if keep_from >= storage.first_index() and driver.failure is None:
            storage.compact(keep_from)
            driver.core.compacted()
        return meta

    async def save_quietly(self) -> None:
        """As :meth:`save`; what fails is logged and tried again when as much was applied again."""
        try:
            await self.save()
        except (StorageError, MembershipError, BusyError) as exc:
            logger.warning("a snapshot could not be written: %s", exc)
        except StateMachineError:
            pass  # the driver was told
        except Exception as exc:
            logger.exception("a snapshot could not be written")
            self._driver.fail(StorageError(f"writing a snapshot failed: {exc!r}"))

    async def restore(self, meta: SnapshotMeta) -> None:
        """Give the state machine the state of a snapshot, in a thread; report to the driver."""
        failure: RaftError | None = None
        try:
            if meta.index:
                await run_blocking(self._replica.restore, meta.index, self._read(meta))
                self.restored_count += 1
        except RaftError as exc:
            failure = exc
        except Exception as exc:
            logger.exception("a snapshot could not be restored")
            failure = StorageError(f"restoring a snapshot failed: {exc!r}")
        self._driver.restored(failure)

    def _read(self, meta: SnapshotMeta) -> Iterator[bytes]:
        offset = 0
        while offset < meta.size_bytes:
            piece = self._storage.read_snapshot(meta, offset, READ_BYTES)
            if not piece:
                raise StorageError(f"the snapshot at {meta.index} ends after {offset} bytes")
            yield piece
            offset += len(piece)
