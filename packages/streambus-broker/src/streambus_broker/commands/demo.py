"""``streambus demo``: the main job for all to see."""

from __future__ import annotations

from typing import Annotated

import typer

EXIT_FAILED, EXIT_USAGE, EXIT_CHECK_FAILED = 1, 2, 8


def demo(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE]...", help="Files to stream, '-' for standard input."),
    ] = None,
    brokers: Annotated[
        int, typer.Option(help="1, or 3 to 9 for a cluster whose leader is killed.")
    ] = 1,
) -> None:
    """Stream files through a real broker, kill it with SIGKILL on the way, and lose nothing.

    With --brokers 3 it is a cluster: the broker that leads most is killed, the others go on.

    Every line becomes a record whose key is its file; a second process consumes them. Without
    files, the source files around the program are taken. Ends with 0 only if every byte came
    back, in order.
    """
    if brokers != 1 and not 3 <= brokers <= 9:
        typer.echo(f"--brokers {brokers}: use 1, or 3 to 9", err=True)
        raise typer.Exit(EXIT_USAGE)
    from streambus_broker.demo.run import run_demo
    from streambus_broker.demo.server import BrokerDiedError

    try:
        held = run_demo(files or [], brokers)
    except (OSError, ValueError, BrokerDiedError) as exc:
        problem = str(exc)
        if isinstance(exc, OSError) and exc.filename is not None:
            problem = f"{exc.filename}: {exc.strerror}"
        typer.echo(f"streambus demo: {problem}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    if not held:
        raise typer.Exit(EXIT_CHECK_FAILED)
