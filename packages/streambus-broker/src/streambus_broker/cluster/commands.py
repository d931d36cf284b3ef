"""What may be proposed to the metadata group, and its form in the log.

``[version, kind, field, ...]`` as msgpack; kinds are never reused, fields are added at the end with
a default. A command carries everything that its outcome depends on beside the state itself.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

import msgpack

from streambus_broker.metadata.registry import (
    AlterTopic,
    CreateTopic,
    DeleteTopic,
    TakeProducerIds,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FORMAT_VERSION = 1
LEVEL_MIN, LEVEL_MAX = 1, 1
"""The levels of metadata that this release takes part in. A command that an earlier release could
not carry out raises the newest, and is proposed only while every broker has it."""

_CommandT = TypeVar("_CommandT")
_KINDS: dict[int, type[Any]] = {
    11: TakeProducerIds,
    20: CreateTopic,
    21: AlterTopic,
    22: DeleteTopic,
}


@dataclass_transform(frozen_default=True)
def _kind(number: int) -> Callable[[type[_CommandT]], type[_CommandT]]:
    """Make a class a command: an immutable record with this number in the log."""

    def register(command: type[_CommandT]) -> type[_CommandT]:
        assert number not in _KINDS, f"kind {number} is taken"
        record = dataclass(frozen=True, slots=True)(command)
        _KINDS[number] = record
        return record

    return register


@_kind(1)
class FormCluster:
    """Give a new cluster its id; later ones change nothing."""

    cluster_id: str


@_kind(2)
class RegisterBroker:
    """A broker begins a session.

    Attributes:
        level_min: The oldest level of metadata that its release takes part in.
        level_max: The newest. A broker that shares no level with another one is refused.
    """

    broker_id: int
    incarnation: bytes
    storage_id: bytes
    host: str
    port: int
    rack: str | None
    level_min: int = 1
    level_max: int = 1


@_kind(3)
class FenceBroker:
    """A broker's session is over: elect others, count on it no more."""

    broker_id: int
    epoch: int


@_kind(4)
class LeaveBroker:
    """A broker is about to shut down: elect others first."""

    broker_id: int
    epoch: int


@_kind(5)
class SetMaintenance:
    """Keep leadership and new replicas away from a broker, or no longer."""

    broker_id: int
    on: bool


@_kind(17)
class SetReadOnly:
    """A broker's storage takes no writes, as it says itself, or takes them again."""

    broker_id: int
    epoch: int
    on: bool


@_kind(6)
class RemoveBroker:
    """Forget a broker that holds nothing."""

    broker_id: int


@_kind(7)
class AlterInSync:
    """A leader asks for another in-sync set.

    Attributes:
        members: (broker, its epoch as the leader knows it): one that began a new session since
            may have come back without its disk (KIP-903).
    """

    topic: str
    partition: int
    leader: int
    leader_epoch: int
    partition_epoch: int
    members: tuple[tuple[int, int], ...]


@_kind(16)
class AlterInSyncs:
    """A leader asks for other in-sync sets of many of its partitions, each judged by itself.

    It is answered by a list: for each an error code, 0 for granted.

    Attributes:
        leader: The broker that leads them.
        wanted: (topic, partition, partition id, leader epoch, partition epoch, members), as in
            `AlterInSync`; the id tells a topic from an earlier one of the same name, whose epochs
            began at the same numbers.
    """

    leader: int
    wanted: tuple[tuple[str, int, int, int, int, tuple[tuple[int, int], ...]], ...]


@_kind(8)
class Reassign:
    """Move partitions: (topic, partition, replicas); None cancels what is under way."""

    moves: tuple[tuple[str, int, tuple[int, ...] | None], ...]


@_kind(9)
class SetReplicationFactor:
    """Give every partition of a topic so many replicas."""

    topic: str
    factor: int


@_kind(10)
class ElectLeaders:
    """Elect anew: the preferred leaders, or with ``unclean`` anybody who lives.

    Attributes:
        partitions: (topic, partition); None for all.
        unclean: Take any living replica for a partition without a leader, and accept that
            acknowledged records may be lost.
    """

    partitions: tuple[tuple[str, int], ...] | None
    unclean: bool


@_kind(12)
class SetVote:
    """Wish that a broker has a vote on metadata, or has none; the controller sees to it."""

    broker_id: int
    wanted: bool


@_kind(13)
class ReplaceBroker:
    """Have ``new_id`` take everything over from ``old_id``, which is removed at the end."""

    old_id: int
    new_id: int


@_kind(14)
class CancelReplace:
    """Call a replacement off; what is not moved yet stays where it was."""

    old_id: int


@_kind(15)
class SetClusterSettings:
    """Set settings of the whole cluster, already typed; None takes one back."""

    settings: tuple[tuple[str, int | None], ...]


ClusterCommand = (
    FormCluster
    | RegisterBroker
    | FenceBroker
    | LeaveBroker
    | SetMaintenance
    | SetReadOnly
    | RemoveBroker
    | AlterInSync
    | AlterInSyncs
    | Reassign
    | SetReplicationFactor
    | ElectLeaders
    | TakeProducerIds
    | SetVote
    | ReplaceBroker
    | CancelReplace
    | SetClusterSettings
    | CreateTopic
    | AlterTopic
    | DeleteTopic
)

_KIND_OF = {command: kind for kind, command in _KINDS.items()}


def encode_command(command: ClusterCommand) -> bytes:
    """Encode a command for the log."""
    row = [getattr(command, field.name) for field in fields(command)]
    packed: bytes = msgpack.packb([FORMAT_VERSION, _KIND_OF[type(command)], *row])
    return packed


def decode_command(data: bytes) -> ClusterCommand:
    """Decode a command from the log.

    Raises:
        ValueError: It is of a later version, or no command.
    """
    try:
        version, kind, *row = msgpack.unpackb(data, use_list=False)
        if version != FORMAT_VERSION or kind not in _KINDS:
            raise ValueError(f"metadata command of version {version}, kind {kind}")
        command: ClusterCommand = _KINDS[kind](*row)
    except (TypeError, ValueError, msgpack.UnpackException) as exc:
        raise ValueError(f"not a metadata command: {exc}") from exc
    return command
