"""Listening addresses as text: ``host:port``, ``[::1]:port``, or ``off`` where none is wanted."""

from __future__ import annotations

import ipaddress

OFF = "off"


def split_address(text: str) -> tuple[str, int]:
    """Split ``host:port`` (brackets around an IPv6 host) into its two parts.

    Raises:
        ValueError: It is not of that form, or the port is not within 0 to 65535.
    """
    host, colon, port_text = text.rpartition(":")
    if not colon or not host:
        raise ValueError("is not of the form HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("is an IPv6 address without brackets")
    if not port_text.isascii() or not port_text.isdigit() or int(port_text) > 65535:
        raise ValueError("has a port that is not within 0 to 65535")
    return host, int(port_text)


def join_address(host: str, port: int) -> str:
    """Join host and port, the opposite of `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_address(text: str) -> str:
    """Return the problem with ``host:port``, or an empty string."""
    try:
        split_address(text)
    except ValueError as problem:
        return str(problem)
    return ""


def check_optional_address(text: str) -> str:
    """Return the problem with ``host:port``, ``off`` or an empty text, or an empty string."""
    return "" if text in ("", OFF) else check_address(text)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach ``host``; a name counts only if it is localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
