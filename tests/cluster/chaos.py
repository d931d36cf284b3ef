"""``hatch run chaos --minutes N [--seed S]``: three real broker processes under load and faults.

Producers send one record after the other and never send one again; every few seconds a broker is
killed with SIGKILL and started again, stopped with SIGSTOP for a while, or all are restarted in
good order, one after the other. At the end the log is read as a whole: no record acknowledged by
all is lost, none is there twice, and each producer's records keep their order. Ends with 8 if not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field

from streambus_broker.demo.cluster import ClusterProcesses
from streambus_client import Admin, Consumer, Producer
from streambus_client.errors import ClientError

TOPIC = "chaos"
PARTITIONS = 3
PRODUCERS = 3
READ_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Sender:
    """What one producer sent, in order, and what was acknowledged where."""

    number: int
    sent: int = 0
    failed: int = 0
    acknowledged: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def run(self, address: str, stop: threading.Event) -> None:
        """Send until told to stop."""
        partition = self.number % PARTITIONS
        with Producer(address, acks="all", retries_max=0, request_timeout_ms=10_000) as producer:
            while not stop.is_set():
                value = b"%d-%d" % (self.number, self.sent)
                self.sent += 1
                try:
                    done = producer.send(TOPIC, value, partition=partition)
                    self.acknowledged[value] = (done.partition, done.offset)
                except ClientError:
                    self.failed += 1
                    time.sleep(0.02)


def trouble(cluster: ClusterProcesses, dice: random.Random, done: dict[str, int]) -> None:
    """Make one fault, and mend it."""
    node = dice.choice(sorted(cluster.servers))
    kind = dice.choice(("kill", "kill", "stop", "rolling"))
    print(f"{kind} {node if kind != 'rolling' else 'restart'}", file=sys.stderr, flush=True)
    done[kind] = done.get(kind, 0) + 1
    server = cluster.servers[node]
    if kind == "kill":
        server.kill()
        time.sleep(dice.uniform(0, 3))
        server.start()
    elif kind == "stop":
        server.pause()
        time.sleep(dice.uniform(0.2, 6))
        server.resume()
    else:
        for each in cluster.servers.values():
            each.stop()
            each.start()
            cluster.wait_in_sync()


def read_all(address: str) -> list[list[bytes]]:
    """Read the topic from the beginning to its end."""
    logs: list[list[bytes]] = [[] for _ in range(PARTITIONS)]
    with Consumer(address, TOPIC, start="earliest") as consumer:
        total = sum(consumer.latest().values())
        ends_s = time.monotonic() + READ_TIMEOUT_S
        while sum(map(len, logs)) < total and time.monotonic() < ends_s:
            for record in consumer.poll(timeout=2.0):
                logs[record.partition].append(record.value or b"")
    return logs


def problems(senders: list[Sender], logs: list[list[bytes]]) -> list[str]:
    """What was promised and does not hold."""
    found = []
    places: dict[bytes, tuple[int, int]] = {}
    for partition, log in enumerate(logs):
        for offset, value in enumerate(log):
            if value in places:
                found.append(f"{value!r} is at {places[value]} and {(partition, offset)}")
            places[value] = (partition, offset)
    for sender in senders:
        for value, place in sender.acknowledged.items():
            if places.get(value) != place:
                found.append(f"{value!r} was acknowledged at {place}, it is at {places.get(value)}")
        numbers = [
            int(value.split(b"-")[1])
            for log in logs
            for value in log
            if value.startswith(b"%d-" % sender.number)
        ]
        if numbers != sorted(numbers):
            found.append(f"records of producer {sender.number} changed their order")
    return found


def main(arguments: list[str]) -> int:
    """Run; 0 if everything held, 8 if not."""
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr)
    dice, faults = random.Random(seed), dict[str, int]()
    with tempfile.TemporaryDirectory(prefix="streambus-chaos-") as directory:
        cluster = ClusterProcesses(directory, 3, TOPIC)
        cluster.start()
        stop = threading.Event()
        senders = [Sender(number) for number in range(PRODUCERS)]
        threads = [threading.Thread(target=s.run, args=(cluster.address, stop)) for s in senders]
        try:
            with Admin(cluster.address) as admin:
                admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
            for thread in threads:
                thread.start()
            began_s = time.monotonic()
            while time.monotonic() - began_s < options.minutes * 60:
                time.sleep(dice.uniform(1, 5))
                trouble(cluster, dice, faults)
            stop.set()
            for thread in threads:
                thread.join()
            took_s = time.monotonic() - began_s
            cluster.wait_in_sync()
            logs = read_all(cluster.address)
        finally:
            stop.set()
            cluster.stop()
    found = problems(senders, logs)
    acknowledged = sum(len(sender.acknowledged) for sender in senders)
    failed = sum(sender.failed for sender in senders)
    print(
        f"{took_s:.0f} s, faults {faults}, {acknowledged} acknowledged"
        f" ({acknowledged / took_s:.0f}/s), {failed} not; {len(found)} problems"
    )
    for problem in found[:20]:
        print(problem)
    return 8 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
