"""The helper process: carries out jobs of a tree in another interpreter; see `_worker_process`.

It is started with the two ends of a conversation as standard input and output, and ends when
the input does: with its tree, or when that is killed. It asks for the number of each new table,
so that nothing but the tree gives out names.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import struct
import time
from typing import TYPE_CHECKING, Any

from streambus_storage._names import table_path
from streambus_storage._pacer import YIELD_SECONDS, Pacer
from streambus_storage._scheduler import ThreadScheduler
from streambus_storage._table_builder import TableBuilder

if TYPE_CHECKING:
    from streambus_storage._jobs import Job
    from streambus_storage._levels import TableMeta

_HEAD = struct.Struct("<4sI")
_MAGIC = b"SBW1"

NICENESS = 5
"""Where the cores do not suffice for both, the tree's own process comes first: a third for us."""

SLICE_SECONDS = 0.000_5
"""Who waits for the core that we have gets it so much later, give or take a system call.

The scheduler takes a core away at its tick only: every 4 ms where there are 250 of them a second.
So long did an event loop wait for the core on which a helper was at work.
"""


class GivesWay(ThreadScheduler):
    """Pauses for the sake of others end at once if nobody waits for the core.

    Its time is the processor's: who was kept from working has nothing to give up.
    """

    def now(self) -> float:
        """See `Scheduler.now`."""
        return time.thread_time()

    def pause(self, seconds: float) -> None:
        """See `Scheduler.pause`."""
        if seconds > YIELD_SECONDS:
            super().pause(seconds)  # for the limit on bytes per second
        else:
            os.sched_yield()


def send(fd: int, data: bytes) -> None:
    """Write one message, which is pickled already.

    Raises:
        OSError: The other side has gone.
    """
    rest = memoryview(_HEAD.pack(_MAGIC, len(data)) + data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def receive(fd: int) -> bytes:
    """Read one message, and leave it pickled.

    Raises:
        EOFError: The other side has gone, or what comes is no message: somebody printed, say.
    """
    magic, length = _HEAD.unpack(_exactly(fd, _HEAD.size))
    if magic != _MAGIC:
        raise EOFError(f"no message begins with {magic!r}")
    return _exactly(fd, length)


def _exactly(fd: int, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(fd, size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def carry_out(job: Job, requests: int, answers: int) -> list[TableMeta]:
    """Do one job; return the tables, whose content is durable and whose names are not.

    Raises:
        EOFError: The tree has gone.
        OSError, StorageError: It failed; the tree removes what was begun.
    """
    rate = job.options.compaction_bytes_per_second if hasattr(job, "plan") else None
    pacer = Pacer(GivesWay(), SLICE_SECONDS, rate, lambda: False, lambda: False)

    def new_path() -> tuple[int, str]:
        send(answers, pickle.dumps(("number", None)))
        number: int = pickle.loads(receive(requests))  # noqa: S301 - from our own parent
        return number, table_path(job.directory, number)

    fs = job.options.file_system
    builder = TableBuilder(fs, job.options, new_path, job.clean, pacer.tick)
    job.write(builder, pacer.tick)
    return builder.finish()


def take_over() -> tuple[int, int]:  # pragma: no cover - in a process of its own
    """Return requests and answers, apart from standard input and output.

    Those lead nowhere from now on: the user's modules, which a job may import, may print.
    """
    requests, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return requests, answers


def main(requests: int, answers: int) -> None:
    """Carry out one job after the other, until there are no more requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    gc.disable()  # what a job makes refers to nothing that refers back
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        try:
            job: Job = pickle.loads(request)  # noqa: S301 - from our own parent
        except Exception as exc:  # noqa: BLE001 - told to the tree, whatever it is
            answer: tuple[str, Any] = ("unable", repr(exc))
        else:
            try:
                answer = ("done", carry_out(job, requests, answers))
            except EOFError:
                return
            except OSError as exc:
                answer = ("refused", (exc.errno, exc.strerror, exc.filename))
            except Exception as exc:  # noqa: BLE001 - told to the tree, whatever it is
                answer = ("failed", repr(exc))
        try:
            send(answers, pickle.dumps(answer))
        except OSError:
            return
        gc.collect()
