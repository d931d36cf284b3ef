"""A pytest fixture for users' own tests: ``def test_x(streambus_broker): ...``.

Registered under ``pytest11``; nothing of the broker is imported until a test asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_broker.embedded import EmbeddedBroker


@pytest.fixture
def streambus_broker() -> Iterator[EmbeddedBroker]:
    """A running broker with empty data; ``streambus_broker.address`` is what clients need."""
    from streambus_broker.embedded import EmbeddedBroker

    with EmbeddedBroker() as broker:
        yield broker
