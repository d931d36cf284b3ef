"""``hatch run chaos --minutes N [--seed S] [--faults A,B]``: real processes, real faults.

Three broker processes, each in a network namespace of its own and with a small disk of its own
where that can be had (Linux, root), under load from idempotent producers and a reader. Every
``--every`` seconds one fault, drawn from the seed; after each, records have to flow again within
10 s, and all replicas to be in sync before the next. At the end the log is read as a whole and
compared with all that was acknowledged and read. Ends with 8 if anything does not hold; the
brokers' logs are kept then.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

from streambus_broker.demo.cluster import ClusterProcesses, local_addresses
from streambus_broker.demo.server import BrokerDiedError
from streambus_client import Admin
from tests.chaos import disk, network
from tests.chaos.disk import SmallDisk
from tests.chaos.faults import DISK_FAULTS, NETWORK_FAULTS, PROCESS_FAULTS, Faults
from tests.chaos.load import TOPIC, Load

BROKERS = 3
PARTITIONS = 3
PORT = 9092
HEALED_S_MAX = 10.0
DISK_BYTES = 512 * 1024 * 1024


class Run:
    """One run of the command; `problems` and `recoveries` fill while it goes."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.problems: list[str] = []
        self.recoveries: dict[str, list[float]] = {}
        self.counts: Counter[str] = Counter()
        self._options = options
        self._directory = directory
        self._dice = random.Random(options.seed)
        self._disks: dict[int, SmallDisk] = {}
        nodes = range(1, BROKERS + 1)
        net = None if network.missing() else network.Network(nodes)
        if net is None:
            self.cluster = ClusterProcesses(str(directory), local_addresses(BROKERS), TOPIC)
        else:
            self.cluster = ClusterProcesses(
                str(directory),
                [f"{net.host(node)}:{PORT}" for node in nodes],
                TOPIC,
                flags=("--insecure",),
                prefixes={node: net.prefix(node) for node in nodes},
            )
        if not disk.missing():
            self._disks = {n: SmallDisk(directory / str(n) / "data", DISK_BYTES) for n in nodes}
        self.faults = Faults(
            self.cluster, directory, self._dice, net, self._disks, options.pause_max
        )

    def run(self) -> Load:
        """Form the cluster, make faults for the time given, judge."""
        options = self._options
        kinds = [kind for kind in self.faults.kinds() if kind in options.faults]
        if not kinds:
            raise SystemExit("none of the faults asked for can be made here")
        self.cluster.start()
        with Admin(self.cluster.address) as admin:
            admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
        load = Load(self.cluster.address, PARTITIONS, options.rate)
        load.start()
        try:
            ends_s = time.monotonic() + options.minutes * 60
            while time.monotonic() < ends_s and not self.problems:
                time.sleep(self._dice.uniform(0.5, 1.5) * options.every)
                self._fault(load, self._dice.choice(kinds))
        finally:
            load.stop()
        self.problems += load.problems()
        return load

    def _fault(self, load: Load, kind: str) -> None:
        self.counts[kind] += 1
        said = self.faults.make(kind)
        healed_s = load.wait_flowing(HEALED_S_MAX)
        if healed_s is None:
            self.problems.append(f"{said}: nothing flows {HEALED_S_MAX:g} s after it was mended")
        else:
            self.recoveries.setdefault(kind, []).append(healed_s)
        for more in self.faults.mend_ended():
            said = f"{said}; {more}"
        try:
            self.cluster.wait_in_sync()
        except BrokerDiedError as error:
            self.problems.append(f"{said}: {error}")
        after = "never" if healed_s is None else f"after {healed_s:.2f} s"
        print(f"{time.strftime('%H:%M:%S')} {said}; flows {after}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End everything."""
        for server in self.cluster.servers.values():
            server.resume_and_stop()
        for each in self._disks.values():
            each.close()


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the arguments."""
    known = (*PROCESS_FAULTS, *NETWORK_FAULTS, *DISK_FAULTS)
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two faults")
    parser.add_argument("--rate", type=float, default=1000.0, help="records a second, at most")
    parser.add_argument("--pause-max", type=float, default=15.0, help="seconds of the longest")
    parser.add_argument("--faults", default=",".join(known), help=f"of {', '.join(known)}")
    parser.add_argument("--json", type=Path, default=None, help="where to write the result")
    options = parser.parse_args(arguments)
    options.faults = options.faults.split(",")
    if unknown := set(options.faults) - set(known):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
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
    print(f"seed {options.seed}", file=sys.stderr)
    for what, reason in (("links", network.missing()), ("full disks", disk.missing())):
        if reason:
            print(f"no faults of {what}: {reason}", file=sys.stderr)
    directory = Path(tempfile.mkdtemp(prefix="streambus-chaos-"))
    began_s = time.monotonic()
    run = Run(options, directory)
    try:
        load = run.run()
    finally:
        run.close()
    took_s = time.monotonic() - began_s
    report(options, run, load, took_s)
    if run.problems:
        print(f"the brokers' logs are in {directory}")
        return 8
    shutil.rmtree(directory)
    return 0


def report(options: argparse.Namespace, run: Run, load: Load, took_s: float) -> None:
    """Print what happened; write it as JSON if wanted."""
    failed = sum(sender.failed for sender in load.senders)
    print(
        f"{took_s:.0f} s, {sum(run.counts.values())} faults, {load.acknowledged} records"
        f" acknowledged ({load.acknowledged / took_s:.0f}/s), {failed} not,"
        f" {run.faults.refused} brokers rebuilt after damage; {len(run.problems)} problems"
    )
    for kind, times in sorted(run.recoveries.items()):
        print(
            f"  {kind:10} {run.counts[kind]:4} x, flows again after"
            f" {median(times):.2f} s (median), {max(times):.2f} s (longest)"
        )
    for problem in run.problems[:20]:
        print(problem)
    if options.json is not None:
        result = {
            "seed": options.seed, "seconds": took_s, "acknowledged": load.acknowledged,
            "failed": failed, "rebuilt": run.faults.refused, "faults": run.counts,
            "recoveries_s": run.recoveries, "problems": run.problems,
        }  # fmt: skip
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
