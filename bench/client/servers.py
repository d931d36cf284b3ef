"""Servers that the suite starts and stops: the broker, a TCP echo, and those of the baselines.

Each is a process of its own on a free loopback port, with its data in a temporary directory. What
it inherits from this process (the cores that it may run on) is part of the measurement.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_START_S_MAX = 30.0

ECHO = """
import socket, sys
question_bytes, answer = int(sys.argv[1]), b"x" * int(sys.argv[2])
server = socket.create_server(("127.0.0.1", int(sys.argv[3])))
while True:
    peer, _ = server.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    left = question_bytes
    while data := peer.recv(65536):
        left -= len(data)
        if left == 0:
            peer.sendall(answer)
            left = question_bytes
"""
"""As bare as a server can be in Python: so many bytes in, so many out."""


@contextmanager
def _process(command: Sequence[str], port: int) -> Iterator[str]:
    """Run a server until the block ends; gives its address once it accepts connections."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_S_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not start") from None
                time.sleep(0.02)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def broker() -> Iterator[str]:
    """``streambus serve`` with its defaults and empty data."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="streambus-bench-") as data_dir:
        command = [sys.executable, "-m", "streambus_client", "serve", "--data-dir", data_dir]
        command += ["--listen", f"127.0.0.1:{port}", "--http", "off", "--log-level", "error"]
        with _process(command, port) as address:
            yield address


@contextmanager
def echo(question_bytes: int, answer_bytes: int) -> Iterator[str]:
    """A blocking TCP echo for messages of these sizes."""
    port = _free_port()
    command = [sys.executable, "-c", ECHO, str(question_bytes), str(answer_bytes), str(port)]
    with _process(command, port) as address:
        yield address


def redis_command() -> str | None:
    """Where Debian's redis-server is, or None."""
    return shutil.which("redis-server")


def nats_command() -> str | None:
    """Where Debian's nats-server is, or None."""
    return shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")


@contextmanager
def redis() -> Iterator[str]:
    """A Redis that appends to its log and lets the kernel sync it, as ``acks=1`` does here."""
    command, port = redis_command(), _free_port()
    assert command is not None
    with tempfile.TemporaryDirectory(prefix="streambus-bench-") as data_dir:
        options = ["--port", str(port), "--dir", data_dir, "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "no", "--bind", "127.0.0.1"]
        with _process([command, *options], port) as address:
            yield address


@contextmanager
def nats() -> Iterator[str]:
    """A NATS server with JetStream on disk, which syncs now and then by default."""
    command, port = nats_command(), _free_port()
    assert command is not None
    with (
        tempfile.TemporaryDirectory(prefix="streambus-bench-") as data_dir,
        _process(
            [command, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", data_dir], port
        ) as address,
    ):
        yield address


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process, and every server that it starts in the block, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
