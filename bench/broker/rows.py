"""The measurements: each starts a broker process of its own, and stops it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from bench.report import Row, Sample, at_most, compare, interleave, percentile
from streambus_broker.log.keys import KEY, STAMPED_TOTALS, TOTALS_BYTES, batch_key, partition_of
from streambus_client import Admin, Consumer, Producer
from streambus_protocol import HandshakeRequest, encode_frame, encode_message
from streambus_storage import LSMTree, Options

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = PARTITIONS = 1_000
_SETTLE_S = 2.0
_FILLED_PARTITIONS = 100
_LISTENING = "listening on "


class BrokerProcess:
    """One ``python -m streambus_broker`` (or another module) on a directory."""

    def __init__(
        self, directory: str, *flags: str, module: str = "streambus_broker", data: bool = True
    ) -> None:
        command = [sys.executable, "-m", module]
        command += ["--data-dir", directory, "--listen", "127.0.0.1:0"] if data else [directory]
        self.popen = subprocess.Popen(
            [*command, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line.startswith(_LISTENING):
            raise RuntimeError("the broker did not start")
        self.address = line.removeprefix(_LISTENING).strip()

    def memory_mb(self) -> float:
        """Resident memory now."""
        with open(f"/proc/{self.popen.pid}/status", encoding="ascii") as status:
            [line] = [line for line in status if line.startswith("VmRSS:")]
        return int(line.split()[1]) / 1024

    def stop(self) -> str:
        """End it; what it still printed."""
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        assert self.popen.stdout is not None
        if not self._is_probe():
            self.popen.terminate()
        rest = self.popen.stdout.read()
        self.popen.wait(60)
        self.popen.stdout.close()
        return rest

    def _is_probe(self) -> bool:
        return isinstance(self.popen.args, list) and "bench.broker.probe" in self.popen.args


@contextlib.contextmanager
def running(*flags: str, directory: str | None = None) -> Iterator[BrokerProcess]:
    """Run a broker with every part that it has by default, HTTP included."""
    with tempfile.TemporaryDirectory(prefix="streambus-bench-") as temporary:
        broker = BrokerProcess(directory or temporary, "--http", "127.0.0.1:0", *flags)
        try:
            yield broker
        finally:
            broker.stop()


def memory(repeats: int) -> list[Row]:
    """Measure resident memory: idle, and with many connections and partitions."""
    idle, full = [], []
    for _ in range(repeats):
        with running() as broker:
            time.sleep(_SETTLE_S)
            idle.append(broker.memory_mb())
        with running(
            f"--connections-per-address-max={2 * CONNECTIONS}",
            f"--connections-new-per-address-per-s-max={10 * CONNECTIONS}",
        ) as broker:
            full.append(_full_memory(broker))
    rows = []
    for what, values, limit in (
        ("memory, idle", idle, 60),
        (f"memory, {CONNECTIONS:,} connections and {PARTITIONS:,} partitions", full, 100),
    ):
        sample = Sample(tuple(values))
        row = Row(what, sample.median, "MiB", target=at_most(limit), sample=sample)
        rows.append(row)
    return rows


def _full_memory(broker: BrokerProcess) -> float:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * CONNECTIONS)), hard))
    with Admin(broker.address) as admin:
        admin.create_topic("many", partitions=PARTITIONS)
    with Producer(broker.address, acks=1) as producer:
        for partition in range(PARTITIONS):
            producer.submit("many", b"x" * 100, partition=partition)
    host, _, port = broker.address.rpartition(":")
    hello = encode_message(HandshakeRequest("bench", "0", None), 0)
    connections = []
    for number in range(CONNECTIONS):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(encode_frame(0, 0, 0, number, hello))
        if not connection.recv(4096):
            raise RuntimeError("the broker closed a connection")
        connections.append(connection)
    time.sleep(_SETTLE_S)
    found = broker.memory_mb()
    for connection in connections:
        connection.close()
    return found


def start(repeats: int, gigabytes: float) -> list[Row]:
    """Measure from exec to the first acknowledged record, beside an empty interpreter."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="streambus-bench-") as directory:
        if gigabytes:
            _fill(directory, gigabytes)
            _check_filled(directory)
        cases: list[tuple[str, str | None, float]] = [("empty", None, 0.5)]
        if gigabytes:
            cases.append((f"{gigabytes:g} GB on disk", directory, 1.0))
        for what, data, limit in cases:
            samples = interleave(
                {"broker": lambda data=data: _start_s(data), "python -c pass": _pass_s},  # type: ignore[misc]  # bound at once
                repeats=repeats,
            )
            what = f"start: exec to first acknowledged record, {what}"
            rows.append(
                compare(what, samples, "s", ours="broker", baseline="python -c pass",
                        target=at_most(limit))
            )  # fmt: skip
    return rows


def _start_s(directory: str | None) -> float:
    began_s = time.perf_counter()
    with running(directory=directory) as broker:
        with Admin(broker.address) as admin:
            topic = f"t{time.time_ns()}"
            admin.create_topic(topic, partitions=1)
        with Producer(broker.address, acks=1) as producer:
            producer.send(topic, b"x")
            return time.perf_counter() - began_s


def _pass_s() -> float:
    began_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began_s


def _fill(directory: str, gigabytes: float) -> None:
    """Leave so much in 100 partitions: a batch in each by a broker, and copies of it in bulk.

    The copies go straight into the data tree's tables, with offsets and totals as the broker
    gives them: through a producer, ten gigabytes would take many minutes.
    """
    with running(directory=directory) as broker:
        with Admin(broker.address) as admin:
            admin.create_topic("large", partitions=_FILLED_PARTITIONS)
        with Producer(broker.address, acks="all") as producer:
            value = random.Random(1).randbytes(100_000)
            for partition in range(_FILLED_PARTITIONS):
                producer.send("large", value, partition=partition)
    options = Options(key_partitioner=partition_of, filter_bits_per_key=0)
    with LSMTree.open(os.path.join(directory, "data"), options) as tree:
        firsts = [
            (key, value) for key, value in tree.scan(batch_key(1, 0)) if KEY.unpack(key)[1] == 0
        ]
        assert len(firsts) == _FILLED_PARTITIONS, len(firsts)
        copies = int(gigabytes * 1e9 / sum(len(value) for _, value in firsts))
        tree.ingest(
            (batch_key(KEY.unpack(key)[0], number), _copy_of(value, number))
            for key, value in firsts
            for number in range(copies)
        )


def _check_filled(directory: str) -> None:
    """A broker must take the copies for its own: read the last of them."""
    with running(directory=directory) as broker:
        with Admin(broker.address) as admin:
            latest = [partition.latest for partition in admin.describe_topic("large").partitions]
        assert len(set(latest)) == 1, latest
        with Consumer(broker.address, start=latest[0] - 1) as consumer:
            consumer.assign([("large", 0)])
            records = consumer.poll(max_records=1, timeout=30)
        assert [record.offset for record in records] == [latest[0] - 1]


def _copy_of(stored: bytes, number: int) -> bytes:
    """A stored batch of one record as the one with that offset: its checksum covers neither."""
    _, newest_ms, _, epoch = STAMPED_TOTALS.unpack_from(stored)
    position = number * (len(stored) - TOTALS_BYTES)
    return STAMPED_TOTALS.pack(position, newest_ms, number, epoch) + stored[STAMPED_TOTALS.size :]


def pauses(seconds: float) -> list[Row]:
    """Produce at full rate; measure how late the loop is, and how long the collector takes.

    Beside it runs a loop with nothing to do, in a process of its own: what it is late by is the
    machine's doing (the producer, the broker's other threads and the neighbours share its cores).
    """
    with tempfile.TemporaryDirectory(prefix="streambus-bench-") as directory:
        probe = BrokerProcess(directory, module="bench.broker.probe", data=False)
        try:
            with Admin(probe.address) as admin:
                admin.create_topic("t", partitions=4, config={"retention_bytes": "100MB"})
            idle = BrokerProcess("--idle", module="bench.broker.probe", data=False)
            try:
                records = _produce(probe.address, seconds)
            finally:
                beside = json.loads(idle.stop())["late_ms"]
        finally:
            printed = probe.stop()
    result = json.loads(printed)
    late, collector = result["late_ms"], result["pauses_ms"] or [0.0]
    if not result["flushes"]:
        raise RuntimeError("nothing was flushed: produce for longer")
    worked = result["worked_late_ms"]
    own = (
        f"with the loop at work: p99.9 {percentile(worked, 0.999):.2f}, largest"
        f" {max(worked):.2f} ms; the rest is other threads and programs"
    )
    work = f"{result['flushes']} flushes, {result['merges']} merges, {result['moves']} moves"
    note = f"{records / seconds:,.0f} records/s of 100 bytes, {work}"
    name = "idle loop beside"
    return [
        Row("loop stall while producing at full rate, p99.9", percentile(late, 0.999), "ms",
            name, percentile(beside, 0.999), target=at_most(2), note=note),
        Row("the same, largest", max(late), "ms", name, max(beside), target=at_most(10), note=own),
        Row("garbage collector pause, largest", max(collector), "ms", target=at_most(1),
            note=f"{len(result['pauses_ms'])} collections"),
    ]  # fmt: skip


def _produce(address: str, seconds: float) -> int:
    values = [b"x" * 100] * 4_000
    records = 0
    end_s = time.perf_counter() + seconds
    with Producer(address, acks=1) as producer:
        while time.perf_counter() < end_s:
            for partition in range(4):
                producer.submit_many("t", values, partition=partition)
                records += len(values)
    return records
