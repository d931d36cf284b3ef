"""One random run of a tree, with the power cut at its file-system calls, and what must hold.

Theory of operation. A run writes random operations to a tree on a simulated disk. Before each
call that reaches the disk, the disk as a power cut would leave it is cloned, and a second tree
is opened on the clone, while the first one is in the middle of whatever it does. So one run of
n calls gives n power cuts for little more than the price of n recoveries.

What must hold after each cut (scenario 1 and more):

1. The tree opens.
2. What it holds equals the model after the first p operations, for a p that is at least the last
   operation known to be durable and at most the last one begun: a prefix in commit order.
   Batches count as one operation, so none is half there.
3. A second cut right after recovery, before any write, changes nothing (scenario 6); also where
   the first was only the death of the process, so that much of what was served was not synced.
4. A cut at any call of the recovery itself is survived just the same.
5. What is written and synced after recovery is there after the next cut, on top of 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streambus_storage import LSMTree
from streambus_storage.testing import CUT_MODES, SimulatedWorld, random_source
from tests.storage.model import Model, Operation, Shape, apply_to_tree, random_operation
from tests.storage.option_sets import random_options

if TYPE_CHECKING:
    import random

    from streambus_storage import StorageError
    from streambus_storage.testing import Call, SimulatedFileSystem

PATH = "/data/tree"

Entries = dict[bytes, bytes]


class BrokenPromiseError(AssertionError):
    """A promise was broken; the message holds everything that is needed to repeat it."""


@dataclass(slots=True)
class History:
    """What was written so far, and what of it is known to be durable."""

    states: list[Entries] = field(default_factory=lambda: [{}])
    """The entries after each operation; index 0 is the empty tree."""
    begun: int = 0
    """Operations begun: ``states`` has this many, and the initial one."""
    durable: int = 0
    """Operations that must survive."""

    def begin(self, entries: Entries) -> None:
        """An operation is about to be handed to the tree."""
        self.states.append(entries)
        self.begun += 1

    def allowed(self, entries: Entries) -> int | None:
        """The newest prefix that equals ``entries`` and holds all that is durable, or None."""
        for position in range(self.begun, self.durable - 1, -1):
            if self.states[position] == entries:
                return position
        return None


@dataclass
class Run:
    """A run of one seed.

    Args:
        seed: everything random comes from it.
        operations: how many writes, and other calls between them.
        cut_share: the share of the calls at which the power is cut; 1 is every call.
        nested_share: the share of recoveries that are themselves cut at each of their calls.
    """

    seed: int
    operations: int = 60
    cut_share: float = 1.0
    nested_share: float = 0.05
    shape: Shape = field(default_factory=Shape)
    cuts: int = 0
    log: list[str] | None = None

    def __post_init__(self) -> None:
        self._draw: random.Random = random_source(self.seed, "operations")
        self._cutter: random.Random = random_source(self.seed, "cutter")
        self._history = History()
        self._model = Model()
        self._options = random_options(random_source(self.seed, "options"))
        eagerness = self._draw.choice((0.0, 0.3, 1.0))
        self._world = SimulatedWorld(self.seed, eagerness=eagerness)
        self._inside = False

    def execute(self) -> int:
        """Do it all, and return the number of power cuts.

        Raises:
            BrokenPromiseError: if a promise was broken.
        """
        disk = self._world.disk
        disk.make_directory("/data")
        disk.sync_directory("/")
        disk.on_call = self._on_call
        tree = self._open(self._world)
        for serial in range(self.operations):
            tree = self._step(tree, serial)
        tree.close()
        disk.on_call = None
        self._cut("the end")
        return self.cuts

    def _open(self, world: SimulatedWorld, **others: Any) -> LSMTree:
        return LSMTree.open(PATH, world.options(**{**self._options, **others}))

    def _step(self, tree: LSMTree, serial: int) -> LSMTree:
        """One write, and at times something else after it."""
        operation = random_operation(self._draw, self.shape, serial)
        self._model.apply(operation)
        self._write(tree, operation, sync=self._draw.random() < 0.15)
        dice = self._draw.random()
        if dice < 0.06:
            self._note("sync")
            tree.sync()
            self._history.durable = self._history.begun
        elif dice < 0.12:
            self._note("on_durable")
            reached = self._history.begun
            tree.on_durable(tree.last_sequence, lambda error: self._on_durable(reached, error))
        elif dice < 0.18:
            self._note("flush")
            tree.flush()
        elif dice < 0.22:
            self._note("compact")
            tree.compact()
        elif dice < 0.26:
            self._note("reopen with other options")
            tree.close()
            self._options = random_options(self._draw)
            tree = self._open(self._world)
        elif dice < 0.5:
            self._world.scheduler.run_until_idle()
        if dice > 0.9:
            found = dict(tree.scan())
            if found != dict(self._model.entries):
                raise self._violation("a scan without any cut differs from the model", found)
        return tree

    def _write(self, tree: LSMTree, operation: Operation, *, sync: bool) -> None:
        self._note(f"{operation}{' and sync' if sync else ''}")
        self._history.begin(dict(self._model.entries))
        apply_to_tree(tree, operation, sync=sync)
        if sync:
            self._history.durable = self._history.begun

    def _on_durable(self, reached: int, error: StorageError | None) -> None:
        if error is not None:
            raise self._violation(f"on_durable reports {error!r} on a disk without faults", {})
        self._history.durable = max(self._history.durable, reached)

    # Cuts.

    def _on_call(self, call: Call) -> None:
        if self._inside or (self.cut_share < 1 and self._cutter.random() >= self.cut_share):
            return
        self._inside = True
        try:
            self._cut(str(call))
        finally:
            self._inside = False

    def _cut(self, where: str) -> None:
        """Cut the power here, recover on the clone, and check."""
        if self._cutter.random() < 0.2:
            self._check(self._world.process_kill(), f"kill before {where}")
            return
        mode = self._cutter.choice(CUT_MODES)
        seed = self._cutter.getrandbits(32)
        self._check(self._world.power_cut(mode, seed=seed), f"cut before {where}, {mode}, {seed}")

    def _check(self, world: SimulatedWorld, where: str) -> None:
        """Recover and compare; then cut again, write, and cut once more."""
        self.cuts += 1
        nested = self._cutter.random() < self.nested_share
        if nested:
            world.disk.on_call = lambda call: self._check_nested(world, f"{where}; {call}")
        position, tree = self._recover(world, where)
        world.disk.on_call = None
        again = world.power_cut(self._cutter.choice(CUT_MODES))
        self.cuts += 1
        second, _ = self._recover(again, f"{where}; again")
        if self._history.states[second] != self._history.states[position]:
            raise self._violation(f"{where}: served {position}, and after a cut {second}", {})
        if self._cutter.random() < 0.1:
            tree.put(b"zz/after", b"synced", sync=True)
            self.cuts += 1
            third = world.power_cut("drop")
            expected = {**self._history.states[position], b"zz/after": b"synced"}
            found = dict(self._open(third).scan())
            if found != expected:
                raise self._violation(f"{where}; written, synced, cut", found)

    def _check_nested(self, world: SimulatedWorld, where: str) -> None:
        """The power goes during recovery, at each of its calls."""
        self.cuts += 1
        hook, world.disk.on_call = world.disk.on_call, None
        self._recover(world.power_cut(self._cutter.choice(CUT_MODES)), where)
        world.disk.on_call = hook

    def _recover(self, world: SimulatedWorld, where: str) -> tuple[int, LSMTree]:
        try:
            tree = self._open(world)
            found = dict(tree.scan())
            if self._cutter.random() < 0.05:
                assert tree.verify()
        except BrokenPromiseError:
            raise
        except Exception as error:
            raise self._violation(f"{where}: {error!r}", {}) from error
        position = self._history.allowed(found)
        if position is None:
            raise self._violation(where, found)
        return position, tree

    def _violation(self, where: str, found: Entries) -> BrokenPromiseError:
        expected = self._history.states[-1]
        differing = {
            key: (expected.get(key), found.get(key))
            for key in sorted({*expected, *found})
            if expected.get(key) != found.get(key)
        }
        return BrokenPromiseError(
            f"seed {self.seed}: {where}; {self._history.durable} of {self._history.begun} "
            f"operations are durable; options {self._options}; keys that differ from the newest "
            f"state (expected, found): {differing}"
        )

    def _note(self, what: str) -> None:
        if self.log is not None:
            self.log.append(what)


def files_after(disk: SimulatedFileSystem) -> list[str]:
    """The names in the tree's directory."""
    return sorted(path.rpartition("/")[2] for path in disk.files() if path.startswith(PATH))
