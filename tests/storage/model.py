"""What the engine must equal: a sorted dictionary, operations on it, and random ones of them.

An operation is plain data, so the same list can be applied to the model and to a tree under any
options, printed from a failing seed, and repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from streambus_storage import LSMTree


@dataclass(frozen=True, slots=True)
class Put:
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    key: bytes


@dataclass(frozen=True, slots=True)
class DeleteRange:
    start: bytes
    stop: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    parts: tuple[Put | Delete | DeleteRange, ...]


Operation = Put | Delete | DeleteRange | Batch


class Model:
    """An ordered map from bytes to bytes, all in memory and obviously right."""

    def __init__(self) -> None:
        self.entries: SortedDict[bytes, bytes] = SortedDict()

    def apply(self, operation: Operation) -> None:
        """Carry an operation out."""
        match operation:
            case Put(key, value):
                self.entries[key] = value
            case Delete(key):
                self.entries.pop(key, None)
            case DeleteRange(start, stop):
                for key in list(self.entries.irange(start, stop, (True, False))):
                    del self.entries[key]
            case Batch(parts):
                for part in parts:
                    self.apply(part)

    def copy(self) -> Model:
        """Another model with the same entries."""
        made = Model()
        made.entries.update(self.entries)
        return made

    def scan(
        self,
        start: bytes | None = None,
        stop: bytes | None = None,
        prefix: bytes | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[bytes, bytes]]:
        """The entries within the bounds, as the tree's ``scan`` gives them."""
        keys = self.entries.irange(start, stop, (True, False), reverse=reverse)
        return ((k, self.entries[k]) for k in keys if prefix is None or k.startswith(prefix))

    def first(self, prefix: bytes = b"") -> tuple[bytes, bytes] | None:
        """The lowest entry under a prefix."""
        return next(self.scan(prefix=prefix), None)

    def last(self, prefix: bytes = b"") -> tuple[bytes, bytes] | None:
        """The highest entry under a prefix."""
        return next(self.scan(prefix=prefix, reverse=True), None)


def apply_to_tree(tree: LSMTree, operation: Operation, *, sync: bool = False) -> int:
    """Carry an operation out on a tree, and return its (last) sequence number."""
    match operation:
        case Put(key, value):
            return tree.put(key, value, sync=sync)
        case Delete(key):
            return tree.delete(key, sync=sync)
        case DeleteRange(start, stop):
            return tree.delete_range(start, stop, sync=sync)
        case Batch(parts):
            with tree.batch(sync=sync) as batch:
                for part in parts:
                    match part:
                        case Put(key, value):
                            batch.put(key, value)
                        case Delete(key):
                            batch.delete(key)
                        case DeleteRange(start, stop):
                            batch.delete_range(start, stop)
            return tree.last_sequence


@dataclass(frozen=True, slots=True)
class Shape:
    """What random operations look like.

    Attributes:
        keys: how many different keys there are; few, so that they meet each other often.
        value_bytes_max: the longest value; lengths are drawn so that short ones prevail.
        prefixes: under how many prefixes the keys lie.
    """

    keys: int = 40
    value_bytes_max: int = 300
    prefixes: int = 3


def random_key(source: random.Random, shape: Shape) -> bytes:
    """One of the shape's keys; lengths differ, and some keys are prefixes of others."""
    number = source.randrange(shape.keys)
    prefix = number % shape.prefixes
    return b"%c/%d" % (97 + prefix, number) if number % 7 else b"%c" % (97 + prefix)


def random_value(source: random.Random, shape: Shape, serial: int) -> bytes:
    """A value that names the write it comes from, so that a stale one is recognised."""
    length = int(shape.value_bytes_max * source.random() ** 3)
    stamp = b"%d:" % serial
    return stamp + source.randbytes(1) * max(0, length - len(stamp))


def random_part(source: random.Random, shape: Shape, serial: int) -> Put | Delete | DeleteRange:
    """One random single write."""
    dice = source.random()
    if dice < 0.72:
        return Put(random_key(source, shape), random_value(source, shape, serial))
    if dice < 0.9:
        return Delete(random_key(source, shape))
    one, two = sorted((random_key(source, shape), random_key(source, shape)))
    return DeleteRange(one, two if one < two else two + b"\x00")


def random_operation(source: random.Random, shape: Shape, serial: int) -> Operation:
    """One random write, at times a batch; ``serial`` is stamped into the values."""
    if source.random() < 0.2:
        parts = [random_part(source, shape, serial) for _ in range(source.randint(0, 6))]
        return Batch(tuple(parts))
    return random_part(source, shape, serial)
