"""Ports for servers whose address is settled before they start, and theirs when they die."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, closing

_BELOW_EPHEMERAL = range(10_000, 32_768)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on.

    They lie below the range that outgoing connections take theirs from (Linux: 32768 and up), so
    that none is lost to one of those before its server has started, or between two of its lives.
    """
    choice = random.SystemRandom()
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < count:
            probe = stack.enter_context(closing(socket.socket()))
            try:
                probe.bind(("127.0.0.1", choice.choice(_BELOW_EPHEMERAL)))
            except OSError:
                continue
            ports.append(probe.getsockname()[1])
        return ports
