"""The demo's second process: consume everything, and say what came.

    python -m streambus_broker.demo.reader ADDRESS TOPIC

It reads along while the topic is written, across the broker's death and return. A line on its
standard input tells the number of records there will be. It then makes sure that nothing follows,
reads everything once more at full speed, and writes one JSON object as its last line; lines before
it are numbers of records read so far.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
import threading
import time
from typing import Any

from streambus_client import Consumer

_REPORT_S = 0.1
_QUIET_S = 0.3  # how long nothing may come after the last record


class Reading:
    """What was read so far: a digest for each key, and whether offsets were without gaps."""

    def __init__(self) -> None:
        self.records = 0
        self.size_bytes = 0
        self.gaps = 0
        self._digests: dict[bytes, Any] = {}
        self._next: dict[int, int] = {}

    def take(self, columns: Any) -> None:
        """Take a batch: its values continue what its keys had before."""
        values, offsets = columns.values, columns.offsets
        if offsets[0] != self._next.get(columns.partition, 0):
            self.gaps += 1
        if offsets[-1] - offsets[0] != len(values) - 1:
            self.gaps += 1
        self._next[columns.partition] = offsets[-1] + 1
        for key, pairs in itertools.groupby(
            zip(columns.keys, values, strict=True), key=lambda pair: pair[0]
        ):
            joined = b"".join([value for _, value in pairs])
            digest = self._digests.get(key)
            if digest is None:
                digest = self._digests[key] = hashlib.sha256()
            digest.update(joined)
            self.size_bytes += len(joined)
        self.records += len(values)

    def digests(self) -> dict[str, str]:
        """Give the digest of each key's values, by the key in hexadecimal."""
        return {key.hex(): digest.hexdigest() for key, digest in self._digests.items()}


def read_along(address: str, topic: str, expected: list[int]) -> Reading:
    """Read until as many records have come as ``expected`` will say, and nothing follows."""
    reading = Reading()
    reported_s = 0.0
    with Consumer(address, topic, start="earliest", fetch_wait_ms=100) as consumer:
        consumer.positions()  # connected: from now on a broker that goes away costs time only
        print(0, flush=True)
        while True:
            complete = bool(expected) and reading.records >= expected[0]
            came = False
            for columns in consumer.batches(timeout=_QUIET_S if complete else _REPORT_S):
                came = True
                reading.take(columns)
                if time.monotonic() - reported_s > _REPORT_S:
                    reported_s = time.monotonic()
                    print(reading.records, flush=True)
            if complete and not came:
                return reading


def read_again(address: str, topic: str, total: int) -> float:
    """Read everything once more and only count; return the seconds that it took."""
    count = 0
    began_s = time.perf_counter()
    with Consumer(address, topic, start="earliest") as consumer:
        batches = consumer.batches(timeout=10)
        while count < total:
            count += len(next(batches).values)
    return time.perf_counter() - began_s


def main() -> None:
    """Run the second process."""
    address, topic = sys.argv[1:]
    expected: list[int] = []
    told = threading.Thread(
        target=lambda: expected.append(int(sys.stdin.readline() or 0)), daemon=True
    )
    told.start()
    reading = read_along(address, topic, expected)
    again_s = read_again(address, topic, reading.records) if reading.records else 0.0
    result = {
        "records": reading.records,
        "bytes": reading.size_bytes,
        "gaps": reading.gaps,
        "digests": reading.digests(),
        "again_s": again_s,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
