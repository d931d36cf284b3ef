"""The part of ``streambus cluster`` that changes something: members, leaders, replicas."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from streambus_client import Admin, ReplicaMove, TopicPartition
from streambus_client._cli._admin import admin_of
from streambus_client._cli._copying import summary
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

Node = Annotated[int, typer.Argument(metavar="NODE", help="Node id of the broker.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]


def promote(
    node: Node,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Let a broker that joined become a voter.

    It does so by itself, once it has caught up.
    """
    outcome = "becomes a voter once it has caught up"
    _alter(node, "promote", outcome, output, admin_of(brokers, timeout_s))


def demote(
    node: Node,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Make a voter a learner.

    A learner follows the metadata, and counts in no majority.
    """
    _alter(node, "demote", "becomes a learner", output, admin_of(brokers, timeout_s))


def remove(
    node: Node,
    yes: Yes = False,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Take a broker out for good.

    It must not hold partitions any more: see `streambus cluster replace`.
    """
    confirm(f"Remove broker {node} from the cluster?", yes=yes)
    _alter(node, "remove", "is removed", output, admin_of(brokers, timeout_s))


def transfer_leader(
    node: Node,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Make a voter the controller.

    The controller leads the metadata; partitions keep their leaders.
    """
    _alter(node, "transfer", "is the controller", output, admin_of(brokers, timeout_s))


def maintenance(
    node: Node,
    off: Annotated[bool, typer.Option("--off", help="End it.")] = False,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Keep leadership away from a broker.

    New replicas, too; --off ends it.
    """
    action: MemberAction = "maintenance_off" if off else "maintenance_on"
    outcome = f"is {'out of' if off else 'in'} maintenance"
    _alter(node, action, outcome, output, admin_of(brokers, timeout_s))


def rebalance(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    leaders_only: Annotated[bool, typer.Option("--leaders-only", help="Copy nothing.")] = False,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Spread replicas and leaders evenly.

    By the fewest moves; racks are kept. Replicas are copied in the background: see
    `streambus cluster copies`.
    """
    with admin_of(brokers, timeout_s) as admin:
        moves = admin.rebalance(dry_run=dry_run, leaders_only=leaders_only)
    _show_moves(moves, output, begun=not dry_run)


def add(
    node: Node,
    wait: Wait = True,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds until it is waited for no more.")
    ] = 300.0,
) -> None:
    """Give a broker a vote on metadata.

    Waits for it to join and to catch up, then promotes it.

    The broker itself is started with `streambus serve --node-id N --join HOST:PORT`. The cluster
    goes on with it by itself if this command ends before.
    """
    import time

    ends_s, told, wished = time.monotonic() + timeout_s, "", False
    first = brokers.split(",")[0]
    with admin_of(brokers, min(timeout_s, 30.0)) as admin:
        while True:
            found = {each.node_id: each for each in admin.describe_cluster().members}
            member = found.get(node)
            if member is not None and member.role == "voter":
                _told(node, output, action="add", outcome="is a voter")
                say("`streambus cluster rebalance` moves replicas to it")
                return
            if member is None or member.role == "none":
                news = f"broker {node} to join: start it with --node-id {node} --join {first}"
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
                _told(node, output, action="add", outcome="becomes a voter once it has caught up")
                return
            if time.monotonic() > ends_s:
                say(f"not within {timeout_s:g} s")
                raise typer.Exit(int(ExitCode.UNREACHABLE))
            time.sleep(0.25)


def replace(
    old: Annotated[int, typer.Argument(metavar="OLD", help="Node id of who goes, alive or dead.")],
    new: Annotated[
        int | None, typer.Argument(metavar="NEW", help="Node id of who takes everything over.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Call it off.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    wait: Wait = True,
    yes: Yes = False,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Have a broker take over from another.

    Moves every replica, the leaderships and the vote of the old one, and removes it at the end.

    The cluster goes on with it by itself if this command ends before.
    """
    if (new is None) != cancel:
        raise typer.BadParameter("give OLD and NEW, or OLD and --cancel")
    with admin_of(brokers, timeout_s) as admin:
        if new is None:
            moves = admin.cancel_replacement(old)
            outcome = f"stays; {len(moves)} partition(s) go back"
            _told(old, output, action="cancel", outcome=outcome, partitions=len(moves))
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
            news += "; " + summary(progress)
        if news != told:
            say(news)
            told = news
        time.sleep(1.0)


def _show_moves(moves: Sequence[ReplicaMove], output: Output, *, begun: bool) -> None:
    rows = [
        {"partition": str(each.partition), "before": each.before, "after": each.after,
         "copied_to": sorted(set(each.after) - set(each.before))}
        for each in moves
    ]  # fmt: skip
    write_rows(rows, output)
    if not rows:
        say("no partition has to be moved")
        return
    copied = sum(bool(row["copied_to"]) for row in rows)
    verb = "are moved" if begun else "would be moved"
    say(f"{len(rows)} partition(s) {verb}, {copied} of them with a copy")


def elect_unclean(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="Name of the topic.")],
    partition: Annotated[int, typer.Argument(metavar="PARTITION", help="Its number.")],
    yes: Yes = False,
    output: OutputOption = Output.table,
    brokers: Brokers = DEFAULT_BROKERS,
    timeout_s: TimeoutS = 10.0,
) -> None:
    """Elect a leader that is not in sync.

    Gives a partition without a leader to any living replica: acknowledged records may be lost.
    """
    where = TopicPartition(topic, partition)
    confirm(f"Accept that acknowledged records of {where} may be lost?", yes=yes)
    with admin_of(brokers, timeout_s) as admin:
        election = admin.elect_leaders([where], unclean=True)
    if output is not Output.table:
        write_one(asdict(election), output)
    for warning in election.warnings:
        say(f"WARNING: {warning}")
    if election.elected:
        say(f"{where} has a leader again")
    else:
        say(f"nothing is changed: {where} has a leader, or no replica of it lives")


def _alter(node: int, action: MemberAction, outcome: str, output: Output, admin: Admin) -> None:
    with admin:
        admin.alter_member(node, action)
    _told(node, output, action=action, outcome=outcome)


def _told(node: int, output: Output, **facts: object) -> None:
    """Tell what became of a broker: as a sentence for people, as facts for programs."""
    if output is Output.table:
        say(f"broker {node} {facts['outcome']}")
    else:
        write_one({"broker": node, **facts}, output)
