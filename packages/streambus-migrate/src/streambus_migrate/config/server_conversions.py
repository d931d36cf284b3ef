"""Conversions of broker values that are more than a unit: listeners, directories, numbers."""

from __future__ import annotations

from streambus_migrate.config.values import (
    InvalidValueError,
    NoCounterpartError,
    endpoint,
    integer,
    items,
)

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - what an empty host means in Kafka
CLIENT_NAMES = ("PLAINTEXT", "INTERNAL", "EXTERNAL", "CLIENT", "BROKER", "")
CLOSED_NAMES = ("SSL", "SASL")


def node_id(value: str) -> int:
    """Convert a broker's number: Kafka counts from 0, StreamBus from 1."""
    number = integer(value)
    if number < -1:
        raise InvalidValueError("is a negative number")
    if number == -1:
        raise NoCounterpartError("numbers are not handed out; give each broker one from 1 on")
    return number or 1


def data_dir(value: str) -> str:
    """Name a directory beside Kafka's: the two must never share one."""
    directories = items(value)
    if not directories:
        raise InvalidValueError("names no directory")
    if len(directories) > 1:
        raise NoCounterpartError("a broker has one data directory; join the disks, or choose one")
    if "\0" in directories[0]:
        raise InvalidValueError("holds a NUL character")
    return directories[0].rstrip("/") + "-streambus"


def listen(value: str) -> str:
    """Convert ``listeners``: the one plaintext listener for clients."""
    return _client_address(value, "the broker listens for clients at one address")


def advertise(value: str) -> str:
    """Convert ``advertised.listeners``: the address of the one plaintext listener."""
    return _client_address(value, "a broker is told to clients under one address")


def _client_address(value: str, one_only: str) -> str:
    """Find the one plaintext listener that serves clients.

    A listener of another name may be anything, as ``listener.security.protocol.map`` says; it is
    taken for one of the controller if its name says so, and refused if its name says TLS or SASL.
    """
    addresses = [endpoint(item) for item in items(value)]
    if not addresses:
        raise InvalidValueError("names no listener")
    if any(name.upper().startswith(CLOSED_NAMES) for name, _, _ in addresses):
        raise NoCounterpartError(
            "this version has neither TLS nor SASL; what asked for either is not opened in plain"
        )
    clients = [part for part in addresses if "CONTROLLER" not in part[0].upper()]
    if not clients:
        raise NoCounterpartError("a controller is no process of its own; the broker is one")
    if len(clients) > 1:
        raise NoCounterpartError(one_only)
    name, host, port = clients[0]
    if name.upper() not in CLIENT_NAMES:
        raise NoCounterpartError("a listener of that name may need TLS or SASL; set it by hand")
    return f"{host or ALL_ADDRESSES}:{port}"


def unlimited_bytes(value: str) -> int:
    """Convert a byte limit of which any negative number means none."""
    number = integer(value)
    if number < 0:
        raise NoCounterpartError("there is always a limit; the default is kept")
    return number
