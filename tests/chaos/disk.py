"""A small file system of its own for a broker's data, so that it can be full."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_COMMANDS = ("mkfs.ext4", "mount", "umount")


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
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(self._image)], check=True)
        command = ["mount", "-o", "loop", str(self._image), str(directory)]
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

    def close(self) -> None:
        """Unmount it; nobody uses it any more."""
        subprocess.run(["umount", str(self._directory)], check=False)
        self._image.unlink(missing_ok=True)
