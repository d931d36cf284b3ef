"""Background workers outlive what nobody expected of their steps."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from streambus_storage import ThreadScheduler

if TYPE_CHECKING:
    import pytest


def test_a_worker_whose_step_raises_tries_again(caplog: pytest.LogCaptureFixture) -> None:
    """Found by chaos: an error behind a flush ended its thread, and writes stalled for good."""
    calls = 0
    done = threading.Event()

    def step() -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("nobody expected this")
        done.set()
        return False

    worker = ThreadScheduler().worker("streambus-storage-test", step)
    worker.wake()
    try:
        assert done.wait(30)
    finally:
        worker.stop()
    [record] = caplog.records
    assert "streambus-storage-test" in record.getMessage()
    assert record.exc_info is not None
