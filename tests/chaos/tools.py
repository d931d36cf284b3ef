"""Programs that make faults from outside a broker: strace for errors, libfaketime for clocks."""

from __future__ import annotations

import glob
import shutil
import subprocess
import time
from pathlib import Path

SYSTEM_CALLS = ("fdatasync", "fdatasync", "pwrite64", "pwrite64", "fsync", "pwritev", "rename")
"""What a store does and nothing else in a broker; the frequent ones more often."""

_LIBRARIES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib*/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
_INSIDE = Path(__file__).parent / "inside"
RIGHT = "+0"


def no_strace() -> str:
    """Say why system calls cannot be made to fail; empty where they can."""
    if shutil.which("strace") is None:
        return "it needs strace"
    tried = subprocess.run(
        ["strace", "-o", "/dev/null", "-e", "inject=fsync:error=EIO", "true"],
        capture_output=True,
        check=False,
    )
    return "strace may not trace here" if tried.returncode else ""


class FailingCalls:
    """A system call of a process that fails with EIO while the context is open.

    Args:
        pid: The process, with all its threads and children.
        call: Of `SYSTEM_CALLS`.
        first: From which call on, counted by thread.
        output: Where strace writes what it did.
    """

    def __init__(self, pid: int, call: str, first: int, output: Path) -> None:
        command = ["strace", "-f", "-p", str(pid), "-o", str(output)]
        self._command = [
            *command, "-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={first}+"
        ]  # fmt: skip
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        self._output.write_bytes(b"")
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self._process.stderr is not None
        self._process.stderr.readline()  # it is attached

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()  # strace lets the process go on
        self._process.communicate()

    def failed(self) -> int:
        """How many calls were made to fail."""
        return self._output.read_bytes().count(b"(INJECTED)")


def faketime_library() -> str:
    """The path of libfaketime's library; empty where it is not installed."""
    found = [path for pattern in _LIBRARIES for path in glob.glob(pattern)]
    return found[0] if found else ""


class WallClock:
    """The wall clock of one process; the monotonic one is left alone.

    Args:
        path: A file of this process's own, through which the clock is set.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(RIGHT)

    def prefix(self) -> tuple[str, ...]:
        """What to put before the process's command."""
        return (
            "env", f"PYTHONPATH={_INSIDE}",
            f"LD_PRELOAD={faketime_library()}", f"FAKETIME_TIMESTAMP_FILE={self._path}",
            "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_CACHE_DURATION=1",
        )  # fmt: skip

    def set(self, offset: str) -> None:
        """Set it to the right time and so much: ``+1h``, ``-1y``."""
        scratch = self._path.with_suffix(".new")
        scratch.write_text(f"{offset}\n")
        scratch.replace(self._path)  # never half written

    @staticmethod
    def wait_noticed() -> None:
        """Wait until the library has looked at its file again."""
        time.sleep(1.2)
