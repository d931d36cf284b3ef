"""``streambus cluster``: info and health."""

import typer

from streambus_client import Admin
from streambus_client._cli._options import (
    DEFAULT_BROKERS,
    Brokers,
    Output,
    OutputOption,
    TimeoutS,
)
from streambus_client._cli._output import write_one, write_rows
from streambus_client._cli._running import ExitCode, say

app = typer.Typer(
    help="Show the cluster, and check its health.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.command()
def info(
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Show brokers, controller and totals."""
    with Admin(brokers, request_timeout_ms=timeout_s * 1000, client_id="streambus-cli") as admin:
        cluster = admin.cluster()
    members = [
        {
            "node_id": broker.node_id,
            "host": broker.host,
            "port": broker.port,
            "rack": broker.rack,
            "controller": broker.node_id == cluster.controller,
        }
        for broker in cluster.brokers
    ]
    totals: dict[str, object] = {
        "cluster_id": cluster.cluster_id,
        "controller": cluster.controller,
        "topics": cluster.topic_count,
        "partitions": cluster.partition_count,
        "offline": [str(where) for where in cluster.offline],
        "under_replicated": [str(where) for where in cluster.under_replicated],
    }
    if output is not Output.table:
        write_one({**totals, "brokers": members}, output)
        return
    write_one(totals, output)
    typer.echo()
    write_rows(members, output)


@app.command()
def health(
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Check every broker and partition; exit code 8 if something is wrong."""
    with Admin(brokers, request_timeout_ms=timeout_s * 1000, client_id="streambus-cli") as admin:
        cluster = admin.cluster()
        healths = admin.health()
    problems = [f"partition {where} has no leader" for where in cluster.offline]
    problems += [f"partition {where} is under-replicated" for where in cluster.under_replicated]
    rows: list[dict[str, object]] = []
    for one in healths:
        if not (one.live and one.ready):
            problems.append(f"broker {one.node_id} is {'not ready' if one.live else 'not live'}")
        for part in one.components:
            rows.append(
                {
                    "node_id": one.node_id,
                    "component": part.name,
                    "status": part.status,
                    "reason": part.reason or None,
                }
            )
            if part.status == "failed":
                problems.append(f"broker {one.node_id}: {part.name} failed: {part.reason}")
    if output is Output.table:
        write_rows(rows, output)
    else:
        write_one({"healthy": not problems, "problems": problems, "components": rows}, output)
    for problem in problems:
        say(problem)
    if problems:
        raise typer.Exit(int(ExitCode.CHECK_FAILED))
    say(f"healthy: {len(healths)} broker(s), {cluster.partition_count} partition(s)")
