"""Bind a listening socket ahead of the server that will use it."""

from __future__ import annotations

import socket

from streambus_broker.config.addresses import join_address, split_address
from streambus_broker.errors import AddressInUseError

_BACKLOG = 128


def bind(address: str, setting: str) -> tuple[socket.socket, str]:
    """Bind and listen; clients that come before the server is ready wait in the backlog.

    Args:
        address: ``host:port``; port 0 takes a free one.
        setting: The setting that names it, for the error.

    Returns:
        The socket and the address as bound.

    Raises:
        AddressInUseError: It cannot be bound.
    """
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        raise AddressInUseError(address, setting, exc.strerror or str(exc)) from exc
    listener.setblocking(False)
    return listener, join_address(host, listener.getsockname()[1])
