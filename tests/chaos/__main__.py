"""``hatch run chaos --minutes N [--seed S] [--faults A,B]``: real processes, real faults.

Three broker processes, each in a network namespace of its own and with a small disk of its own
where that can be had (Linux, root), under load from idempotent producers and a reader. Every
``--every`` seconds one fault, drawn from the seed; after each, records have to flow again within
10 s where the network failed and 30 s elsewhere, and all replicas to be in sync within a minute.
At the end the log is read as a whole and compared with all that was acknowledged and read. Ends
with 8 if anything does not hold; the brokers' logs and what the load was told are kept then.

SIGINT or SIGTERM ends the run early: the fault that lasts is mended, and what there is is judged
and reported as ever. A second one ends it at once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streambus_broker.demo.cluster import ClusterProcesses, local_addresses
from streambus_broker.demo.server import BrokerDiedError
from streambus_client import Admin
from streambus_client.errors import ClientError
from tests.chaos import disk, network, pinned, tools
from tests.chaos.disk import SmallDisk
from tests.chaos.faults import ALL_FAULTS, NETWORK_FAULTS, Faults
from tests.chaos.load import TOPIC, Load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BROKERS = 3
PARTITIONS = 3
PORT = 9092
HEALED_S_MAX, RESTARTED_S_MAX, IN_SYNC_S_MAX = 10.0, 30.0, 60.0
RATE_HELD = 1_000
COPIED_RECORDS_PER_S = 20_000
"""Of a log in small batches, to a broker that was rebuilt, on a busy machine."""
DISK_BYTES, DISK_BYTES_PER_MINUTE = 512 * 1024 * 1024, 32 * 1024 * 1024
_FLAGS = ("--retention-check-ms", "1000", "--memtable-bytes", "1MiB")
"""Retention and flushes often, so that clocks and failing calls have something to spoil."""
_METRIC = "streambus_follower_reads_total "
_LOOK_S = 2.0
_SAME_SIGNAL_S = 2.0
"""A terminal tells every process of a group, and whoever started this one may tell it as well."""


class Run:
    """One run of the command; what it found fills while it goes.

    Attributes:
        problems: What did not hold.
        times: Kind of fault → for each: seconds from its end until records flowed, until all
            replicas were in sync, and the longest that a producer waited in between.
        seconds: Records acknowledged in each second.
        load: The load, once it has begun.
        interrupted: Whether it was told to end early.
    """

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.problems: list[str] = []
        self.times: dict[str, list[tuple[float, float, float]]] = {}
        self.counts: Counter[str] = Counter()
        self.seconds: list[int] = []
        self.load: Load | None = None
        self.interrupted = False
        self._stop_asked_s = 0.0
        self._followers_served: Counter[int] = Counter()
        self._options = options
        self._dice = random.Random(options.seed)
        self._disks: dict[int, SmallDisk] = {}
        nodes = range(1, BROKERS + 1)
        prefixes: dict[int, tuple[str, ...]] = dict.fromkeys(nodes, ())
        if shutil.which("setpriv"):  # whatever ends this command, no broker is left
            prefixes = dict.fromkeys(nodes, ("setpriv", "--pdeathsig", "KILL"))
        clocks = {}
        if "clock" in options.faults and tools.faketime_library():
            clocks = {node: tools.WallClock(directory / f"clock-{node}") for node in nodes}
        for node, clock in clocks.items():
            prefixes[node] += clock.prefix()
        net = None if network.missing() else network.Network(nodes)
        addresses, flags = local_addresses(BROKERS), list(_FLAGS)
        http = local_addresses(BROKERS)
        if net is not None:
            addresses = [f"{net.host(node)}:{PORT}" for node in nodes]
            http = [f"{net.host(node)}:{PORT + 1}" for node in nodes]
            flags.append("--insecure")
            prefixes = {node: (*net.prefix(node), *prefixes[node]) for node in nodes}
        self._http = dict(zip(nodes, http, strict=True))
        own = {node: ("--rack", rack_of(node), "--http", self._http[node]) for node in nodes}
        self.cluster = ClusterProcesses(
            str(directory), addresses, TOPIC, flags=flags, own_flags=own, prefixes=prefixes
        )
        if not disk.missing():
            size = DISK_BYTES + int(options.minutes * DISK_BYTES_PER_MINUTE)
            self._disks = {n: SmallDisk(directory / str(n) / "data", size) for n in nodes}
        self.faults = Faults(
            self.cluster, directory, self._dice, net, self._disks, clocks, options.pause_max,
            options.patience,
        )  # fmt: skip

    @property
    def follower_reads(self) -> int:
        """Answers with records that brokers gave as followers."""
        return self._followers_served.total()

    def stop(self, *_: object) -> None:
        """Have the run end early; a second time, at once."""
        now_s = time.monotonic()
        if self.interrupted and now_s - self._stop_asked_s > _SAME_SIGNAL_S:
            raise KeyboardInterrupt
        self._stop_asked_s = now_s if not self.interrupted else self._stop_asked_s
        self.interrupted = self.faults.stopping = True

    def run(self) -> None:
        """Form the cluster, make faults for the time given, judge."""
        options = self._options
        kinds = [kind for kind in self.faults.kinds() if kind in options.faults]
        if not kinds:
            raise SystemExit("none of the faults asked for can be made here")
        self.cluster.start()
        with Admin(self.cluster.address) as admin:
            admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=BROKERS)
            admin.create_topic(pinned.TOPIC, partitions=1, replication_factor=BROKERS)
        racks = tuple(map(rack_of, range(1, BROKERS + 1)))
        self.load = load = Load(self.cluster.address, PARTITIONS, options.rate, racks)
        threading.excepthook = self._thread_failed
        counted = threading.Event()
        counters = [
            threading.Thread(target=self._count, args=(load, counted)),
            threading.Thread(target=self._watch_followers, args=(counted,)),
        ]
        load.start()
        for counter in counters:
            counter.start()
        try:
            ends_s = time.monotonic() + options.minutes * 60
            while time.monotonic() < ends_s and not (self.problems or self.interrupted):
                pause_s = self._dice.uniform(0.5, 1.5) * options.every
                self._rest(pause_s)
                if not self.interrupted:
                    self._try_fault(load, self._dice.choice(kinds))
                self.problems += self.faults.problems
                self.faults.problems.clear()
                self._note_progress()
        finally:
            counted.set()
            load.stop()
            for counter in counters:
                counter.join()
        # Whatever one of these meets, the others judge, and all of it is reported.
        judges: tuple[Callable[[], list[str]], ...] = (
            lambda: self._wait_whole("at the end"),
            load.problems,
            lambda: self.faults.promises.judge(self.cluster.address),
        )
        for judge in judges:
            try:
                self.problems += judge()
            except (BrokerDiedError, ClientError, OSError) as error:
                self.problems.append(f"it could not be judged as a whole: {error}")

    def _rest(self, seconds: float) -> None:
        ends_s = time.monotonic() + seconds
        while not self.interrupted and (left_s := ends_s - time.monotonic()) > 0:
            time.sleep(min(left_s, 0.1))

    def _note_progress(self) -> None:
        """Leave something even if this process is killed."""
        if self._options.json is not None:
            told = summary(self._options, self, len(self.seconds))
            self._options.json.write_text(json.dumps({**told, "judged": False}, indent=1))

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """A part of the load that ended is a problem, whatever it was."""
        text = "".join(traceback.format_exception(failure.exc_value))
        self.problems.append(f"a thread of the load failed: {text}")

    def _count(self, load: Load, stop: threading.Event) -> None:
        """Count what is acknowledged, second by second."""
        before = 0
        while not stop.wait(1.0):
            now = load.acknowledged
            self.seconds.append(now - before)
            before = now

    def _watch_followers(self, stop: threading.Event) -> None:
        """Count what brokers answer as followers; what a dying one counted last is missed."""
        known: dict[int, int] = {}
        while not stop.wait(_LOOK_S):
            for node, address in self._http.items():
                try:
                    with urllib.request.urlopen(f"http://{address}/metrics", timeout=1) as page:
                        text = page.read().decode()
                except OSError:
                    continue
                line = next(each for each in text.splitlines() if each.startswith(_METRIC))
                now = int(float(line.removeprefix(_METRIC)))
                before = known.get(node, 0)
                known[node] = now
                self._followers_served[node] += now - before if now >= before else now

    def _try_fault(self, load: Load, kind: str) -> None:
        """Where it cannot be made or mended the run ends, and what was promised is judged."""
        try:
            self._fault(load, kind)
        except (BrokerDiedError, ClientError, OSError, subprocess.SubprocessError) as error:
            self.problems.append(f"{kind} could not be made or mended: {error}")

    def _fault(self, load: Load, kind: str) -> None:
        self.counts[kind] += 1
        self.faults.mend_ended()
        load.listen()
        said = self.faults.make(kind)
        ended_s = time.monotonic()
        limit_s = HEALED_S_MAX if kind in NETWORK_FAULTS else RESTARTED_S_MAX
        limit_s *= self._options.patience
        flows_s = load.wait_flowing(limit_s)
        if flows_s is None:
            self.problems.append(f"{said}: nothing flows {limit_s:g} s after it was mended")
        problems = self._wait_whole(said)
        whole_s = time.monotonic() - ended_s
        silence_s = load.silence_s
        if flows_s is not None:
            self.times.setdefault(kind, []).append((flows_s, whole_s, silence_s))
        self.problems += problems
        after = "never" if flows_s is None else f"after {flows_s:.2f} s"
        print(
            f"{time.strftime('%H:%M:%S')} {said}; flows {after}, in sync after {whole_s:.2f} s,"
            f" longest silence {silence_s:.2f} s",
            file=sys.stderr,
            flush=True,
        )

    def _wait_whole(self, said: str) -> list[str]:
        """Wait until all replicas are in sync; rebuild what has to be rebuilt."""
        limit_s = IN_SYNC_S_MAX * self._options.patience
        if self.load is not None:  # whoever was rebuilt copies everything
            copies_s = self.load.acknowledged / COPIED_RECORDS_PER_S
            limit_s += copies_s * self._options.patience
        ends_s = time.monotonic() + limit_s
        while True:
            for more in self.faults.mend_ended():
                said = f"{said}; {more}"
                print(more, file=sys.stderr, flush=True)
            with suppress(BrokerDiedError, ClientError):
                self.cluster.wait_in_sync(timeout_s=2.0)
                return []
            if time.monotonic() > ends_s:
                return [f"{said}: not all replicas in sync after {limit_s:g} s"]

    def close(self) -> None:
        """End everything."""
        for server in self.cluster.servers.values():
            server.resume_and_stop()
        for each in self._disks.values():
            each.close()


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two faults")
    parser.add_argument("--rate", type=float, default=2000.0, help="records a second, at most")
    parser.add_argument(
        "--patience", type=float, default=1.0, help="times the limits, on a busy machine"
    )
    parser.add_argument("--pause-max", type=float, default=15.0, help="seconds of the longest")
    parser.add_argument(
        "--faults", default=",".join(ALL_FAULTS), help=f"of {', '.join(ALL_FAULTS)}"
    )
    parser.add_argument("--json", type=Path, default=None, help="where to write the result")
    options = parser.parse_args(arguments)
    options.faults = options.faults.split(",")
    if unknown := set(options.faults) - set(ALL_FAULTS):
        known = ", ".join(ALL_FAULTS)
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {known}")
    if options.seed is None:
        options.seed = random.SystemRandom().getrandbits(32)
    return options


def main(arguments: list[str]) -> int:
    """Run; 0 if everything held, 8 if not."""
    options = parse(arguments)
    if not network.missing():
        code = network.enter([*arguments, "--seed", str(options.seed)])
        if code is not None:
            return code
    early = f"`kill {os.getpid()}` ends it early, and judges it"
    print(f"seed {options.seed}; {early}", file=sys.stderr, flush=True)
    for what, reason in (
        ("links", network.missing()),
        ("disks and power", disk.missing()),
        ("system calls", tools.no_strace()),
        ("clocks", "" if tools.faketime_library() else "it needs libfaketime"),
    ):
        if reason:
            print(f"no faults of {what}: {reason}", file=sys.stderr)
    directory = Path(tempfile.mkdtemp(prefix="streambus-chaos-"))
    began_s = time.monotonic()
    run = Run(options, directory)
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, run.stop)
    try:
        run.run()
    finally:
        run.close()
    report(options, run, time.monotonic() - began_s)
    if run.problems:
        for sender in run.load.senders if run.load else ():
            with (directory / f"offsets-{sender.number}.bin").open("wb") as file:
                sender.offsets.tofile(file)
        print(f"the brokers' logs and the offsets acknowledged are in {directory}")
        return 8
    shutil.rmtree(directory)
    return 0


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Median, 90th percentile and the largest."""
    ranked = sorted(values)
    return {
        "p50": round(ranked[len(ranked) // 2], 2),
        "p90": round(ranked[int(len(ranked) * 0.9)], 2),
        "max": round(ranked[-1], 2),
    }


def rack_of(node: int) -> str:
    """Where a broker stands: each by itself."""
    return f"r{node}"


def summary(options: argparse.Namespace, run: Run, took_s: float) -> dict[str, Any]:
    """What happened, for JSON."""
    load, promises = run.load, run.faults.promises
    failed = sum(sender.failed for sender in load.senders) if load else 0
    rate = sum(run.seconds) / max(1, len(run.seconds))
    return {
        "seed": options.seed, "seconds": round(took_s, 1), "interrupted": run.interrupted,
        "judged": True, "under_load_s": len(run.seconds),
        "acknowledged": load.acknowledged if load else 0, "not_acknowledged": failed,
        "acknowledged_per_s": round(rate),
        "seconds_without": sum(count == 0 for count in run.seconds),
        "follower_reads": run.follower_reads, "handed_over": run.faults.handed_over,
        "rebuilt": run.faults.refused, "calls_failed": run.faults.io_errors,
        "leaders_deposed": promises.deposed, "promises_kept": len(promises.kept),
        "refusals": promises.refusals, "faults": dict(run.counts),
        "recoveries": {
            kind: {
                name: _spread([each[place] for each in times])
                for place, name in enumerate(("flows_s", "in_sync_s", "silence_s"))
            }
            for kind, times in sorted(run.times.items())
        },
        "problems": run.problems,
    }  # fmt: skip


def report(options: argparse.Namespace, run: Run, took_s: float) -> None:
    """Print what happened; write it as JSON if wanted."""
    result = summary(options, run, took_s)
    early = ", interrupted" if run.interrupted else ""
    print(
        f"{took_s:.0f} s{early}, {sum(run.counts.values())} faults, {result['acknowledged']}"
        f" records acknowledged ({result['acknowledged_per_s']}/s under load, {RATE_HELD} wanted;"
        f" {result['seconds_without']} of {result['under_load_s']} s without any),"
        f" {result['not_acknowledged']} not, {run.follower_reads} reads from followers,"
        f" {run.faults.handed_over} brokers without room led no more,"
        f" {run.faults.refused} brokers rebuilt after damage, {run.faults.io_errors} calls failed,"
        f" {run.faults.promises.deposed} leaders deposed under a client;"
        f" {len(run.problems)} problems"
    )
    for kind, spreads in result["recoveries"].items():
        told = "; ".join(
            f"{name.removesuffix('_s').replace('_', ' ')} {spread['p50']:.2f} / {spread['p90']:.2f}"
            f" / {spread['max']:.2f} s"
            for name, spread in spreads.items()
        )
        print(f"  {kind:10} {run.counts[kind]:4} x, p50 / p90 / max: {told}")
    for problem in run.problems[:20]:
        print(problem)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
