"""The state machine of the simulation: a few registers that can be written, compared and read."""

from __future__ import annotations

import msgpack


class Registers:
    """Named registers; counts what it has applied, so that a repetition would be noticed."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.index = 0
        """The last entry whose effects this holds."""
        self.commands = 0
        """How many commands have had an effect, ever."""

    def apply(self, data: bytes) -> bool:
        """Carry out one command; says whether it changed anything."""
        self.commands += 1
        if not data.startswith(b"\x93"):
            return False  # filler of a burst
        key, expected, value = msgpack.unpackb(data)
        if expected is not False and self.values.get(key) != expected:
            return False
        self.values[key] = value
        return True

    def save(self) -> bytes:
        """The whole state, the same bytes for the same state."""
        packed: bytes = msgpack.packb([self.index, self.commands, sorted(self.values.items())])
        return packed

    @classmethod
    def load(cls, data: bytes) -> Registers:
        """What ``save`` has saved."""
        machine = cls()
        if data:
            machine.index, machine.commands, items = msgpack.unpackb(data)
            machine.values = dict(items)
        return machine


def write_command(key: str, value: object) -> bytes:
    """Set a register."""
    packed: bytes = msgpack.packb([key, False, value])
    return packed


def compare_command(key: str, expected: object, value: object) -> bytes:
    """Set a register if it holds ``expected``, which is None for one that was never written."""
    packed: bytes = msgpack.packb([key, expected, value])
    return packed
