"""A broker that watches its own event loop and garbage collector, as a process of its own.

    python -m bench.broker.probe DIRECTORY
    python -m bench.broker.probe --idle

The second is the baseline: the same timer on a loop that has nothing else to do, so that what it
measures is the machine's. Prints ``listening on ADDRESS``; at the end of its standard input it
stops and prints one JSON object: lateness of a timer of one millisecond, the part of it during
which the loop was at work (the rest is other threads and programs), and the collector's pauses;
all in milliseconds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import Any

from streambus_broker import Broker, BrokerConfig
from streambus_broker.commands.serve import tune_collector
from streambus_broker.embedded import event_loop

_TICK_S = 0.001


class Probe:
    """Measures from `start` on."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self.worked_late_ms: list[float] = []
        self.pauses_ms: list[float] = []
        self._began_s = 0.0

    def start(self) -> None:
        """Begin to measure."""
        gc.callbacks.append(self._collecting)
        self._worked_s = time.thread_time()
        self._due_s = time.perf_counter() + _TICK_S
        asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        now_s = time.perf_counter()
        late_ms = max(0.0, now_s - self._due_s) * 1e3
        self.late_ms.append(late_ms)
        # What the loop itself can have caused: its thread was at work for no longer than this.
        worked_ms = (time.thread_time() - self._worked_s) * 1e3
        self.worked_late_ms.append(min(late_ms, worked_ms))
        self._worked_s = time.thread_time()
        self._due_s = time.perf_counter() + _TICK_S
        asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def _collecting(self, phase: str, _: dict[str, Any]) -> None:
        if phase == "start":
            self._began_s = time.perf_counter()
        else:
            self.pauses_ms.append((time.perf_counter() - self._began_s) * 1e3)


async def idle() -> None:
    """Measure a loop without any work until the standard input ends."""
    probe = Probe()
    print("listening on nothing", flush=True)
    probe.start()
    await _input_ended()
    print(json.dumps({"late_ms": probe.late_ms}), flush=True)


async def _input_ended() -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())


async def main(directory: str) -> None:
    """Serve and measure until the standard input ends."""
    probe = Probe()
    config = BrokerConfig(data_dir=directory, listen="127.0.0.1:0", http="off")
    async with Broker(config) as broker:
        tune_collector()
        print(f"listening on {broker.address}", flush=True)
        probe.start()
        await _input_ended()
        stats = broker.data_tree.stats()
    result = {
        "late_ms": probe.late_ms,
        "worked_late_ms": probe.worked_late_ms,
        "pauses_ms": probe.pauses_ms,
        "flushes": stats.flushes,
        "merges": stats.merges,
        "moves": stats.moves,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(idle() if sys.argv[1] == "--idle" else main(sys.argv[1]))
