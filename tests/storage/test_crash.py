"""A slice of ``hatch run crash-storage``, and proof that it would notice a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streambus_storage import LSMTree
from tests.storage.crash import ExpectedState, Loop

if TYPE_CHECKING:
    from pathlib import Path


def test_killed_writers_lose_nothing_that_returned(tmp_path: Path) -> None:
    loop = Loop(tmp_path, seed=1)
    for _ in range(6):
        loop.turn()
    assert loop.writes > 0


def test_loop_notices_a_lost_entry(tmp_path: Path) -> None:
    loop = Loop(tmp_path, seed=2)
    for _ in range(20):
        loop.turn()
        if loop.models[0].entries:
            break
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        tree.delete(loop.models[0].entries.keys()[0])
    state = ExpectedState(tmp_path / "expected")
    state.clear()
    with pytest.raises(AssertionError, match="1 keys"):
        loop._verify(state, 99)
    state.close()
