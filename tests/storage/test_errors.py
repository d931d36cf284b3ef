"""Errors: one root, facts as attributes, and whole when they cross to another process."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from streambus_storage import StorageError, errors

SAMPLES: list[StorageError] = [
    errors.BackgroundError("compaction failed"),
    errors.ClosedError("the tree is closed"),
    errors.CorruptionError("/t/1.sst", 17, "a block is cut short"),
    errors.DiskFullError("/t/1.wal", "append", OSError(28, "No space left on device")),
    errors.FormatVersionError("/t/1.sst", 2, 1),
    errors.InvalidArgumentError("inverted"),
    errors.InvalidTypeError("not bytes-like"),
    errors.LockedError("/t/LOCK"),
    errors.NotATreeError("/t", "it has other files"),
    errors.ReadOnlyError("opened read-only"),
    errors.StorageIOError("/t/1.sst", "read", OSError(5, "Input/output error")),
    errors.TreeFailedError(errors.ClosedError("first")),
    errors.WaitTimeoutError("in 1 s"),
    errors.WriteStallError(1.5, "4 memtables wait"),
]


def test_samples_are_complete() -> None:
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass)}
    ours = {kind for kind in kinds if issubclass(kind, StorageError)} - {StorageError}
    assert {type(sample) for sample in SAMPLES} == ours
    assert {kind.__name__ for kind in ours} | {"StorageError"} == set(errors.__all__)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_error_survives_the_way_to_another_process(error: StorageError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert {name: str(fact) for name, fact in vars(again).items()} == {
            name: str(fact) for name, fact in vars(error).items()
        }
