"""A real process on a real disk, killed by SIGKILL at random moments; everything is verified.

Theory of operation. A child process opens the tree and writes from several threads, each under a
prefix of its own, operations that follow from the seed. Beside the tree lies a file of expected
state: for each thread, how many operations it has begun and how many have returned, kept up by a
shared memory map, which outlives the process as the page cache does. After the kill the parent
opens the tree, computes from the seed what each thread had done, and compares every entry: all
that returned must be there, what was begun may be, and nothing else.

A write that has returned survives the death of its process without any sync; that is the
contract (loss of power is the simulator's subject: ``hatch run simulate storage``).
"""

from __future__ import annotations

import argparse
import gc
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streambus_storage import ClosedError, LSMTree, Options, _worker_process
from streambus_storage.testing import random_source
from tests.storage.model import (
    Batch,
    Delete,
    DeleteRange,
    Model,
    Operation,
    Put,
    Shape,
    apply_to_tree,
    random_operation,
)
from tests.storage.option_sets import random_options

if TYPE_CHECKING:
    from collections.abc import Iterator

THREADS = 3
WORD = 8
READY = 2 * THREADS * WORD
STATE_BYTES = READY + WORD
SHAPE = Shape(keys=600, value_bytes_max=3_000, prefixes=4)
LONGEST_LIFE_S = 1.2

TARGET_KILLS_PER_HOUR = 600


def real_options(source: random.Random) -> Options:
    """Small options, so that a second of writing flushes and compacts many times."""
    chosen = random_options(source)
    chosen["memtable_bytes"] = max(16_384, chosen["memtable_bytes"])
    chosen["table_bytes"] = max(16_384, chosen["table_bytes"])
    chosen["level1_bytes"] = max(32_768, chosen["level1_bytes"])
    return Options(**chosen)


def under(prefix: bytes, operation: Operation) -> Operation:
    """The same operation with every key under a prefix."""
    match operation:
        case Put(key, value):
            return Put(prefix + key, value)
        case Delete(key):
            return Delete(prefix + key)
        case DeleteRange(start, stop):
            return DeleteRange(prefix + start, prefix + stop)
        case Batch(parts):
            return Batch(tuple(under(prefix, part) for part in parts))  # type: ignore[misc] # parts are not batches


def operations(seed: int, life: int, thread: int) -> Iterator[tuple[Operation, bool]]:
    """What a thread writes in one life of the process, without end: (operation, sync?)."""
    draw = random_source(seed, f"life {life} thread {thread}")
    serial = 0
    while True:
        yield under(b"%d/" % thread, random_operation(draw, SHAPE, serial)), draw.random() < 0.02
        serial += 1


class ExpectedState:
    """Per thread, operations begun and returned, in a file that two processes share."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(STATE_BYTES))
        self._file = path.open("r+b")
        self._map = mmap.mmap(self._file.fileno(), STATE_BYTES)

    def _get(self, at: int) -> int:
        return int.from_bytes(self._map[at : at + WORD], "little")

    def _set(self, at: int, value: int) -> None:
        self._map[at : at + WORD] = value.to_bytes(WORD, "little")

    def clear(self) -> None:
        """Forget: a new life begins."""
        self._map[:] = bytes(STATE_BYTES)

    def begin(self, thread: int) -> None:
        """The thread is about to write."""
        self._set(thread * WORD, self.begun(thread) + 1)

    def finish(self, thread: int) -> None:
        """The write has returned."""
        self._set((THREADS + thread) * WORD, self.returned(thread) + 1)

    def begun(self, thread: int) -> int:
        """Operations begun."""
        return self._get(thread * WORD)

    def returned(self, thread: int) -> int:
        """Operations that have returned."""
        return self._get((THREADS + thread) * WORD)

    @property
    def ready(self) -> bool:
        """Whether the tree of this life is open."""
        return self._get(READY) == 1

    def set_ready(self) -> None:
        """The tree is open."""
        self._set(READY, 1)

    def close(self) -> None:
        """Give map and file back."""
        self._map.close()
        self._file.close()


def live(directory: Path, state: ExpectedState, seed: int, life: int) -> None:
    """The child: write from several threads until the end comes from outside."""
    # Every third life has helper processes for the smallest jobs: they outlive the kill by moments.
    _worker_process.LEAST_ENTRIES = 1 if life % 3 == 0 else sys.maxsize
    tree = LSMTree.open(
        str(directory / "tree"), real_options(random_source(seed, f"options {life}"))
    )
    state.set_ready()

    def write(thread: int) -> None:
        with suppress(ClosedError):
            for operation, sync in operations(seed, life, thread):
                state.begin(thread)
                apply_to_tree(tree, operation, sync=sync)
                state.finish(thread)

    threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(THREADS)]
    for each in threads:
        each.start()
    draw = random_source(seed, f"others {life}")
    while all(each.is_alive() for each in threads):
        time.sleep(draw.random() * 0.05)
        dice = draw.random()
        if dice < 0.1:
            tree.compact()
        elif dice < 0.3:
            tree.flush()
        elif dice < 0.4:
            tree.checkpoint(str(directory / f"checkpoint-{life}-{draw.getrandbits(32)}"))
        elif dice < 0.5:
            with tree.snapshot() as view:
                for _ in view.scan():
                    pass


@dataclass(slots=True)
class Loop:
    """Lives, kills and verdicts on one directory."""

    directory: Path
    seed: int
    kills: int = 0
    writes: int = 0
    models: list[Model] = field(default_factory=lambda: [Model() for _ in range(THREADS)])

    def turn(self) -> None:
        """One life: start, wait, kill, verify.

        Raises:
            AssertionError: if what is on the disk is not what was written.
        """
        life = self.kills
        state = ExpectedState(self.directory / "expected")
        state.clear()
        draw = random_source(self.seed, f"kill {life}")
        gc.collect()
        child = os.fork()
        if child == 0:
            code = 1
            with suppress(BaseException):
                live(self.directory, state, self.seed, life)
                code = 0
            os._exit(code)
        try:
            self._wait(state, child, draw)
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"seed {self.seed} life {life}: the child ended by itself"
        self.kills += 1
        self._verify(state, life)
        state.close()

    def _wait(self, state: ExpectedState, child: int, draw: random.Random) -> None:
        """Until the tree is open and then for a random time; at times the opening is killed."""
        if draw.random() < 0.15:
            time.sleep(draw.random() * 0.05)
            return
        patience = time.monotonic() + 60
        while not state.ready:
            time.sleep(0.002)
            assert os.waitpid(child, os.WNOHANG) == (0, 0), "the child died while opening"
            assert time.monotonic() < patience, "the tree did not open within a minute"
        time.sleep(draw.random() ** 2 * LONGEST_LIFE_S)

    def _verify(self, state: ExpectedState, life: int) -> None:
        where = f"seed {self.seed} life {life}"
        options = real_options(random_source(self.seed, f"verify {life}"))
        with LSMTree.open(str(self.directory / "tree"), options) as tree:
            total = 0
            for thread in range(THREADS):
                begun, returned = state.begun(thread), state.returned(thread)
                assert begun - returned in (0, 1)
                model = self.models[thread]
                written = operations(self.seed, life, thread)
                for _ in range(returned):
                    model.apply(next(written)[0])
                found = dict(tree.scan(prefix=b"%d/" % thread))
                if found != dict(model.entries) and begun > returned:
                    model.apply(next(written)[0])
                assert found == dict(model.entries), (
                    f"{where} thread {thread}: {begun} begun, {returned} returned; differing: "
                    f"{_difference(found, dict(model.entries))}"
                )
                self.writes += returned
                total += len(found)
            assert sum(1 for _ in tree.scan()) == total, f"{where}: entries of nobody"
            assert tree.verify()
        self._verify_checkpoints(life, options)

    def _verify_checkpoints(self, life: int, options: Options) -> None:
        """The last finished checkpoint of this life opens and is whole; then all are removed."""
        made = sorted(self.directory.glob(f"checkpoint-{life}-*"), key=lambda p: p.stat().st_mtime)
        for path in made[:-1]:  # the last one may be the kill's
            with LSMTree.open(str(path), options, create=False) as tree:
                assert tree.verify()
                for _ in tree.scan():
                    pass
        for path in made:
            shutil.rmtree(path)


def _difference(found: dict[bytes, bytes], expected: dict[bytes, bytes]) -> str:
    keys = [k for k in sorted({*found, *expected}) if found.get(k) != expected.get(k)]
    shown = [
        (key, (expected.get(key) or b"-")[:12], (found.get(key) or b"-")[:12]) for key in keys[:10]
    ]
    return f"{len(keys)} keys, (key, expected, found): {shown}"


def main(arguments: list[str]) -> int:
    """Kill for so many minutes, print kills per hour; a broken promise keeps the directory."""
    parser = argparse.ArgumentParser(prog="hatch run crash-storage", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--kills", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    parser.add_argument("--directory", type=Path, help="where to work; by default a new one")
    given = parser.parse_args(arguments)
    directory = given.directory or Path(tempfile.mkdtemp(prefix="crash-storage-"))
    directory.mkdir(parents=True, exist_ok=True)
    print(f"seed {given.seed}", file=sys.stderr)
    loop = Loop(directory, given.seed)
    began = time.monotonic()
    try:
        while loop.kills < given.kills and time.monotonic() - began < given.minutes * 60:
            loop.turn()
    except BaseException:
        print(f"after {loop.kills} kills; the tree is kept in {directory}", file=sys.stderr)
        raise
    hours = (time.monotonic() - began) / 3600
    shutil.rmtree(directory)
    print(
        f"{loop.kills} kills in {hours * 60:.1f} minutes, {loop.writes:,} acknowledged writes all "
        f"found: {loop.kills / hours:,.0f} kills an hour (target {TARGET_KILLS_PER_HOUR:,})"
    )
    return 0
