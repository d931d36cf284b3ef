"""The demo on three real processes, one of which is killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streambus_broker.demo.run import run_demo

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.timeout(600)  # three processes more, on a machine that may be busy
def test_the_demo_holds_on_three_brokers(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(20_000)))
    assert run_demo([str(path)], brokers=3)
