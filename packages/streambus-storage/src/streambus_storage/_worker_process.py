"""A helper process: flush and compaction in an interpreter of their own.

Threads share one interpreter lock: while a flush sorts and encodes, an event loop in the same
process waits for its turns. So large jobs go to a second process, which reads the frozen log
segment, or the inputs of a merge, writes the tables and answers with what the manifest needs to
know. The tree alone changes the manifest, gives out the numbers of tables, and removes files.

Rules:

- The helper only helps. Whatever it cannot do (it does not start, dies, cannot import the key
  partitioner, finds damage) is done in the worker's thread, which raises what there is to raise.
- It is started by the first large job, and ended when it has been idle for a while.
- It ends with its tree, however that ends: its input ends then.
- One job at a time, and only from one worker.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import subprocess
import sys
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from streambus_storage._filesystem import RealFileSystem
from streambus_storage._pacer import Cancelled
from streambus_storage._scheduler import ThreadScheduler
from streambus_storage._worker_process_main import receive, send

if TYPE_CHECKING:
    from collections.abc import Callable

    from streambus_storage._jobs import Job
    from streambus_storage._levels import TableMeta
    from streambus_storage._options import Options
    from streambus_storage._store import Store

IDLE_SECONDS = 10.0
"""A helper that had nothing to do for so long is ended."""

LEAST_ENTRIES = 8192
"""Smaller jobs are not worth the way to another process: they take some ten milliseconds here.

Entries, not bytes: what large values cost is system calls, which hold no interpreter lock.
"""

_POLL_MS = 50
_EXIT_SECONDS = 5.0
_BOOTSTRAP = """\
import os, signal, sys, time
sys.path[:] = sys.argv[1:]
due = 0.0

def offer(*_):
    global due
    if time.thread_time() >= due:
        os.sched_yield()
        due = time.thread_time() + 0.0005

signal.signal(signal.SIGALRM, offer)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
from streambus_storage._worker_process_main import main, take_over
signal.setitimer(signal.ITIMER_REAL, 0)
main(*take_over())
"""
"""Importing takes a core for a tenth of a second: it is offered meanwhile, as in `GivesWay`."""

logger = logging.getLogger("streambus_storage")


def portable(options: Options) -> Options:
    """Return the options that a job needs: doors and filters stay with the tree."""
    return replace(options, scheduler=None, randomness=Random(0), compaction_filter=None)  # noqa: S311 - not used


class Helper:
    """The helper process of one worker. Not thread-safe, but for `abandon`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._process: subprocess.Popen[bytes] | None = None
        self._unable = not (
            store.options.helper_processes
            and type(store.file_system) is RealFileSystem
            and type(store.scheduler) is ThreadScheduler
            and sys.executable
            and not getattr(sys, "frozen", False)
        )
        self._used = 0.0  # when the last job ended

    def takes(self, entries: int) -> bool:
        """Tell whether a job of so many entries should be given to `run`."""
        return not self._unable and entries >= LEAST_ENTRIES

    def run(self, job: Job, cancelled: Callable[[], bool]) -> list[TableMeta] | None:
        """Have a job done.

        Returns:
            The tables, as `TableBuilder.finish` does; None: the helper could not do it.

        Raises:
            OSError: The system refused, for instance because the disk is full.
            Cancelled: As ``cancelled`` said.
            After a failure no file of the job is left.
        """
        paths: list[str] = []
        try:
            built = self._converse(job, cancelled, paths)
        except (Cancelled, OSError):
            self._remove(paths)
            raise
        if built is None:
            self._remove(paths)
        self._used = self._store.scheduler.now()
        return built

    def _converse(
        self, job: Job, cancelled: Callable[[], bool], paths: list[str]
    ) -> list[TableMeta] | None:
        """Send the job, give out numbers, and wait for the outcome."""
        try:
            request = pickle.dumps(job)
        except Exception as exc:  # noqa: BLE001 - a key partitioner that is a lambda, say
            self._give_up(f"its job cannot be sent: {exc!r}")
            return None
        try:
            requests, answers = self._start()
            send(requests, request)
            ready = select.poll()
            ready.register(answers, select.POLLIN)
            while True:
                while not ready.poll(_POLL_MS):
                    if cancelled():
                        self._kill()
                        raise Cancelled
                kind, content = pickle.loads(receive(answers))  # noqa: S301 - from our own child
                if kind != "number":
                    break
                number, path = self._store.new_table_path()
                paths.append(path)
                send(requests, pickle.dumps(number))
        except (OSError, EOFError) as exc:
            self._kill()
            self._give_up(f"it does not start, or died: {exc!r}")
            return None
        return self._outcome(kind, content)

    def _outcome(self, kind: str, content: Any) -> list[TableMeta] | None:
        if kind == "done":
            tables: list[TableMeta] = content
            return tables
        if kind == "refused":
            number, reason, filename = content
            raise OSError(number, reason, filename)
        if kind == "unable":
            self._give_up(f"it cannot read its job: {content}")
            return None
        logger.info("a helper process failed, its job is done in this one: %s", content)
        return None

    def _give_up(self, reason: str) -> None:
        """Ask it no more: what failed now would fail each time."""
        self._unable = True
        self.stop()
        logger.info("no helper process, %s", reason)

    def _start(self) -> tuple[int, int]:
        """Return the conversation with the running helper, starting it if need be.

        Raises:
            OSError: It does not start.
        """
        process = self._process
        if process is None:
            command = [sys.executable, "-c", _BOOTSTRAP, *sys.path]
            process = self._process = subprocess.Popen(  # noqa: S603 - ourselves
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                process_group=0,  # a Ctrl-C at the terminal is for the tree's process
            )
        assert process.stdin is not None
        assert process.stdout is not None
        return process.stdin.fileno(), process.stdout.fileno()

    def rest(self) -> float | None:
        """End the helper if it was idle for long; return when to ask again, None: never."""
        if self._process is None:
            return None
        left = self._used + IDLE_SECONDS - self._store.scheduler.now()
        if left > 0:
            return left
        self.stop()
        return None

    def stop(self) -> None:
        """End the helper, if there is one. It has no job."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        self._reap()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _reap(self) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()

    def abandon(self) -> None:  # pragma: no cover - in a forked child: not measured
        """Forget the parent's helper in a forked child: it goes on, and is not ours to wait for."""
        process, self._process = self._process, None
        self._unable = True
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.returncode = 0

    def _remove(self, paths: list[str]) -> None:
        """Remove what was begun; what cannot be removed the next open removes."""
        for path in paths:
            with contextlib.suppress(OSError):
                os.unlink(path)
