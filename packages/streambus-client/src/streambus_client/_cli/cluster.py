"""``streambus cluster``: look at a cluster; what changes it is in ``_cluster_changes``."""

from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer

from streambus_client import ClusterMember, TopicPartition
from streambus_client._cli import _cluster_changes as changing
from streambus_client._cli._admin import admin_of
from streambus_client._cli._copying import copy_facts, copy_rows, summary
from streambus_client._cli._options import (
    DEFAULT_BROKERS,
    Brokers,
    Output,
    OutputOption,
    Settings,
    TimeoutS,
    parse_settings,
)
from streambus_client._cli._output import explained, sized, write_one, write_rows
from streambus_client._cli._running import ExitCode, say
from streambus_client.errors import ClientError

app = typer.Typer(
    help="Show the cluster, check its health, and operate it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

_UNKNOWN = ("metadata_lag", "replaced_by")


@app.command()
def info(
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Show brokers, controller and totals."""
    with admin_of(brokers, timeout_s) as admin:
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
    """Check every broker and partition.

    Ends with exit code 8 if something is wrong; what, is said on standard error.
    """
    with admin_of(brokers, timeout_s) as admin:
        cluster = admin.cluster()
        healths = admin.health()
        known: tuple[ClusterMember, ...] = ()
        with suppress(ClientError):  # nobody tells without a controller: the brokers' health does
            known = admin.describe_cluster().members
    problems = [
        f"broker {one.node_id} at {one.host}:{one.port} is away: nothing is heard of it"
        for one in known
        if one.state == "fenced"
    ]
    problems += [
        f"broker {one.node_id} at {one.host}:{one.port} leads only where nobody else can: its"
        " storage takes no writes"
        for one in known
        if one.state == "read_only"
    ]
    problems += [f"partition {where} has no leader" for where in cluster.offline]
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


_ANSWERING = ("alive", "maintenance", "read_only")


@app.command()
def members(
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Show every broker, living or not.

    With its state, its role in the metadata group, what it leads and holds, and what is pending.
    """
    with admin_of(brokers, timeout_s) as admin:
        described = admin.describe_cluster()
    rows = [asdict(member) for member in described.members]
    if output is Output.table:
        for row in rows:  # for people nothing is better than a number that stands for it
            row.update({name: None for name in _UNKNOWN if row[name] < 0})
    write_rows(rows, output)


@app.command()
def check(
    topic: Annotated[
        list[str] | None, typer.Option("--topic", "-t", help="Only this; repeatable.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Do not compare the replicas' records.")
    ] = False,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 600.0,
) -> None:
    """List troubled partitions, compare replicas.

    What is committed is read on every replica, epoch by epoch and byte by byte, and compared. Ends
    with exit code 8 if a partition needs attention, or replicas differ.
    """
    rows: list[dict[str, object]] = []
    problems, compared, compared_bytes = 0, 0, 0
    with admin_of(brokers, timeout_s) as admin:
        described = admin.describe_cluster()
        alive = {each.node_id for each in described.members if each.state in _ANSWERING}
        for each in described.troubles:
            if not topic or each.topic in topic:
                problems += each.problem != "reassigning"
                rows.append({**asdict(each), "broker": None, "offset": None})
        names = [] if quick else topic or [each.name for each in admin.list_topics()]
        for name in names:
            for place in admin.describe_topic(name).partitions:
                where = TopicPartition(name, place.partition)
                size_bytes, differences = admin.compare_replicas(
                    where, [each for each in place.in_sync if each in alive]
                )
                compared += len(place.in_sync) > 1
                compared_bytes += size_bytes
                problems += len(differences)
                rows += [
                    {
                        "topic": name, "partition": place.partition, "problem": one.problem,
                        "leader": place.leader, "replicas": place.replicas,
                        "in_sync": place.in_sync, "adding": (), "removing": (),
                        "broker": one.node_id, "offset": one.offset,
                    }
                    for one in differences
                ]  # fmt: skip
    write_rows(rows, output)
    if not quick:
        say(f"replicas of {compared} partition(s) compared, {sized(compared_bytes)} of each")
    moving = sum(each["problem"] == "reassigning" for each in rows)
    moved = f"; {moving} partition(s) are being moved" if moving else ""
    say((f"{problems} problem(s)" if problems else "no problems") + moved)
    if problems:
        raise typer.Exit(int(ExitCode.CHECK_FAILED))


@app.command()
def copies(
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Show how far copies of replicas are.

    Of each replica that is being copied: how much, how fast, how long still.
    """
    with admin_of(brokers, timeout_s) as admin:
        progress = admin.copy_progress()
    if output is not Output.table:
        facts = {**asdict(progress), "seconds_left": progress.seconds_left}
        write_one({**facts, "copies": copy_facts(progress.copies)}, output)
        return
    write_rows(copy_rows(progress.copies), output)
    say(summary(progress))


@app.command()
def settings(
    config: Settings = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", help="Leave it to the brokers; repeatable.")
    ] = None,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Show or change the cluster's settings.

    They hold for all brokers, at once and without a restart.
    """
    changes: dict[str, object | None] = {**parse_settings(config), **dict.fromkeys(unset or [])}
    with admin_of(brokers, timeout_s) as admin:
        found = admin.alter_cluster(changes)
    rows = [asdict(each) for each in found]
    if output is Output.table:
        for row in rows:
            row["value"] = explained(row["key"], row["value"])
    write_rows(rows, output)


for command in (
    changing.add,
    changing.promote,
    changing.demote,
    changing.replace,
    changing.remove,
    changing.maintenance,
    changing.rebalance,
    changing.transfer_leader,
    changing.elect_unclean,
):
    app.command(name=command.__name__.replace("_", "-"))(command)
