"""Addresses of brokers as people write them: ``host:port``, comma-separated or as a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streambus_client.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_PORT = 9092


class Address(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        """Write it as people do; an IPv6 host gets its brackets back."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_addresses(brokers: str | Sequence[str]) -> tuple[Address, ...]:
    """Parse bootstrap servers: one comma-separated string, or a sequence of strings.

    Args:
        brokers: ``"host"``, ``"host:port"``, ``"[v6]:port"``, separated by commas. The port is
            9092 where it is missing. Doubles are dropped, the order is kept.

    Raises:
        InvalidArgumentError: there is no address, or one cannot be read.
    """
    texts = brokers.split(",") if isinstance(brokers, str) else list(brokers)
    parsed: dict[Address, None] = {}
    for text in texts:
        for part in text.split(","):
            if part.strip():
                parsed[_parse_one(part.strip())] = None
    if not parsed:
        raise InvalidArgumentError("brokers", "is empty; name at least one, as HOST:PORT")
    return tuple(parsed)


def _parse_one(text: str) -> Address:
    host, separator, port_text = text.rpartition(":")
    if text.startswith("["):
        host, closing, rest = text[1:].partition("]")
        if not closing or (rest and not rest.startswith(":")):
            raise InvalidArgumentError("brokers", f"{text!r} is not [IPV6]:PORT")
        port_text = rest[1:] if rest else str(DEFAULT_PORT)
    elif not separator or text.count(":") > 1:
        host, port_text = text, str(DEFAULT_PORT)
    if not host or not port_text.isascii() or not port_text.isdigit():
        raise InvalidArgumentError("brokers", f"{text!r} is not HOST:PORT")
    port = int(port_text)
    if not 1 <= port <= 65535:
        raise InvalidArgumentError("brokers", f"{text!r} has port {port}; ports are 1 to 65535")
    return Address(host, port)
