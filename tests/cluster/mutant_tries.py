"""Independent tries to find a seeded bug, and the record of them.

A try is a process of its own, forked from one that has imported everything: it plants the bug and
runs the simulator seed after seed, from a first seed that no other try comes near, until something
is noticed or its CPU time is used up. The time is the process's own, so how busy the machine is
does not matter. The record is written after each try; who is interrupted goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import hashlib
import json
import logging
import os
import signal
import statistics
import time
import traceback
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NoReturn

from tests.cluster.mutant_planting import apply
from tests.cluster.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cluster.mutant import Mutant

APART = 1_000_000
"""How far the first seeds of two tries are from each other."""


@dataclass(frozen=True, slots=True)
class Try:
    """How one try went.

    Attributes:
        number: Its own; its first seed is `APART` times that.
        found: Whether the bug was noticed in time.
        cpu_s: CPU seconds used.
        seeds: How many were run to their end, or to the find.
        how: What was noticed first.
    """

    number: int
    found: bool
    cpu_s: float
    seeds: int
    how: str


@dataclass(slots=True)
class Tried:
    """All tries of one mutant."""

    change: str
    tries: list[Try] = field(default_factory=list)

    @property
    def found(self) -> int:
        """In how many it was found."""
        return sum(1 for each in self.tries if each.found)

    @property
    def misses(self) -> int:
        """In how many it was not."""
        return len(self.tries) - self.found

    @property
    def share(self) -> float:
        """In which share of them, 0 to 1; 0 where there was none."""
        return self.found / len(self.tries) if self.tries else 0.0

    @property
    def median_s(self) -> float:
        """Median of the CPU seconds of a try; one that found nothing took all its time."""
        return statistics.median(each.cpu_s for each in self.tries)


class Record:
    """The tries of all mutants, in a file.

    What was tried with another change under the same name does not count, and is dropped.

    Args:
        path: The file; it need not exist.
        mutants: Those that there are now.
    """

    def __init__(self, path: Path, mutants: list[Mutant]) -> None:
        self._path = path
        self.tried = {mutant.name: Tried(change_of(mutant)) for mutant in mutants}
        self._read()

    def add(self, mutant: Mutant, outcome: Try) -> None:
        """Take note of a try; the file is whole at any moment, whoever else writes into it."""
        with self._alone():
            self._read()
            self.tried[mutant.name].tries.append(outcome)
            self._write()

    def forget(self, mutant: Mutant) -> None:
        """Drop the tries of a mutant, as after a change of the simulator."""
        with self._alone():
            self._read()
            self.tried[mutant.name].tries = []
            self._write()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _read(self) -> None:
        stored = json.loads(self._path.read_text("utf-8")) if self._path.exists() else {}
        for name, each in stored.items():
            if name in self.tried and each["change"] == self.tried[name].change:
                self.tried[name].tries = [Try(**one) for one in each["tries"]]

    def _write(self) -> None:
        stored = [
            f"{json.dumps(name)}: {{\n\"change\": {json.dumps(each.change)}, \"tries\": [\n"
            + ",\n".join(json.dumps(asdict(one)) for one in each.tries) + "\n]}"
            for name, each in self.tried.items() if each.tries
        ]  # fmt: skip
        beside = self._path.with_suffix(".new")
        beside.write_text("{\n" + ",\n".join(stored) + "\n}\n", encoding="utf-8")
        beside.replace(self._path)


def change_of(mutant: Mutant) -> str:
    """A short name for what exactly a mutant changes."""
    told = f"{mutant.module}\0{mutant.old}\0{mutant.new}"
    return hashlib.sha256(told.encode()).hexdigest()[:12]


def attempt(mutant: Mutant, number: int, cpu_s: float) -> Try:
    """Make one try in a process of its own.

    Args:
        mutant: What to plant.
        number: Of the try.
        cpu_s: How much CPU time it may use.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            _hunt(mutant, number, cpu_s, writing)
        except BaseException:  # noqa: BLE001 - the simulator never raises: it is the planting
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    if not told:  # it was killed, or could not plant the bug and has said why
        return Try(number, found=False, cpu_s=cpu_s, seeds=0, how="ended without a word")
    return Try(**json.loads(told))


def _hunt(mutant: Mutant, number: int, cpu_s: float, answer: int) -> NoReturn:
    """In the child: run seed after seed, and end with an answer."""
    logging.disable(logging.CRITICAL)
    apply(mutant)
    gc.disable()
    began_s = time.process_time()
    first = seed = APART * number

    def end(how: str) -> NoReturn:
        used_s = round(time.process_time() - began_s, 2)
        outcome = Try(number, bool(how), used_s, seed - first, how)
        os.write(answer, json.dumps(asdict(outcome)).encode())
        os._exit(0)

    # An exception would be caught by the simulated loop, and taken for what is looked for.
    signal.signal(signal.SIGPROF, lambda *_: end(""))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    while True:
        try:
            Scenario(seed).run()
        except Exception as found:  # noqa: BLE001 - whatever goes wrong is what is looked for
            signal.setitimer(signal.ITIMER_PROF, 0)
            seed += 1
            end(f"seed {seed - 1}: {_first_line(found)}")
        seed += 1
        if seed % 10 == 0:
            gc.collect()


def _first_line(found: Exception) -> str:
    words = str(found).splitlines() or [""]
    return f"{type(found).__name__}: {words[0]}"[:100]
