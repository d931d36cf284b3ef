"""Brokers come and go: registered, fenced, leaving, in maintenance, read-only, removed. Pure.

A registration is refused where it cannot be this broker's: the one that it claims to be still
lives elsewhere, or with another directory; it was removed; or its release shares no level with the
others'. Whoever is refused has changed nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streambus_broker.cluster import election
from streambus_broker.cluster.brokers import NOBODY, BrokerRecord
from streambus_broker.cluster.changes import ClusterChanges
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from streambus_broker.cluster import commands as c
    from streambus_broker.cluster.state import ClusterState, Placed
    from streambus_broker.metadata.records import PartitionRecord


def register(state: ClusterState, index: int, command: c.RegisterBroker) -> ClusterChanges:
    """Begin a broker's session.

    Raises:
        CommandError: It is refused; see the module.
    """
    known = state.brokers.get(command.broker_id)
    if known is None and state.removed.get(command.broker_id) == command.storage_id:
        raise CommandError(
            ErrorCode.UNKNOWN_BROKER,
            f"broker {command.broker_id} was removed from this cluster; to have it back, empty its"
            " data directory and start it with --join, under this node id or another one",
        )
    if known is not None:
        _check_single(known, command)
    _check_levels(state, command)
    lost_disk = known is not None and known.storage_id != command.storage_id
    broker = BrokerRecord(
        command.broker_id,
        index,
        command.incarnation,
        command.storage_id,
        command.host,
        command.port,
        command.rack,
        maintenance=known is not None and known.maintenance,
        replaced_by=NOBODY if known is None else known.replaced_by,
        vote=None if known is None else known.vote,
        level_min=command.level_min,
        level_max=command.level_max,
        read_only=known is not None and known.read_only and not lost_disk,
    )
    electable = state.electable(broker)

    def change(placed: Placed) -> PartitionRecord:
        record = placed.record
        if broker.broker_id not in record.replicas:
            return record
        if lost_disk:
            stay = [each for each in record.in_sync if each != broker.broker_id]
            record = election.with_in_sync(record, stay)
        if record.leader == broker.broker_id:
            # What it wrote and had not synced is gone: nobody may take its log for the old one.
            return election.with_leader(record, election.choose_leader(record, electable))
        return election.keep_led(record, electable)

    topics = state.each_partition(change)
    warnings: tuple[str, ...] = ()
    if lost_disk:
        warnings = (f"broker {broker.broker_id} came back with another data directory",)
    return ClusterChanges(topics, brokers=(broker,), answer=index, warnings=warnings)


def _check_single(known: BrokerRecord, command: c.RegisterBroker) -> None:
    """Refuse a second broker with a node id whose first one lives.

    One that was killed and started again is let in at once, by its directory and address; one that
    has moved has to wait until its former session is over.
    """
    other_disk = known.storage_id != command.storage_id
    moved = (known.host, known.port) != (command.host, command.port)
    gone = known.fenced or (known.leaving and not other_disk)
    if gone or not (other_disk or (moved and known.incarnation != command.incarnation)):
        return
    what = "another data directory" if other_disk else "a copy of this data directory"
    raise CommandError(
        ErrorCode.DUPLICATE_BROKER,
        f"broker {known.broker_id} is already here, at {known.host}:{known.port} with {what};"
        " give each broker a node id and a data directory of its own",
    )


def _check_levels(state: ClusterState, command: c.RegisterBroker) -> None:
    """Refuse a release that shares no level with one of the others'."""
    for each in state.brokers.values():
        if each.broker_id == command.broker_id:
            continue
        if command.level_min > each.level_max or command.level_max < each.level_min:
            raise CommandError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"broker {command.broker_id} speaks metadata of level {command.level_min} to"
                f" {command.level_max}, broker {each.broker_id} of {each.level_min} to"
                f" {each.level_max}: they share none; upgrade the older one, one release at a time",
            )


def fence(state: ClusterState, command: c.FenceBroker) -> ClusterChanges:
    """End a broker's session.

    Raises:
        CommandError: It is over already.
    """
    broker = state.broker_in_session(command.broker_id, command.epoch)
    return _without(state, replace(broker, fenced=True))


def leave(state: ClusterState, command: c.LeaveBroker) -> ClusterChanges:
    """Let a broker hand over before its shutdown.

    Raises:
        CommandError: Its session is over.
    """
    broker = state.broker_in_session(command.broker_id, command.epoch)
    return _without(state, replace(broker, leaving=True))


def _without(state: ClusterState, broker: BrokerRecord) -> ClusterChanges:
    """Elect others, and count on a broker no more."""
    electable = state.electable(broker)

    def change(placed: Placed) -> PartitionRecord:
        record = placed.record
        if broker.broker_id not in record.replicas:
            return record
        minimum = election.min_in_sync_of(record, placed.topic.overrides)
        led = election.keep_led(record, electable)
        return election.shrink(led, {broker.broker_id}, minimum)

    return ClusterChanges(state.each_partition(change), brokers=(broker,))


def maintain(state: ClusterState, command: c.SetMaintenance) -> ClusterChanges:
    """Keep leadership and new replicas away from a broker, or no longer.

    Raises:
        CommandError: There is no such broker.
    """
    broker = replace(state.broker(command.broker_id), maintenance=command.on)
    electable = state.electable(broker)

    def change(placed: Placed) -> PartitionRecord:
        return election.keep_led(placed.record, electable)

    return ClusterChanges(state.each_partition(change), brokers=(broker,))


def set_read_only(state: ClusterState, command: c.SetReadOnly) -> ClusterChanges:
    """Lead without a broker whose storage takes no writes, as far as others can; or no longer.

    It leaves the in-sync sets at once, as far as their minimum allows: nothing that is written
    from now on has to wait for it.

    Raises:
        CommandError: Its session is over.
    """
    known = state.broker_in_session(command.broker_id, command.epoch)
    broker = replace(known, read_only=command.on)
    electable = state.electable(broker)

    def change(placed: Placed) -> PartitionRecord:
        record = placed.record
        if broker.broker_id not in record.replicas:
            return record
        led = election.keep_led(record, electable)
        if not broker.read_only:
            return led
        minimum = election.min_in_sync_of(record, placed.topic.overrides)
        return election.let_go(led, {broker.broker_id}, minimum)

    return ClusterChanges(state.each_partition(change), brokers=(broker,))


def remove(state: ClusterState, command: c.RemoveBroker) -> ClusterChanges:
    """Forget a broker that holds nothing.

    Raises:
        CommandError: There is no such broker, or it holds something.
    """
    broker = state.broker(command.broker_id)
    held = [
        f"{topic.name}[{number}]"
        for topic in state.topics.values()
        for number, record in enumerate(topic.partitions)
        if broker.broker_id in record.replicas
    ]
    if held:
        raise CommandError(
            ErrorCode.INVALID_REQUEST,
            f"broker {broker.broker_id} holds {len(held)} partitions ({', '.join(held[:5])}"
            f"{', ...' if len(held) > 5 else ''}); move them away first"
            f" (`streambus cluster replace {broker.broker_id} NEW` does both)",
        )
    return ClusterChanges(removed=(broker.broker_id,))
