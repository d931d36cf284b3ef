"""What every ``fuzz`` suite does beside its targets: one process a target, and the limits.

More than a second or one allocation above 64 MiB for one input is a finding.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MEMORY_MEBIBYTES = 64


def fuzz(
    subject: str,
    description: str | None,
    targets: Mapping[str, Callable[[bytes], None]],
    arguments: list[str],
) -> int:
    """Fuzz every target in a process of its own, or the one that is named."""
    parser = argparse.ArgumentParser(prog=f"hatch run fuzz {subject}", description=description)
    parser.add_argument("target", nargs="?", choices=sorted(targets))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    options = parser.parse_args(arguments)
    if options.target is None:
        for target in targets:
            command = [sys.executable, "-m", "tests.commands.fuzz", subject, target]
            code = subprocess.call([*command, "--seconds", str(options.seconds)])
            if code:
                return code
        return 0
    flags = [
        f"-max_total_time={options.seconds}",
        f"-rss_limit_mb={_MEMORY_MEBIBYTES + 512}",  # the interpreter and the fuzzer's own tables
        f"-malloc_limit_mb={_MEMORY_MEBIBYTES}",
        "-timeout=1",
        "-print_final_stats=1",
        f"-seed={int.from_bytes(os.urandom(3), 'big')}",
    ]
    atheris.Setup([sys.argv[0], *flags], targets[options.target])
    atheris.Fuzz()
    return 0
