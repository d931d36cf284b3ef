"""Proof that the power-cut runs would notice: the engine is sabotaged, and every time they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streambus_storage import _recovery
from streambus_storage._group_commit import GroupCommit
from streambus_storage._manifest import Manifest
from streambus_storage._wal_format import WalRecord
from streambus_storage._wal_reader import scan_segment
from streambus_storage._wal_writer import SegmentWriter
from streambus_storage.testing import SimulatedFileSystem
from streambus_storage.testing._handles import SimulatedAppendFile
from tests.storage.cuts import BrokenPromiseError, Run
from tests.storage.simulate import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEEDS = range(1, 9)

Patch = pytest.MonkeyPatch


def nothing(*args: Any, **others: Any) -> None:
    """A step that is left out."""


def log_is_not_synced(patch: Patch) -> None:
    patch.setattr(SegmentWriter, "sync", nothing)


def manifest_is_not_synced(patch: Patch) -> None:
    patch.setattr(Manifest, "sync", nothing)


def names_are_not_synced(patch: Patch) -> None:
    patch.setattr(SimulatedFileSystem, "sync_directory", nothing)


def recovery_does_not_sync_what_it_serves(patch: Patch) -> None:
    patch.setattr(_recovery, "_sync_segment", nothing)


def tables_are_not_synced(patch: Patch) -> None:
    sync = SimulatedAppendFile.sync

    def selective(self: SimulatedAppendFile) -> None:
        if not self.path.endswith(".sst"):
            sync(self)

    patch.setattr(SimulatedAppendFile, "sync", selective)


def durability_is_told_before_the_sync(patch: Patch) -> None:
    def at_once(self: GroupCommit, sequence: int, callback: Callable[[None], object]) -> None:
        callback(None)

    patch.setattr(GroupCommit, "on_durable", at_once)


def recovery_skips_a_record(patch: Patch) -> None:
    def skipping(
        data: bytes, seed: int, next_sequence: int
    ) -> Iterator[WalRecord | tuple[int, str]]:
        for at, item in enumerate(scan_segment(data, seed, next_sequence)):
            if at == 1 and isinstance(item, WalRecord) and len(item.keys) > 1:
                yield item._replace(keys=item.keys[1:], values=item.values[1:])
            else:
                yield item

    patch.setattr("streambus_storage._wal_reader.scan_segment", skipping)


@pytest.mark.parametrize(
    "sabotage",
    [
        log_is_not_synced,
        manifest_is_not_synced,
        names_are_not_synced,
        tables_are_not_synced,
        recovery_does_not_sync_what_it_serves,
        durability_is_told_before_the_sync,
        recovery_skips_a_record,
    ],
)
def test_sabotage_is_noticed(
    monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[Patch], None]
) -> None:
    sabotage(monkeypatch)
    with pytest.raises(BrokenPromiseError, match=r"seed \d+: "):
        for seed in SEEDS:
            Run(seed, operations=40, cut_share=0.3).execute()


def test_command_prints_the_rate_and_fails_on_a_broken_promise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--seeds", "1", "--operations", "5"]) == 0
    assert "cuts per CPU-hour" in capsys.readouterr().out
    assert main(["--seed", "3", "--operations", "4", "--trace"]) == 0
    assert "   0 " in capsys.readouterr().out
    log_is_not_synced(monkeypatch)
    assert main(["--seeds", "6", "--operations", "20", "--keep-going"]) == 1
    assert "BROKEN seed" in capsys.readouterr().err
