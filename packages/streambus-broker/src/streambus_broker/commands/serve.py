"""``streambus serve``: run a broker until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streambus_broker.config.broker import BrokerConfig

EXIT_FAILED, EXIT_USAGE = 1, 2
_GC_THRESHOLDS = (20_000, 20, 100)


def serve(
    data_dir: Annotated[str | None, typer.Option(help="Directory that holds the data.")] = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT for clients.")] = None,
    http: Annotated[
        str | None, typer.Option(help="HOST:PORT for health and metrics, or 'off'.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="TOML file with settings.")] = None,
    node_id: Annotated[int | None, typer.Option(help="Number of this broker.")] = None,
    voters: Annotated[
        str | None, typer.Option(help="First voters of a cluster: 1@HOST:PORT,2@HOST:PORT,...")
    ] = None,
    join: Annotated[
        str | None, typer.Option(help="HOST:PORT of a broker of the cluster to join.")
    ] = None,
    rack: Annotated[str | None, typer.Option(help="Where this broker stands.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow a non-loopback address without TLS.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; may be repeated."),
    ] = None,
) -> None:
    """Run a broker until SIGTERM or SIGINT; a second signal stops it at once.

    Settings come from the file, then from STREAMBUS_<SETTING> in the environment, then from
    flags; the later wins. JSON log lines go to stderr.
    """
    from streambus_broker.config.loading import load_config
    from streambus_broker.errors import BrokerError, ConfigError

    flags: dict[str, object] = {}
    for pair in set_ or ():
        key, equals, value = pair.partition("=")
        if not equals:
            typer.echo(f"--set {pair}: is not of the form KEY=VALUE", err=True)
            raise typer.Exit(EXIT_USAGE)
        flags[key.strip()] = value.strip()
    flags |= {
        "data_dir": data_dir,
        "listen": listen,
        "http": http,
        "node_id": node_id,
        "voters": voters,
        "join": join,
        "rack": rack,
        "log_level": log_level,
        "insecure": insecure or None,
    }
    try:
        loaded = load_config(config, os.environ, flags)
    except ConfigError as exc:
        typer.echo(f"wrong configuration:\n{exc}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    try:
        run(loaded.config)
    except BrokerError as exc:
        typer.echo(str(exc), err=True)
        raise typer.Exit(EXIT_FAILED) from None


def run(config: BrokerConfig) -> None:
    """Run a broker with a valid configuration until a signal ends it."""
    from streambus_broker.embedded import event_loop

    with asyncio.Runner(loop_factory=event_loop) as runner:
        runner.run(_serve(config))


async def _serve(config: BrokerConfig) -> None:
    from streambus_broker.broker import make_broker
    from streambus_broker.errors import BrokerFailedError

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
        typer.echo(f"listening on {broker.address}")
        sys.stdout.flush()
        _tune_collector()
        stopping = loop.create_task(stop.wait())
        failing = loop.create_task(broker.failed.wait())
        await asyncio.wait({stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, failing):
            task.cancel()
    if broker.failure is not None:
        raise BrokerFailedError(broker.failure)


def _tune_collector() -> None:
    """Keep garbage collection short: what is alive after the start stays out of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
