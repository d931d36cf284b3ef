"""Verification: every block of every table is read, checked, and compared with its index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from streambus_storage._block import RawValue
from streambus_storage.errors import CorruptionError, FormatVersionError, StorageIOError

if TYPE_CHECKING:
    from streambus_storage._sstable_reader import Table
    from streambus_storage._store import Store


class Problem(NamedTuple):
    """One damaged place.

    Attributes:
        path: The file.
        offset: In bytes.
        reason: What was found.
    """

    path: str
    offset: int
    reason: str


@dataclass(slots=True)
class VerifyReport:
    """What a verification saw. Truthy when nothing is wrong.

    Attributes:
        tables: Tables read.
        blocks: Data blocks read.
        entries: Entries in them.
        bytes: Size of the files.
        problems: Damaged places, at most one for each table.
    """

    tables: int = 0
    blocks: int = 0
    entries: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.problems


def verify_store(store: Store) -> VerifyReport:
    """See `LSMTree.verify`."""
    report = VerifyReport()
    for table in store.present().tables.by_number.values():
        store.check_open()
        report.tables += 1
        report.bytes += table.meta.size
        try:
            _verify_table(table, report)
        except (CorruptionError, FormatVersionError, StorageIOError) as exc:
            offset = exc.offset if isinstance(exc, CorruptionError) else 0
            reason = exc.reason if isinstance(exc, CorruptionError) else str(exc)
            report.problems.append(Problem(exc.path, offset, reason))
    return report


def _verify_table(table: Table, report: VerifyReport) -> None:
    """Read one table.

    Raises:
        CorruptionError: A block is damaged, out of order, or not what index or manifest say.
        StorageIOError: It cannot be read.
    """
    index = table.index()
    bloom = table.filter()
    before: bytes | None = None
    entries = tombstones = 0
    for number, offset in enumerate(index.offsets):
        block = table.block(number, keep=False)
        report.blocks += 1
        report.entries += len(block.keys)
        entries += len(block.keys)
        tombstones += block.values.count(None)
        if len(block.keys) != index.counts[number]:
            raise CorruptionError(table.path, offset, "a block has not as many keys as indexed")
        for key in block.keys:
            if before is not None and key <= before:
                raise CorruptionError(table.path, offset, f"key {key!r} is out of order")
            if bloom is not None and not bloom.may_hold(key):
                raise CorruptionError(table.path, offset, f"the filter does not know {key!r}")
            before = key
        for value in block.values:
            if type(value) is RawValue:
                table.read_raw(value)
        if number == 0 and block.keys[0] != table.meta.lower:
            raise CorruptionError(table.path, offset, "the first key is not that of the manifest")
    if (entries, tombstones) != (table.meta.entries, table.meta.tombstones):
        raise CorruptionError(table.path, 0, "the number of entries is not that of the manifest")
