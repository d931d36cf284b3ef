"""What the scenarios share: a tree on a simulated disk, and its files by their role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streambus_storage import LSMTree
from streambus_storage.testing import Call, SimulatedFileSystem, SimulatedWorld, random_source

if TYPE_CHECKING:
    from streambus_storage.testing._disk import CutMode

PATH = "/data/tree"

SMALL: dict[str, Any] = {
    "memtable_bytes": 1 << 20,
    "block_bytes": 128,
    "table_bytes": 2048,
    "raw_value_bytes": 512,
    "level1_bytes": 8192,
}
"""Nothing is flushed unless asked for, and a few entries make several blocks and tables."""


def new_world(seed: int = 0, *, eagerness: float = 1.0) -> SimulatedWorld:
    """A world whose disk has a durable directory ``/data``."""
    world = SimulatedWorld(seed, eagerness=eagerness)
    world.disk.make_directory("/data")
    world.disk.sync_directory("/")
    return world


def open_tree(world: SimulatedWorld, **options: Any) -> LSMTree:
    """Open the tree of a world with small options, or others."""
    return LSMTree.open(PATH, world.options(**{**SMALL, **options}))


def cut(world: SimulatedWorld, mode: CutMode = "drop", seed: int = 0) -> SimulatedWorld:
    """The world after a power cut."""
    return world.power_cut(mode, seed=seed)


def record_cuts(world: SimulatedWorld, mode: CutMode = "random") -> list[SimulatedFileSystem]:
    """From now on, keep what a power cut would leave before each call."""
    kept: list[SimulatedFileSystem] = []

    def keep(call: Call) -> None:
        del call
        kept.append(world.disk.power_cut(random_source(len(kept)), mode))

    world.disk.on_call = keep
    return kept


def rebuilt(world: SimulatedWorld) -> SimulatedWorld:
    """The same world after its process was killed, with a disk of its own: one for each damage."""
    disk = world.disk.process_kill()
    return SimulatedWorld(world.seed, disk=disk, eagerness=world.scheduler.eagerness)


def contents(world: SimulatedWorld, **options: Any) -> dict[bytes, bytes]:
    """Open the tree, read everything, and close it."""
    with open_tree(world, **options) as tree:
        return dict(tree.scan())


def paths(disk: SimulatedFileSystem, suffix: str) -> list[str]:
    """The tree's files whose name ends so, oldest first."""
    return [path for path in disk.files() if path.startswith(PATH) and path.endswith(suffix)]


def logs(disk: SimulatedFileSystem) -> list[str]:
    """The segments of the write-ahead log."""
    return paths(disk, ".wal")


def written_log(disk: SimulatedFileSystem) -> str:
    """The segment that was written to; another one may lie prepared and empty."""
    return max(logs(disk), key=lambda path: disk.files()[path])


def tables(disk: SimulatedFileSystem) -> list[str]:
    """The sorted tables."""
    return paths(disk, ".sst")


def manifests(disk: SimulatedFileSystem) -> list[str]:
    """The manifests."""
    return [path for path in disk.files() if "MANIFEST" in path]
