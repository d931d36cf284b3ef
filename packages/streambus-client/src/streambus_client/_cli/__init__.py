"""The ``streambus`` command: finds the sub-command, loads that alone, and turns errors into exits.

Help of the command as a whole is printed from a table, without importing typer or any sub-command:
it has to be there at once. Other distributions add sub-commands through the entry-point group
``streambus.commands``; each entry names a ``typer.Typer``, or a function to be made a command of.
A function named ``run_arguments`` is called with the arguments as they are and returns the exit
code: for commands that have to be there at once, before typer would be loaded.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = "streambus.commands"
BROKERS_VARIABLE = "STREAMBUS_BROKERS"
PLAIN = "run_arguments"

BUILT_IN = {
    "topic": ("streambus_client._cli.topic:app", "create, list, describe, alter and delete topics"),
    "produce": ("streambus_client._cli.produce:produce", "send lines of standard input"),
    "consume": ("streambus_client._cli.consume:consume", "print records as lines"),
    "cluster": (
        "streambus_client._cli.cluster:app",
        "show the cluster, check its health, and operate it",
    ),
    "bench": ("streambus_client._cli.bench:bench", "measure a running cluster"),
}
"""Sub-commands of this distribution: where each is, and what help says of it."""

KNOWN_ELSEWHERE = {
    "serve": "run a broker (streambus-broker)",
    "demo": "see a broker lose nothing, kill -9 included (streambus-broker)",
    "migrate": "move from Apache Kafka (streambus-migrate)",
    "storage": "look into a data directory (streambus-storage)",
}
"""What help says of sub-commands of the other distributions, which it does not import."""

_HEAD = """\
Usage: streambus [-b HOST:PORT[,HOST:PORT...]] COMMAND ...

Commands:
"""

_TAIL = """
Options:
  -b, --brokers   servers to begin with; also STREAMBUS_BROKERS [127.0.0.1:9092]
  --version       print the version
  --help          this; `streambus COMMAND --help` says more

Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable or timed out, 4 not allowed, 5 not found,
6 exists, 7 partly done, 8 a check failed, 130 interrupted.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code.

    Args:
        arguments: without the program's name.
    """
    while arguments:
        first = arguments.pop(0)
        if first in ("-h", "--help"):
            return _print_help()
        if first == "--version":
            return _print_version()
        if first in ("-b", "--brokers") and arguments:
            os.environ[BROKERS_VARIABLE] = arguments.pop(0)
        elif first.startswith("--brokers="):
            os.environ[BROKERS_VARIABLE] = first.partition("=")[2]
        elif first.startswith("-"):
            return _usage(f"unknown option {first!r}")
        else:
            return _command(first, arguments)
    _print_help()
    return 2


def _command(name: str, arguments: list[str]) -> int:
    target = BUILT_IN[name][0] if name in BUILT_IN else elsewhere().get(name)
    if target is None:
        if name in KNOWN_ELSEWHERE:
            return _usage(f"{name!r} is not installed: it comes with {_home_of(name)}")
        return _usage(f"unknown command {name!r}")
    module_name, _, attribute = target.partition(":")
    if attribute == PLAIN:
        from importlib import import_module

        code: int = getattr(import_module(module_name), PLAIN)(arguments)
        return code
    from streambus_client._cli._running import run_target

    return run_target(name, target, arguments)


def elsewhere() -> dict[str, str]:
    """The sub-commands that other distributions add: name to ``module:object``."""
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def _print_help() -> int:
    lines = {name: text for name, (_, text) in BUILT_IN.items()}
    for name, target in elsewhere().items():
        lines[name] = KNOWN_ELSEWHERE.get(name, f"from {target.partition('.')[0]}")
    order = ["serve", *BUILT_IN, "demo"]
    names = sorted(lines, key=lambda name: (order.index(name) if name in order else 99, name))
    width = max(len(name) for name in names)
    listed = "".join(f"  {name:{width}}   {lines[name]}\n" for name in names)
    sys.stdout.write(_HEAD + listed + _TAIL)
    return 0


def _print_version() -> int:
    from streambus_client._version import __version__

    sys.stdout.write(f"streambus {__version__}\n")
    return 0


def _usage(problem: str) -> int:
    sys.stderr.write(f"streambus: {problem}; see `streambus --help`\n")
    return 2


def _home_of(name: str) -> str:
    return KNOWN_ELSEWHERE[name].rpartition("(")[2].rstrip(")")
