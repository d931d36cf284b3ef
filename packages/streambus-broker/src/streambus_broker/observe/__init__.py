"""Logs, metrics, health and traces. Imported lazily: starting must not wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streambus_broker.observe.traces import Traces


def load_traces(node_id: int) -> Traces:
    """Import the tracing packages, which takes a while, and begin to export."""
    from streambus_broker.observe.traces import Traces

    return Traces(node_id)
