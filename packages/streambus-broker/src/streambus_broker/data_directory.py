"""A broker's data directory: making it durably, opening its trees, saying what is wrong with it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from streambus_broker.errors import DataDirectoryError
from streambus_broker.log.keys import partition_of
from streambus_storage import (
    CorruptionError,
    FormatVersionError,
    LockedError,
    LSMTree,
    Options,
    RealFileSystem,
    StorageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_broker.config.broker import BrokerConfig
    from streambus_broker.doors import Doors

_META_MEMTABLE_BYTES = 1024 * 1024
_META_CACHE_BYTES = 1024 * 1024


class DataDirectory:
    """Where one broker stores everything: the trees ``meta`` and ``data``.

    Args:
        config: The broker's configuration.
        doors: The outside world.
        damage_remedy: What to do where something in it is damaged.
    """

    def __init__(self, config: BrokerConfig, doors: Doors, damage_remedy: str) -> None:
        self.path = config.data_dir
        self.damage_remedy = damage_remedy
        self._config = config
        self._doors = doors

    def make(self) -> None:
        """Create it durably: every new name is synced in the directory above it.

        Without that, a loss of power soon after the first start takes the directory itself, and
        with it records that were acknowledged as durable.

        Raises:
            DataDirectoryError: It cannot be made.
        """
        files = self._doors.file_system or RealFileSystem()
        path = os.path.abspath(self.path)
        missing = []
        while not files.exists(path):
            missing.append(path)
            path = os.path.dirname(path)
        with self.errors():
            for new in reversed(missing):
                files.make_directory(new)
                files.sync_directory(os.path.dirname(new))

    def open_meta(self) -> LSMTree:
        """Open the tree of the metadata; raises as `errors`."""
        return self._open(
            "meta", memtable_bytes=_META_MEMTABLE_BYTES, cache_bytes=_META_CACHE_BYTES
        )

    def open_data(self) -> LSMTree:
        """Open the tree of the records; raises as `errors`."""
        return self._open(
            "data",
            memtable_bytes=self._config.memtable_bytes,
            cache_bytes=self._config.block_cache_bytes,
            key_partitioner=partition_of,
            stall_seconds_max=0.0,  # a write that has to wait is refused; the loop never waits
            filter_bits_per_key=0,  # reads are by order, a filter would only cost memory
        )

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Say what an error of storage means for the directory.

        Raises:
            DataDirectoryError: It is in use, of an unknown format, damaged, or cannot be opened.
        """
        path = self.path
        try:
            yield
        except LockedError as exc:
            remedy = "stop the other broker, or choose another directory with --data-dir"
            raise DataDirectoryError(path, "is in use by another process", remedy) from exc
        except FormatVersionError as exc:
            remedy = "start the broker version that wrote it, or choose another directory"
            raise DataDirectoryError(path, f"has an unknown format: {exc}", remedy) from exc
        except CorruptionError as exc:
            raise DataDirectoryError(path, f"is damaged: {exc}", self.damage_remedy) from exc
        except (StorageError, OSError) as exc:
            remedy = "check permissions and free space, or choose another directory"
            raise DataDirectoryError(path, f"cannot be opened: {exc}", remedy) from exc

    def _open(self, name: str, **options: Any) -> LSMTree:
        if self._doors.file_system is not None:
            options["file_system"] = self._doors.file_system
        if self._doors.scheduler is not None:
            options["scheduler"] = self._doors.scheduler()
        with self.errors():
            return LSMTree.open(f"{self.path}/{name}", Options(**options))
