"""The demo's broker: a real process that can be killed and started again on the same data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOG_LINES_SHOWN = 20


class BrokerDiedError(Exception):
    """The broker's process ended although nobody killed it; holds the end of its log."""


class ServerProcess:
    """One ``streambus serve`` on its embedded default.

    Args:
        directory: Where its data and its log go.
        address: Where it listens; port 0 takes a free one.
        flags: Further flags.
        prefix: What stands before the command: ``nice``, ``ip netns exec NAME``.

    Attributes:
        address: ``host:port``; the same after a restart.
        started_s: When it was last started, on the monotonic clock.
    """

    def __init__(
        self,
        directory: str,
        address: str = "127.0.0.1:0",
        flags: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        os.makedirs(directory, exist_ok=True)
        self.address = address
        self._flags = flags
        self._prefix = prefix
        self._asked = False
        self.started_s = 0.0
        self._data_dir = os.path.join(directory, "data")
        self._log_path = os.path.join(directory, "broker.log")
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, or start again; returns when it listens.

        Raises:
            BrokerDiedError: It ended instead.
        """
        self.launch()
        self.wait_listening()

    def launch(self) -> None:
        """Start the process, without waiting for it."""
        self._asked = False
        command = [
            *self._prefix,
            sys.executable,
            "-m",
            "streambus_broker",
            "--data-dir",
            self._data_dir,
        ]
        command += ["--listen", self.address, "--http", "off", *self._flags]
        self.started_s = time.monotonic()
        with open(self._log_path, "a", encoding="utf-8") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def wait_listening(self) -> None:
        """Wait until it listens; raises as `start`."""
        process = self._running()
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            process.wait()
            raise BrokerDiedError(f"the broker did not start:\n{self._log_end()}")
        self.address = line.split()[-1]

    def kill(self) -> None:
        """End it with SIGKILL: it can finish nothing."""
        process = self._running()
        process.kill()
        self._reap(process)

    def end(self) -> None:
        """Send SIGKILL, without waiting for the end; from any thread."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Stop it with SIGSTOP: it is there, and does nothing."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._running().send_signal(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Send SIGTERM, without waiting for the end."""
        if self._process is not None and not self._asked:
            self._asked = True  # a second signal would end it at once
            self._process.terminate()

    def stop(self) -> None:
        """End it with SIGTERM and wait; a process that is gone already is fine."""
        process = self._process
        if process is None:
            return
        self.ask_to_stop()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        self._reap(process)

    def resume_and_stop(self) -> None:
        """End it, also where it is paused, or has ended already."""
        if self._process is not None and self._process.poll() is None:
            self.resume()
        self.stop()

    def wait_ended(self, timeout_s: float) -> int:
        """Wait until it ends by itself; its exit code.

        Raises:
            TimeoutError: It does not.
        """
        try:
            return self._running().wait(timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise TimeoutError(f"the broker has not ended within {timeout_s:g} s") from exc

    @property
    def pid(self) -> int:
        """The running process's id."""
        return self._running().pid

    def memory_bytes(self) -> int | None:
        """Resident memory, or None where the system does not tell."""
        try:
            with open(f"/proc/{self._running().pid}/status", encoding="ascii") as status:
                for line in status:
                    if line.startswith("VmRSS:"):
                        return int(line.split()[1]) * 1024
        except OSError:
            return None
        return None

    def check(self) -> None:
        """Notice an unexpected end.

        Raises:
            BrokerDiedError: It has ended.
        """
        if self._running().poll() is not None:
            raise BrokerDiedError(f"the broker ended by itself:\n{self._log_end()}")

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None, "it was started"
        return self._process

    def _reap(self, process: subprocess.Popen[str]) -> None:
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _log_end(self) -> str:
        with open(self._log_path, encoding="utf-8", errors="replace") as log:
            return "".join(log.readlines()[-_LOG_LINES_SHOWN:])
