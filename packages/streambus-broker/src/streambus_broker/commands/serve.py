"""``streambus serve``: run a broker until it is told to stop.

Written on argparse, because typer takes as long to import as the broker to start; `run_arguments`
is what the ``streambus`` command calls for a command that must be there at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

from streambus_broker.config.broker import BrokerConfig
from streambus_broker.config.loading import load_config
from streambus_broker.config.table import setting_text, settings_of
from streambus_broker.errors import BrokerError, BrokerFailedError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
_GC_THRESHOLDS = (20_000, 20, 100)


def run_arguments(arguments: Sequence[str]) -> int:
    """Run the command; returns the exit code.

    Args:
        arguments: Without the program's name and without ``serve``.
    """
    gc.disable()  # nothing that importing makes is garbage; on again when the broker serves
    given = vars(_parser().parse_args(arguments))
    path = given.pop("config")
    try:
        loaded = load_config(path, os.environ, given)
    except ConfigError as exc:
        sys.stderr.write(f"wrong configuration:\n{exc}\n")
        return EXIT_USAGE
    for warning in loaded.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    try:
        run(loaded.config)
    except BrokerError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_FAILED
    return EXIT_OK


def run(config: BrokerConfig) -> None:
    """Run a broker with a valid configuration until a signal ends it."""
    from streambus_broker.embedded import event_loop

    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(_serve(config))


async def _serve(config: BrokerConfig) -> None:
    from streambus_broker.broker import make_broker

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def stopped(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped, number)
    async with make_broker(config, log_stream=sys.stderr) as broker:
        # The first line on stdout tells scripts where the broker listens, as soon as it does.
        sys.stdout.write(f"listening on {broker.address}\n")
        sys.stdout.flush()
        tune_collector()
        stopping = loop.create_task(stop.wait())
        failing = loop.create_task(broker.failed.wait())
        await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, failing):
            task.cancel()
    if broker.failure is not None:
        raise BrokerFailedError(broker.failure)


def tune_collector() -> None:
    """Keep garbage collection short: what is alive after the start stays out of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.enable()


def _parser() -> argparse.ArgumentParser:
    """Make a flag of every setting."""
    parser = argparse.ArgumentParser(
        prog="streambus serve",
        usage="streambus serve [--SETTING VALUE]...",  # all of them would bury what is said below
        description="Run a broker until SIGTERM or SIGINT; a second signal stops it at once."
        " Settings come from the file, then from STREAMBUS_<SETTING> in the environment, then"
        " from flags; the later wins. JSON log lines go to stderr.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for key, (kind, default, facts) in settings_of(BrokerConfig).items():
        flag = f"--{key.replace('_', '-')}"
        if kind is bool:
            parser.add_argument(flag, action="store_const", const=True, help=facts.help)
            continue
        shown = f"{facts.help} [{setting_text(default)}]".replace("%", "%%")
        parser.add_argument(flag, metavar="|".join(facts.choices) or "VALUE", help=shown)
    return parser
