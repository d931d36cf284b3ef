"""A network of its own for each broker, so that links between them can fail.

Everything lives in namespaces of this process alone: `enter` runs the program again inside of new
network and mount namespaces. What is made there (bridge, links, firewall rules, mounts) ends with
the program, also if that is killed.

Needs root, and the commands ``unshare``, ``ip`` and ``nft``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_INSIDE = "STREAMBUS_CHAOS_NAMESPACE"
_COMMANDS = ("unshare", "ip", "nft")
_SUBNET = "10.77.0"
HUB = f"{_SUBNET}.254"
"""The address of the clients."""


def missing() -> str:
    """Say why there can be no networks; empty where there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "it needs root"
    absent = [command for command in _COMMANDS if shutil.which(command) is None]
    return f"it needs {', '.join(absent)}" if absent else ""


def enter(arguments: list[str]) -> int | None:
    """Run this program again inside of namespaces; None where this already is that run."""
    if os.environ.get(_INSIDE):
        return None
    command = ["unshare", "--net", "--mount", "--propagation", "private", "--"]
    command += [sys.executable, "-m", "tests.chaos", *arguments]
    inside = subprocess.Popen(command, env={**os.environ, _INSIDE: "1"})
    # It is told in any case, be it twice; what it still has to say is wanted.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda number, _: inside.send_signal(number))
    return inside.wait()


def _run(*command: str, stdin: str | None = None) -> None:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


class Network:
    """One namespace for each broker, all on one bridge.

    Args:
        nodes: The brokers' node ids, 1 to 200.
    """

    def __init__(self, nodes: Iterable[int]) -> None:
        self.nodes = tuple(nodes)
        os.makedirs("/run/netns", exist_ok=True)
        _run("mount", "-t", "tmpfs", "none", "/run/netns")
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "br0", "type", "bridge")
        _run("ip", "address", "add", f"{HUB}/24", "dev", "br0")
        _run("ip", "link", "set", "br0", "up")
        for node in self.nodes:
            name, link = self._name(node), f"v{node}"
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "link", "set", link, "master", "br0", "up")
            for words in (
                f"address add {self.host(node)}/24 dev eth0",
                "link set eth0 up",
                "link set lo up",
            ):
                _run("ip", "-n", name, *words.split())

    @staticmethod
    def _name(node: int) -> str:
        return f"broker{node}"

    @staticmethod
    def host(node: int) -> str:
        """The address of a broker."""
        return f"{_SUBNET}.{node}"

    def prefix(self, node: int) -> tuple[str, ...]:
        """What to put before a command that shall run in a broker's namespace."""
        return ("ip", "netns", "exec", self._name(node))

    def deafen(self, node: int, to: Iterable[str], percent: int = 100) -> None:
        """Drop what a broker would receive from some addresses: all of it, or a share.

        It replaces what was dropped there before.
        """
        self.heal(node)
        chance = "" if percent == 100 else f"numgen random mod 100 < {percent} "
        rules = "\n".join(f"    ip saddr {address} {chance}drop" for address in to)
        table = (
            "table inet chaos {\n  chain incoming {\n"
            f"    type filter hook input priority 0;\n{rules}\n  }}\n}}\n"
        )
        _run(*self.prefix(node), "nft", "-f", "-", stdin=table)

    def part(self, group: Iterable[int], *, clients: bool) -> None:
        """Cut a group of brokers from the others in both directions.

        Args:
            group: Those on the one side.
            clients: Whether they lose the clients as well.
        """
        group = tuple(group)
        others = [node for node in self.nodes if node not in group]
        far = [self.host(node) for node in others]
        for node in group:
            self.deafen(node, [*far, HUB] if clients else far)
        for node in others:
            self.deafen(node, [self.host(each) for each in group])

    def heal(self, *nodes: int) -> None:
        """Let everything through again, at some brokers or at all."""
        for node in nodes or self.nodes:
            table = "table inet chaos\ndelete table inet chaos\n"
            _run(*self.prefix(node), "nft", "-f", "-", stdin=table)
