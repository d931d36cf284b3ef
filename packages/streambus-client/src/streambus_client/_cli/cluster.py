"""``streambus cluster``: look at a cluster, and operate it."""

from dataclasses import asdict
from typing import Annotated

import typer

from streambus_client import Admin, TopicPartition
from streambus_client._cli._options import (
    DEFAULT_BROKERS,
    Brokers,
    Output,
    OutputOption,
    TimeoutS,
    Yes,
    confirm,
)
from streambus_client._cli._output import write_one, write_rows
from streambus_client._cli._running import ExitCode, say
from streambus_client._cluster_operations import MemberAction

app = typer.Typer(
    help="Show the cluster, check its health, and operate it.",
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


Node = Annotated[int, typer.Argument(help="Node id of the broker.")]


def _admin(brokers: str, timeout_s: float) -> Admin:
    return Admin(brokers, request_timeout_ms=timeout_s * 1000, client_id="streambus-cli")


@app.command()
def members(
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Show every broker with its session, its role and what it holds."""
    with _admin(brokers, timeout_s) as admin:
        described = admin.describe_cluster()
    write_rows([asdict(member) for member in described.members], output)


@app.command()
def check(
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """List partitions that need attention; exit code 8 if there are any."""
    with _admin(brokers, timeout_s) as admin:
        described = admin.describe_cluster()
    write_rows([asdict(trouble) for trouble in described.troubles], output)
    if any(trouble.problem != "reassigning" for trouble in described.troubles):
        raise typer.Exit(int(ExitCode.CHECK_FAILED))


@app.command()
def promote(node: Node, brokers: Brokers = DEFAULT_BROKERS, timeout_s: TimeoutS = 10.0) -> None:
    """Make a broker that joined a voter of the metadata group."""
    _alter(node, "promote", "is a voter", brokers, timeout_s)


@app.command()
def demote(node: Node, brokers: Brokers = DEFAULT_BROKERS, timeout_s: TimeoutS = 10.0) -> None:
    """Make a voter a learner, which follows the metadata and does not count."""
    _alter(node, "demote", "is a learner", brokers, timeout_s)


@app.command()
def remove(
    node: Node,
    yes: Yes = False,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Take a broker out for good; it must not hold partitions any more."""
    confirm(f"Remove broker {node} from the cluster?", yes=yes)
    _alter(node, "remove", "is removed", brokers, timeout_s)


@app.command(name="transfer-leader")
def transfer_leader(
    node: Node, brokers: Brokers = DEFAULT_BROKERS, timeout_s: TimeoutS = 10.0
) -> None:
    """Make a voter the controller."""
    _alter(node, "transfer", "is the controller", brokers, timeout_s)


@app.command()
def maintenance(
    node: Node,
    off: Annotated[bool, typer.Option("--off", help="End it.")] = False,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Keep leadership and new replicas away from a broker, or end that."""
    if off:
        _alter(node, "maintenance_off", "is out of maintenance", brokers, timeout_s)
    else:
        _alter(node, "maintenance_on", "is in maintenance", brokers, timeout_s)


@app.command()
def rebalance(brokers: Brokers = DEFAULT_BROKERS, timeout_s: TimeoutS = 10.0) -> None:
    """Give partitions back to their preferred leaders, where those are in sync."""
    with _admin(brokers, timeout_s) as admin:
        election = admin.elect_leaders()
    say(f"{election.elected} partition(s) have another leader")


@app.command(name="elect-unclean")
def elect_unclean(
    topic: Annotated[str, typer.Argument(help="Name of the topic.")],
    partition: Annotated[int, typer.Argument(help="Number of the partition.")],
    yes: Yes = False,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Give a partition without a leader to any living replica: acknowledged records may be lost."""
    confirm(f"Accept that acknowledged records of {topic}/{partition} may be lost?", yes=yes)
    with _admin(brokers, timeout_s) as admin:
        election = admin.elect_leaders([TopicPartition(topic, partition)], unclean=True)
    for warning in election.warnings:
        say(f"WARNING: {warning}")
    say(f"{election.elected} partition(s) have another leader")


def _alter(node: int, action: MemberAction, outcome: str, brokers: str, timeout_s: float) -> None:
    with _admin(brokers, timeout_s) as admin:
        admin.alter_member(node, action)
    say(f"broker {node} {outcome}")
