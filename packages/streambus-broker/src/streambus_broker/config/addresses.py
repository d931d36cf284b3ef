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


def parse_voters(text: str) -> dict[int, tuple[str, int]]:
    """Read ``1@HOST:PORT,2@HOST:PORT,...``: node id → address.

    Raises:
        ValueError: It is not of that form, or names a node or an address twice.
    """
    voters: dict[int, tuple[str, int]] = {}
    for part in text.split(","):
        number, at, address = part.strip().partition("@")
        if not at or not number.isascii() or not number.isdigit() or not 0 < int(number) < 2**31:
            raise ValueError(f"has a part {part.strip()!r} that is not of the form ID@HOST:PORT")
        if int(number) in voters:
            raise ValueError(f"names node {int(number)} twice")
        place = split_address(address)
        if not place[1]:
            raise ValueError(f"has port 0 for node {int(number)}; the others could not find it")
        if place in voters.values():
            raise ValueError(f"names the address {address} twice")
        voters[int(number)] = place
    return voters


def check_voters(text: str) -> str:
    """Return the problem with a list of voters, or an empty string."""
    try:
        if text:
            parse_voters(text)
    except ValueError as problem:
        return str(problem)
    return ""
