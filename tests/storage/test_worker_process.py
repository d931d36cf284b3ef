"""Flush and compaction by helper processes: the same tables, and a worker that takes over."""

from __future__ import annotations

import errno
import importlib
import io
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from streambus_storage import (
    DiskFullError,
    LSMTree,
    Options,
    _jobs,
    _worker_process,
    _worker_process_main,
)
from streambus_storage._pacer import Cancelled
from tests.storage.scenarios.disk import new_world, open_tree

if TYPE_CHECKING:
    from pathlib import Path

    from streambus_storage import KeyPartitioner
    from streambus_storage._worker_process import Helper

COUNT = 1_500


def partition_of(key: bytes) -> bytes:
    """A partitioner that another process can import."""
    return key[:1]


@pytest.fixture(autouse=True)
def _every_job_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_worker_process, "LEAST_ENTRIES", 100)


def helpers(tree: LSMTree) -> list[Helper]:
    return [tree._flusher._helper, tree._compactor._helper]


def running(tree: LSMTree) -> list[subprocess.Popen[bytes]]:
    return [process for each in helpers(tree) if (process := each._process) is not None]


def write_everything(tree: LSMTree, seed: int = 1) -> dict[bytes, bytes]:
    """Puts, deletes, batches, range deletes and large values, flushed and compacted."""
    source = random.Random(seed)
    expected: dict[bytes, bytes] = {}
    for run in range(3):
        for number in range(COUNT // 3):
            key = b"%d%05d" % (source.randrange(3), source.randrange(COUNT))
            if number % 7 == 0:
                expected.pop(key, None)
                tree.delete(key)
            else:
                value = b"%d" % run * (1_000 if number % 11 == 0 else 10)
                expected[key] = value
                tree.put(key, value)
        with tree.batch() as batch:
            batch.delete_range(b"1%05d" % (run * 100), b"1%05d" % (run * 100 + 50))
            for number in range(200):
                batch.put(b"batch%03d" % number, b"%d" % run)
        low, high = b"1%05d" % (run * 100), b"1%05d" % (run * 100 + 50)
        expected = {key: value for key, value in expected.items() if not low <= key < high}
        expected.update({b"batch%03d" % number: b"%d" % run for number in range(200)})
        tree.flush()
    tree.compact()
    return expected


@pytest.mark.parametrize("partitioner", [None, partition_of])
def test_helper_writes_the_tables_that_a_thread_would_write(
    tmp_path: Path, partitioner: KeyPartitioner | None
) -> None:
    found = []
    for helper_processes in (True, False):
        path = str(tmp_path / str(helper_processes))
        options = Options(
            helper_processes=helper_processes,
            key_partitioner=partitioner,
            raw_value_bytes=500,
            partition_bytes=1_000,
        )
        with LSMTree.open(path, options) as tree:
            expected = write_everything(tree)
            # Two as a rule; one where merges came so soon that each was too small for a helper.
            assert len(running(tree)) in ((1, 2) if helper_processes else (0,))
            assert dict(tree.scan()) == expected
            assert tree.verify()
            version = tree._store.present().tables.version
            found.append([(lv, t.size, t.lower, t.upper) for lv, t in version.tables()])
        assert not running(tree)
    assert found[0] == found[1]


def test_replayed_memtable_is_flushed_by_the_helper(tmp_path: Path) -> None:
    path = str(tmp_path / "tree")
    code = (
        "import os, sys; from streambus_storage import LSMTree\n"
        "tree = LSMTree.open(sys.argv[1])\n"
        "for number in range(1500): tree.put(b'%05d' % number, b'v')\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)
    with LSMTree.open(path) as tree:
        tree.flush()
        assert running(tree)
        assert len(list(tree.scan())) == 1500


def test_helper_that_is_killed_is_replaced_by_the_thread(tmp_path: Path) -> None:
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        for number in range(COUNT):
            tree.put(b"%05d" % number, b"v")
        tree.flush()
        [process] = running(tree)
        process.kill()
        process.wait()
        for number in range(COUNT):
            tree.put(b"%05d" % number, b"w")
        tree.flush()
        assert not running(tree)
        assert set(dict(tree.scan()).values()) == {b"w"}
        assert tree.verify()


def test_partitioner_that_cannot_travel_leaves_the_work_to_the_thread(tmp_path: Path) -> None:
    with LSMTree.open(str(tmp_path / "a"), Options(key_partitioner=lambda key: key[:1])) as tree:
        write_everything(tree)
        assert not running(tree)
    with LSMTree.open(str(tmp_path / "b"), Options(key_partitioner=_Stranger())) as tree:
        expected = write_everything(tree)
        assert not running(tree)
        assert dict(tree.scan()) == expected


class _Stranger:
    """A partitioner that can be sent, and not be read."""

    def __call__(self, key: bytes) -> bytes:
        return key[:1]

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _refuse, ("only in this process",)


def _refuse(reason: str) -> None:
    raise ImportError(reason)


def test_partitioner_whose_module_prints_disturbs_no_helper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chatty_partitions.py").write_text(
        "import sys\n"
        "print('loading', flush=True)\n"
        "assert sys.stdin.read() == ''\n"
        "def by_first(key):\n"
        "    print(key)\n"
        "    return key[:1]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    partitioner = importlib.import_module("chatty_partitions").by_first
    options = Options(key_partitioner=partitioner)
    with LSMTree.open(tmp_path / "tree", options) as tree:
        expected = write_everything(tree)
        assert running(tree)
        assert dict(tree.scan()) == expected


def test_what_is_no_message_ends_the_conversation() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"site customized\n")
    with pytest.raises(EOFError, match="b'site'"):
        _worker_process_main.receive(reader)
    os.close(reader)
    os.close(writer)


def test_no_executable_no_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        expected = write_everything(tree)
        assert dict(tree.scan()) == expected
    monkeypatch.setattr(sys, "executable", "")
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        assert not helpers(tree)[0].takes(10**6)


def test_simulated_world_has_no_helper() -> None:
    with open_tree(new_world()) as tree:
        assert not any(helper.takes(10**6) for helper in helpers(tree))


def test_damaged_segment_is_flushed_from_memory(tmp_path: Path) -> None:
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        for number in range(COUNT):
            tree.put(b"%05d" % number, b"v" * 50)
        path = tree._store.target[0].file.path
        with open(path, "r+b") as file:
            file.seek(5_000)
            file.write(b"damage")
        tree.flush()
        assert len(list(tree.scan())) == COUNT
        assert tree.verify()


def test_idle_helper_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_worker_process, "IDLE_SECONDS", 0.05)
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        write_everything(tree)
        ended = threading.Event()
        for _ in range(600):
            if not running(tree):
                break
            ended.wait(0.1)
        assert not running(tree)
        write_everything(tree, 2)


def test_closing_does_not_wait_for_a_helper_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tree"
    with LSMTree.open(str(path)) as tree:
        for number in range(COUNT):
            tree.put(b"%05d" % number, b"v")
        tree.flush()
        [process] = running(tree)
        process.send_signal(signal.SIGSTOP)
        for number in range(COUNT):
            tree.put(b"%05d" % number, b"w")
        store = tree._store
        job = _jobs.FlushJob(str(path), _worker_process.portable(store.options), 1, 0, 1, 1)
        with pytest.raises(Cancelled):
            helpers(tree)[0].run(job, lambda: True)
        assert not running(tree)
        tree.flush()
        [process] = running(tree)
        process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(_worker_process, "_EXIT_SECONDS", 0.1)
    with LSMTree.open(str(path)) as tree:
        assert set(dict(tree.scan()).values()) == {b"w"}


class ThreadInsteadOfProcess:
    """Runs the helper's own code in a thread, where the lines that it reaches are counted."""

    def __init__(self, command: list[str], **settings: object) -> None:
        child_reads, requests = os.pipe()
        answers, child_writes = os.pipe()
        self.stdin, self.stdout = open(requests, "wb", 0), open(answers, "rb", 0)  # noqa: SIM115 - closed by its user

        def run() -> None:
            _worker_process_main.main(child_reads, child_writes)
            os.close(child_reads)
            os.close(child_writes)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def kill(self) -> None:
        self.stdin.close()
        self.stdout.close()


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gc.disable", lambda: None)
    monkeypatch.setattr("os.nice", lambda _: 0)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("subprocess.Popen", ThreadInsteadOfProcess)


def test_everything_by_a_helper_in_a_thread(tmp_path: Path, in_threads: None) -> None:
    options = Options(key_partitioner=partition_of, raw_value_bytes=500, partition_bytes=1000)
    with LSMTree.open(str(tmp_path / "tree"), options) as tree:
        expected = write_everything(tree)
        assert running(tree)
        assert dict(tree.scan()) == expected
        assert tree.verify()


def test_helper_offers_its_core_after_each_slice_and_keeps_to_its_rate(
    tmp_path: Path, in_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    offers = 0

    def count() -> None:
        nonlocal offers
        offers += 1

    monkeypatch.setattr("os.sched_yield", count)
    monkeypatch.setattr(_worker_process_main, "SLICE_SECONDS", 0.0)
    with LSMTree.open(str(tmp_path / "offers")) as tree:
        source = random.Random(1)
        for number in source.sample(range(20 * COUNT), 20 * COUNT):
            tree.put(b"%05d" % number, b"v" * 100)
        tree.flush()
        assert running(tree)
        # Reading the log back and writing the tables: no piece of it has more than 256 entries.
        assert offers > 20 * COUNT / 256
    options = Options(compaction_bytes_per_second=1 << 20, automatic_compaction=False)
    with LSMTree.open(str(tmp_path / "rate"), options) as tree:
        for turn in range(2):
            for number in range(COUNT):
                tree.put(b"%05d" % number, b"%d" % turn * 100)
            tree.flush()
        begin = time.monotonic()
        tree.compact()
        assert len(running(tree)) == 2
        # It writes 1,500 x 105 bytes or more; the last 100 ms need not be waited for.
        assert time.monotonic() - begin > 0.1


def test_helper_offers_its_core_while_it_starts_and_is_left_in_peace_afterwards() -> None:
    program = (
        "import os, signal, sys\n"
        "offers = []\n"
        "os.sched_yield = lambda: offers.append(None)\n"
        f"{_worker_process._BOOTSTRAP}\n"  # ends at once: nobody has a request
        "print(len(offers), signal.getitimer(signal.ITIMER_REAL), file=sys.stderr)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *sys.path],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    offers, timer = ran.stderr.split(maxsplit=1)
    assert int(offers) > 5
    assert timer == "(0.0, 0.0)\n"


def test_helper_says_what_went_wrong(tmp_path: Path, in_threads: None) -> None:
    options = Options(key_partitioner=_Stranger())
    with LSMTree.open(str(tmp_path / "unable"), options) as tree:
        expected = write_everything(tree)
        assert dict(tree.scan()) == expected
    with LSMTree.open(str(tmp_path / "damaged")) as tree:
        for turn in range(2):
            for number in range(COUNT):
                tree.put(b"%05d" % number, b"%d" % turn * 50)
            path = tree._store.target[0].file.path
            with open(path, "r+b") as file:
                file.seek(5_000)
                file.write(b"damage")
            tree.flush()  # the helper fails, and is asked again the next time
            assert running(tree)
        assert len(list(tree.scan())) == COUNT


def test_helper_ends_when_its_tree_goes_in_the_middle(tmp_path: Path, in_threads: None) -> None:
    for after in ("nothing", "request", "number"):
        path = str(tmp_path / after)
        with LSMTree.open(path, Options(helper_processes=False)) as tree:
            for number in range(COUNT):
                tree.put(b"%05d" % number, b"v")
            store = tree._store
            assert store.segment_length(1) is None, "it is still written to"
            length = store.target[0].file.size
            job = _jobs.FlushJob(path, _worker_process.portable(store.options), 1, length, 1, COUNT)
            helper = _worker_process.Helper(store)  # one of the test's own: no worker has it
            requests, answers = helper._start()
            if after != "nothing":
                _worker_process_main.send(requests, pickle.dumps(job))
            if after == "number":
                assert pickle.loads(_worker_process_main.receive(answers)) == ("number", None)
            process = helper._process
            assert process is not None
            process.kill()
            process.wait(30)


def test_helper_is_not_asked_for_a_segment_that_may_still_grow(tmp_path: Path) -> None:
    with LSMTree.open(str(tmp_path / "tree")) as tree:
        for number in range(COUNT):
            tree.put(b"%05d" % number, b"v")
        assert tree._flusher._job(tree._store.present().active) is None
        tree.flush()
        assert len(list(tree.scan())) == COUNT


def test_full_disk_is_told_by_the_helper(
    tmp_path: Path, in_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "there")

    with LSMTree.open(str(tmp_path / "tree")) as tree:
        for number in range(COUNT):
            tree.put(b"%05d" % number, b"v")
        with monkeypatch.context() as patch:
            patch.setattr("streambus_storage._table_builder.TableBuilder.finish", full)
            with pytest.raises(DiskFullError):
                tree.flush()
        tree.flush()
        assert len(list(tree.scan())) == COUNT
