"""``streambus cluster``: look at a cluster, and operate it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from streambus_client import Admin, CopyProgress, ReplicaMove, TopicPartition
from streambus_client._cli._options import (
    DEFAULT_BROKERS,
    Brokers,
    Output,
    OutputOption,
    Settings,
    TimeoutS,
    Yes,
    confirm,
    parse_settings,
)
from streambus_client._cli._output import lasting, sized, write_one, write_rows
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
    with _admin(brokers, timeout_s) as admin:
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
    with _admin(brokers, timeout_s) as admin:
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
_ANSWERING = ("alive", "maintenance")
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]


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
    """List partitions that need attention, and replicas that differ; exit code 8 for any.

    What is committed is read on every replica, epoch by epoch and byte by byte, and compared.
    """
    rows: list[dict[str, object]] = []
    problems, compared, compared_bytes = 0, 0, 0
    with _admin(brokers, timeout_s) as admin:
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
    say(f"{problems} problem(s)" if problems else "no problems")
    if problems:
        raise typer.Exit(int(ExitCode.CHECK_FAILED))


@app.command()
def promote(node: Node, brokers: Brokers = DEFAULT_BROKERS, timeout_s: TimeoutS = 10.0) -> None:
    """Wish that a broker that joined becomes a voter; it does so once it has caught up."""
    _alter(node, "promote", "becomes a voter once it has caught up", brokers, timeout_s)


@app.command()
def demote(node: Node, brokers: Brokers = DEFAULT_BROKERS, timeout_s: TimeoutS = 10.0) -> None:
    """Make a voter a learner, which follows the metadata and does not count."""
    _alter(node, "demote", "becomes a learner", brokers, timeout_s)


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
def rebalance(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    leaders_only: Annotated[bool, typer.Option("--leaders-only", help="Copy nothing.")] = False,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Spread replicas and preferred leaders evenly over the brokers, by the fewest moves.

    Racks are kept. Replicas are copied in the background: see `streambus cluster copies`.
    """
    with _admin(brokers, timeout_s) as admin:
        moves = admin.rebalance(dry_run=dry_run, leaders_only=leaders_only)
    _show_moves(moves, output, begun=not dry_run)


@app.command()
def add(
    node: Node,
    wait: Wait = True,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds until it is waited for no more.")
    ] = 300.0,
) -> None:
    """Give a broker a vote on metadata: wait for it to join and to catch up, then promote it.

    The broker itself is started with `streambus serve --node-id N --join HOST:PORT`. The cluster
    goes on with it by itself if this command ends before.
    """
    import time

    ends_s, told, wished = time.monotonic() + timeout_s, "", False
    with _admin(brokers, min(timeout_s, 30.0)) as admin:
        while True:
            found = {each.node_id: each for each in admin.describe_cluster().members}
            member = found.get(node)
            if member is not None and member.role == "voter":
                say(f"broker {node} is a voter")
                say("`streambus cluster rebalance` moves replicas to it")
                return
            if member is None or member.role == "none":
                news = f"broker {node} to join: start it with --node-id {node} --join {brokers}"
            elif member.state != "alive":
                news = f"broker {node} to be alive; it is {member.state}"
            else:
                if not wished:
                    admin.alter_member(node, "promote")
                    wished = True
                    continue
                news = f"broker {node}: {member.pending or 'to be promoted'}"
            if news != told:
                say(f"waiting for {news}")
                told = news
            if not wait and wished:
                return
            if time.monotonic() > ends_s:
                say(f"not within {timeout_s:g} s")
                raise typer.Exit(int(ExitCode.UNREACHABLE))
            time.sleep(0.25)


@app.command()
def replace(
    old: Annotated[int, typer.Argument(help="Node id of the broker that goes, alive or dead.")],
    new: Annotated[
        int | None, typer.Argument(help="Node id of the broker that takes everything over.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Call it off.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    wait: Wait = True,
    yes: Yes = False,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Move every replica, the leaderships and the vote of a broker to another, and remove it.

    The cluster goes on with it by itself if this command ends before.
    """
    if (new is None) != cancel:
        raise typer.BadParameter("give OLD and NEW, or OLD and --cancel")
    with _admin(brokers, timeout_s) as admin:
        if new is None:
            moves = admin.cancel_replacement(old)
            say(f"broker {old} stays; {len(moves)} partition(s) go back")
            return
        moves = admin.replace_broker(old, new, dry_run=True)
        _show_moves(moves, output, begun=False)
        if dry_run:
            return
        confirm(f"Replace broker {old} by {new}, and remove {old} at the end?", yes=yes)
        admin.replace_broker(old, new)
        if wait:
            _watch(admin, old)
        else:
            say(f"broker {old} is being replaced; see `streambus cluster copies`")


@app.command()
def copies(
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Show replicas that are being copied: how far, how fast, how long still."""
    with _admin(brokers, timeout_s) as admin:
        progress = admin.copy_progress()
    if output is not Output.table:
        rows = [{**asdict(each), "seconds_left": each.seconds_left} for each in progress.copies]
        write_one({**asdict(progress), "seconds_left": progress.seconds_left, "copies": rows},
                  output)  # fmt: skip
        return
    write_rows(
        [
            {
                "partition": str(each.partition), "broker": each.node_id, "from": each.leader,
                "state": each.state, "copied": sized(each.copied_bytes),
                "total": sized(each.total_bytes), "rate": f"{sized(each.bytes_per_s)}/s",
                "left": lasting(each.seconds_left),
            }
            for each in progress.copies
        ],
        output,
    )  # fmt: skip
    say(_summary(progress))


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
    """Show or change settings that hold for the whole cluster, at once and without a restart."""
    changes: dict[str, object | None] = {**parse_settings(config), **dict.fromkeys(unset or [])}
    with _admin(brokers, timeout_s) as admin:
        found = admin.alter_cluster(changes)
    write_rows([asdict(each) for each in found], output)


def _watch(admin: Admin, old: int) -> None:
    """Tell how far a replacement is, until it is over."""
    import time

    told = ""
    while True:
        found = {each.node_id: each for each in admin.describe_cluster().members}
        member = found.get(old)
        if member is None:
            say(f"broker {old} is removed")
            return
        if member.replaced_by < 0:
            say(f"broker {old} is not being replaced any more")
            raise typer.Exit(int(ExitCode.FAILED))
        news = f"broker {old} {member.pending or 'is being replaced'}"
        progress = admin.copy_progress()
        if progress.copies:
            news += "; " + _summary(progress)
        if news != told:
            say(news)
            told = news
        time.sleep(1.0)


def _summary(progress: CopyProgress) -> str:
    throttle = progress.throttle_bytes_per_s
    limit = "" if throttle < 0 else f", limit {sized(throttle)}/s for each leader"
    return (
        f"{len(progress.copies)} replica(s) are copied: {sized(progress.copied_bytes)} of"
        f" {sized(progress.total_bytes)}, {sized(progress.bytes_per_s)}/s{limit},"
        f" {lasting(progress.seconds_left)} left"
    )


def _show_moves(moves: Sequence[ReplicaMove], output: Output, *, begun: bool) -> None:
    rows = [
        {"partition": str(each.partition), "before": each.before, "after": each.after,
         "copied_to": sorted(set(each.after) - set(each.before))}
        for each in moves
    ]  # fmt: skip
    write_rows(rows, output)
    copied = sum(bool(row["copied_to"]) for row in rows)
    verb = "are moved" if begun else "would be moved"
    say(f"{len(rows)} partition(s) {verb}, {copied} of them with a copy")


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
