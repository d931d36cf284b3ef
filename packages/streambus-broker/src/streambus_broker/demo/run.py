"""The course of the demo: start, create, stream, kill, start again, finish, compare."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streambus_broker.demo.cluster import ClusterProcesses, local_addresses
from streambus_broker.demo.pump import Pump
from streambus_broker.demo.report import Report
from streambus_broker.demo.server import ServerProcess
from streambus_broker.demo.sources import Source, chunks, find_sources
from streambus_client import Admin, Consumer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.progress import TaskID

TOPIC = "demo"
PARTITIONS = 4
_SINGLE_SENDS_MAX = 500
_LINES_PER_SUBMIT = 2_000
_READER_TIMEOUT_S = 120.0


class Reader:
    """The second process, and a thread here that follows its progress."""

    def __init__(self, topic: str, progress: Progress, bar: TaskID) -> None:
        self.result: dict[str, Any] = {}
        self._topic = topic
        self._progress, self._bar = progress, bar
        self._ready = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._follower = threading.Thread(target=self._follow, daemon=True)

    def start(self, address: str) -> None:
        """Start it and wait until it is connected, so that it sees the broker die and return."""
        command = [sys.executable, "-m", "streambus_broker.demo.reader", address, self._topic]
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._follower.start()
        self._ready.wait(_READER_TIMEOUT_S)

    def finish(self, total: int) -> None:
        """Tell how many records there are and wait for the result."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{total}\n")
        self._process.stdin.flush()
        self._follower.join(_READER_TIMEOUT_S)

    def close(self) -> None:
        """End the process, if it has not ended."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._follower.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _follow(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._ready.set()
            if line.startswith("{"):
                self.result = json.loads(line)
                self._progress.update(self._bar, completed=self.result["records"])
            else:
                self._progress.update(self._bar, completed=int(line))


class Demo:
    """One run; `report` fills while it goes."""

    def __init__(
        self, sources: Sequence[Source], directory: str, progress: Progress, brokers: int = 1
    ) -> None:
        self.report = Report(files=len(sources), brokers=brokers)
        self._sources = sources
        self._progress = progress
        self._server: ServerProcess | ClusterProcesses
        if brokers == 1:
            self._server = ServerProcess(directory)
        else:
            self._server = ClusterProcesses(directory, local_addresses(brokers), TOPIC)
        self._digests = {source.key: hashlib.sha256() for source in sources}
        self._total_bytes = sum(source.size_bytes for source in sources)
        self._killed = False
        self._first_acknowledged: Callable[[], None]

    def run(self) -> None:
        """Run it.

        Raises:
            BrokerDiedError: The broker ended although nobody killed it.
            ClientError: A request failed that should not have.
        """
        sent_bar = self._progress.add_task("sent", total=None)
        read_bar = self._progress.add_task("read by the second process", total=None)
        server = self._server
        server.start()
        try:
            with Admin(server.address) as admin:
                admin.create_topic(TOPIC, partitions=PARTITIONS)
            with Consumer(server.address, TOPIC, start="latest") as consumer:
                consumer.latest()  # every leader has heard of the topic when it has answered
            pump = Pump(server.address, TOPIC)
            reader = Reader(TOPIC, self._progress, read_bar)
            self._first_acknowledged = lambda: reader.start(server.address)
            try:
                self._stream(pump, sent_bar)
                self._progress.update(read_bar, total=pump.records)
                reader.finish(pump.records)
                if isinstance(server, ClusterProcesses):
                    self.report.check(
                        f"broker {server.killed_node} came back and is in sync",
                        holds=server.bring_back(),
                        problem="it did not",
                    )
                self.report.memory_bytes = server.memory_bytes()
                server.check()
            finally:
                pump.close()
                reader.close()
            self._compare(pump, reader.result)
        finally:
            server.stop()

    def _stream(self, pump: Pump, bar: TaskID) -> None:
        report = self.report
        began_s = 0.0
        for number, source in enumerate(self._sources):
            partition = number % PARTITIONS
            for lines in chunks(source):
                self._digests[source.key].update(b"".join(lines))
                rest = self._send_singly(pump, partition, source.key, lines)
                began_s = began_s or time.perf_counter()
                for start in range(0, len(rest), _LINES_PER_SUBMIT):
                    pump.send_many(partition, source.key, rest[start : start + _LINES_PER_SUBMIT])
                    self._progress.update(bar, completed=pump.records)
                    if not self._killed and self._sent_share(pump) >= 0.5:
                        report.produce_s += time.perf_counter() - began_s
                        self._kill(pump)
                        began_s = time.perf_counter()
        if not self._killed:  # so little input that no batch was sent
            self._kill(pump)
            began_s = time.perf_counter()
        pump.finish()
        report.produce_s += time.perf_counter() - began_s
        report.records, report.sent_bytes = pump.records, pump.bytes_sent
        report.latencies_s = pump.latencies_s
        self._progress.update(bar, completed=pump.records, total=pump.records)

    def _send_singly(
        self, pump: Pump, partition: int, key: bytes, lines: list[bytes]
    ) -> list[bytes]:
        """Send the first lines of all one by one, for their latency; return the others."""
        alone = 0
        for line in lines:
            enough = len(pump.latencies_s) >= _SINGLE_SENDS_MAX
            if self._killed or (pump.records and (enough or self._sent_share(pump) > 0.25)):
                break
            alone += 1
            pump.send_one(partition, key, line)
            if not self.report.cold_start_s:
                self.report.cold_start_s = time.monotonic() - self._server.started_s
                self._first_acknowledged()
        return lines[alone:]

    def _sent_share(self, pump: Pump) -> float:
        return pump.bytes_sent / self._total_bytes

    def _kill(self, pump: Pump) -> None:
        """SIGKILL with records under way; start again or fail over; wait for their answers."""
        self._killed = True
        self._server.kill()
        self.report.unanswered = pump.unanswered()
        self._server.start()
        pump.finish()
        self.report.recovery_s = time.monotonic() - self._server.started_s

    def _compare(self, pump: Pump, result: dict[str, Any]) -> None:
        report = self.report
        if not result:
            report.check("the second process finished", holds=False, problem="it did not")
            return
        report.consume_s = result["again_s"]
        read, sent = result["records"], pump.records
        report.check("nothing lost", holds=read >= sent, problem=f"{sent - read:,} records missing")
        report.check("nothing doubled", holds=read <= sent, problem=f"{read - sent:,} too many")
        report.check(
            "offsets without gaps", holds=not result["gaps"], problem=f"{result['gaps']} gaps"
        )
        expected = {
            source.key.hex(): self._digests[source.key].hexdigest()
            for source in self._sources
            if source.size_bytes
        }
        wrong = [key for key in expected if result["digests"].get(key) != expected[key]]
        strange = result["digests"].keys() - expected.keys()
        named = ", ".join(bytes.fromhex(key).decode(errors="replace") for key in wrong[:3])
        report.check(
            "byte for byte the same, in order for each key",
            holds=not wrong and not strange,
            problem=f"{len(wrong)} keys differ ({named}), {len(strange)} are strange",
        )
        report.check("killed with SIGKILL and recovered", holds=self._killed, problem="no")


def run_demo(files: Sequence[str], brokers: int = 1) -> bool:
    """Run the demo and print its table; True if everything held.

    Args:
        files: What to stream.
        brokers: 1, or 3 and more for a cluster whose leader is killed.

    Raises:
        OSError: A file cannot be read.
        ValueError: There is nothing to send.
    """
    messages = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="streambus-demo-") as directory:
        sources = find_sources(files, sys.stdin.buffer, directory)
        if not any(source.size_bytes for source in sources):
            raise ValueError("there is nothing to send: every input is empty")
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=messages,
            transient=True,
            disable=not messages.is_terminal,
        )
        with progress:
            demo = Demo(sources, directory, progress, brokers)
            demo.run()
    Console().print(demo.report.table())
    return demo.report.held
