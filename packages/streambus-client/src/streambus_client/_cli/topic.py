"""``streambus topic``: create, list, describe, alter, delete, offsets."""

from typing import Annotated

import typer

from streambus_client import TopicPartition
from streambus_client._cli._admin import admin_of
from streambus_client._cli._copying import copy_facts, copy_rows
from streambus_client._cli._options import (
    DEFAULT_BROKERS,
    Brokers,
    DryRun,
    Output,
    OutputOption,
    Settings,
    TimeoutS,
    Yes,
    confirm,
    parse_settings,
    parse_time,
)
from streambus_client._cli._output import explained, write_one, write_rows
from streambus_client._cli._running import say
from streambus_client.errors import TopicExistsError

app = typer.Typer(
    help="Create, list, describe, alter and delete topics.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic.")]


@app.command()
def create(
    name: Name,
    partitions: Annotated[
        int, typer.Option("--partitions", "-p", help="-1: the cluster's default.")
    ] = -1,
    replication_factor: Annotated[
        int, typer.Option("--replication-factor", "-r", help="-1: the cluster's default.")
    ] = -1,
    config: Settings = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="An existing topic is no error.")
    ] = False,
    dry_run: DryRun = False,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Create a topic."""
    with admin_of(brokers, timeout_s) as admin:
        try:
            admin.create_topic(
                name,
                partitions=partitions,
                replication_factor=replication_factor,
                config=parse_settings(config),
                validate_only=dry_run,
            )
        except TopicExistsError:
            if not if_not_exists:
                raise
            say(f"topic {name} exists already")
            return
    say(f"topic {name} could be created" if dry_run else f"topic {name} created")


@app.command(name="list")
def list_(
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """List the topics."""
    with admin_of(brokers, timeout_s) as admin:
        topics = admin.list_topics()
    rows = [
        {
            "topic": topic.name,
            "partitions": topic.partition_count,
            "replication_factor": topic.replication_factor,
        }
        for topic in topics
    ]
    write_rows(rows, output)


@app.command()
def describe(
    name: Name,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Show partitions, replicas, offsets and settings of a topic; replicas on their way, too."""
    with admin_of(brokers, timeout_s) as admin:
        topic = admin.describe_topic(name)
        moving = {
            each.partition: each for each in admin.describe_cluster().troubles
            if each.topic == name and (each.adding or each.removing)
        }  # fmt: skip
        incomplete = moving or any(len(one.in_sync) < len(one.replicas) for one in topic.partitions)
        found = admin.copy_progress().copies if incomplete else ()
    copies = [each for each in found if each.partition.topic == name]
    partitions = [
        {
            "partition": one.partition,
            "leader": one.leader,
            "leader_epoch": one.leader_epoch,
            "replicas": list(one.replicas),
            "in_sync": list(one.in_sync),
            "earliest": one.earliest,
            "latest": one.latest,
        }
        for one in topic.partitions
    ]
    for row, one in zip(partitions, topic.partitions, strict=True):
        if moving or output is not Output.table:
            move = moving.get(one.partition)
            row["adding"] = [] if move is None else list(move.adding)
            row["removing"] = [] if move is None else list(move.removing)
    if output is not Output.table:
        write_one(
            {
                "topic": topic.name,
                "replication_factor": topic.replication_factor,
                "partitions": partitions,
                "copies": copy_facts(copies),
                "config": dict(topic.config),
                "config_sources": dict(topic.config_sources),
            },
            output,
        )
        return
    write_rows(partitions, output)
    typer.echo()
    if copies:
        write_rows(copy_rows(copies), output)
        typer.echo()
    write_rows(
        [
            {
                "setting": key,
                "value": explained(key, value),
                "source": topic.config_sources[key],
            }
            for key, value in sorted(topic.config.items())
        ],
        output,
    )


def _move(topic: str, text: str) -> tuple[TopicPartition, tuple[int, ...] | None]:
    """Read ``PARTITION:NODE,NODE,...`` or ``PARTITION:cancel``."""
    number, _, nodes = text.partition(":")
    try:
        where = TopicPartition(topic, int(number))
        return where, None if nodes == "cancel" else tuple(int(each) for each in nodes.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not of the form PARTITION:NODE,NODE,... or PARTITION:cancel"
        ) from None


@app.command()
def alter(
    name: Name,
    partitions: Annotated[
        int | None, typer.Option("--partitions", "-p", help="How many it shall have; only more.")
    ] = None,
    config: Settings = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", help="Back to the default; repeatable.")
    ] = None,
    replication_factor: Annotated[
        int | None,
        typer.Option("--replication-factor", "-r", help="Replicas of every partition."),
    ] = None,
    assignment: Annotated[
        list[str] | None,
        typer.Option(
            help="PARTITION:NODE,NODE,... moves it; PARTITION:cancel cancels; repeatable."
        ),
    ] = None,
    dry_run: DryRun = False,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Change partitions or settings of a topic, all or nothing; or move its replicas.

    Replicas are copied in the background; `streambus topic describe` shows how far they are.
    """
    if replication_factor is not None or assignment:
        if (
            partitions is not None
            or config
            or unset
            or dry_run
            or (replication_factor is not None and assignment)
        ):
            raise typer.BadParameter("--replication-factor and --assignment stand alone")
        with admin_of(brokers, timeout_s) as admin:
            if replication_factor is not None:
                admin.set_replication_factor(name, replication_factor)
            else:
                admin.reassign(dict(_move(name, text) for text in assignment or []))
        say(f"replicas of topic {name} are being moved; `streambus topic describe {name}` tells")
        return
    changes: dict[str, object | None] = {**parse_settings(config), **dict.fromkeys(unset or [])}
    if partitions is None and not changes:
        raise typer.BadParameter(
            "nothing to change; give --partitions, --config, --unset, --replication-factor or"
            " --assignment"
        )
    with admin_of(brokers, timeout_s) as admin:
        admin.alter_topic(name, partitions=partitions, config=changes, validate_only=dry_run)
    say(f"topic {name} could be altered" if dry_run else f"topic {name} altered")


@app.command()
def delete(
    name: Name,
    yes: Yes = False,
    dry_run: DryRun = False,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Delete a topic with all its records."""
    with admin_of(brokers, timeout_s) as admin:
        if dry_run:
            admin.delete_topic(name, validate_only=True)
            say(f"topic {name} could be deleted")
            return
        admin.delete_topic(name, validate_only=True)
        confirm(f"Delete topic {name} with all its records?", yes=yes)
        admin.delete_topic(name)
    say(f"topic {name} deleted")


@app.command()
def offsets(
    name: Name,
    at: Annotated[
        str | None, typer.Option("--at", help="Also the offsets at this time: ms or ISO 8601.")
    ] = None,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Show the first and the next offset of every partition."""
    time = parse_time(at) if at is not None else None
    with admin_of(brokers, timeout_s) as admin:
        found = admin.offsets(name, time=time)
    rows: list[dict[str, object]] = []
    for one in found:
        row: dict[str, object] = {
            "partition": one.partition,
            "earliest": one.earliest,
            "latest": one.latest,
            "records": one.latest - one.earliest,
        }
        if time is not None:
            row["at_time"] = one.at_time
        rows.append(row)
    write_rows(rows, output)
