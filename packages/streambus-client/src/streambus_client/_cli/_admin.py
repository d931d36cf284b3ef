"""The administrator's connection that commands share."""

from __future__ import annotations

from streambus_client import Admin


def admin_of(brokers: str, timeout_s: float) -> Admin:
    """Connect a command to its cluster; to be closed."""
    return Admin(brokers, request_timeout_ms=timeout_s * 1000, client_id="streambus-cli")
