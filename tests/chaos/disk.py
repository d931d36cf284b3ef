"""A small file system of its own for a broker's data: it can be full, and lose its power.

Power is cut by ext4's own request to shut down without flushing its journal. What was not synced
is gone then, as after a real cut; the next mount recovers by the journal.
"""

from __future__ import annotations

import array
import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

_COMMANDS = ("mkfs.ext4", "mount", "umount")
_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32)
_NO_FLUSH_OF_THE_LOG = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH
_WITNESS_BYTES = 1 << 20
_RELEASED_S_MAX = 20.0


def missing() -> str:
    """Say why there can be no small file systems; empty where there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "it needs root"
    absent = [command for command in _COMMANDS if shutil.which(command) is None]
    return f"it needs {', '.join(absent)}" if absent else ""


class SmallDisk:
    """An ext4 in a file, mounted.

    Args:
        directory: Where it is mounted; the file lies beside.
        size_bytes: Of the file.
    """

    def __init__(self, directory: Path, size_bytes: int) -> None:
        self._directory = directory
        self._image = directory.with_suffix(".img")
        self._filler = directory / "filler"
        directory.mkdir(parents=True)
        with self._image.open("wb") as image:
            image.truncate(size_bytes)
        self._witness = directory / "never-synced"
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(self._image)], check=True)
        self._mount()

    def _mount(self) -> None:
        command = ["mount", "-o", "loop", str(self._image), str(self._directory)]
        subprocess.run(command, check=True)

    def fill(self) -> None:
        """Take every byte that is left."""
        left = os.statvfs(self._directory)
        descriptor = os.open(self._filler, os.O_WRONLY | os.O_CREAT)
        try:
            os.posix_fallocate(descriptor, 0, max(1, left.f_bavail * left.f_frsize - 64 * 1024))
        finally:
            os.close(descriptor)
        rest = self._directory / "filler.rest"
        try:
            with rest.open("wb", buffering=0) as file:
                while file.write(b"x" * 4096):
                    pass
        except OSError:
            pass  # full, as wanted

    def empty(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)
        (self._directory / "filler.rest").unlink(missing_ok=True)

    def cut_power(self) -> None:
        """Lose everything that was not synced; until `mount_again` nothing can be read or written.

        A witness is written first, which the cut has to take.
        """
        self._witness.write_bytes(bytes(_WITNESS_BYTES))
        handle = os.open(self._directory, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, array.array("I", [_NO_FLUSH_OF_THE_LOG]))
        finally:
            os.close(handle)

    def mount_again(self) -> bool:
        """Mount it after a cut, when nobody uses it; return whether the cut took the witness."""
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            [device] = [line.split()[0] for line in mounts if f" {self._directory} " in line]
        subprocess.run(["umount", str(self._directory)], check=True)
        # A child of a broker that was killed may see its end a moment later, and has the disk in a
        # mount namespace until then: mounted now, it would be the same one, which is shut down.
        in_use = Path("/sys/fs/ext4") / Path(device).name
        ends_s = time.monotonic() + _RELEASED_S_MAX
        while in_use.exists():
            if time.monotonic() > ends_s:
                raise TimeoutError(f"{self._directory}: in use {_RELEASED_S_MAX:g} s after the cut")
            time.sleep(0.01)
        self._mount()
        there = self._witness.exists() and self._witness.stat().st_size == _WITNESS_BYTES
        self._witness.unlink(missing_ok=True)
        return not there

    def close(self) -> None:
        """Unmount it; nobody uses it any more."""
        subprocess.run(["umount", str(self._directory)], check=False)
        self._image.unlink(missing_ok=True)
