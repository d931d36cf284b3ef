"""What may be proposed to the metadata group, and its form in the log.

``[version, kind, field, ...]`` as msgpack; kinds are never reused, fields are added at the end with
a default. A command carries everything that its outcome depends on beside the state itself.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import msgpack

from streambus_broker.metadata.registry import (
    AlterTopic,
    CreateTopic,
    DeleteTopic,
    TakeProducerIds,
)

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class FormCluster:
    """Give a new cluster its id; later ones change nothing."""

    cluster_id: str


@dataclass(frozen=True, slots=True)
class RegisterBroker:
    """A broker begins a session."""

    broker_id: int
    incarnation: bytes
    storage_id: bytes
    host: str
    port: int
    rack: str | None


@dataclass(frozen=True, slots=True)
class FenceBroker:
    """A broker's session is over: elect others, count on it no more."""

    broker_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class LeaveBroker:
    """A broker is about to shut down: elect others first."""

    broker_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class SetMaintenance:
    """Keep leadership and new replicas away from a broker, or no longer."""

    broker_id: int
    on: bool


@dataclass(frozen=True, slots=True)
class RemoveBroker:
    """Forget a broker that holds nothing."""

    broker_id: int


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Reassign:
    """Move partitions: (topic, partition, replicas); None cancels what is under way."""

    moves: tuple[tuple[str, int, tuple[int, ...] | None], ...]


@dataclass(frozen=True, slots=True)
class SetReplicationFactor:
    """Give every partition of a topic so many replicas."""

    topic: str
    factor: int


@dataclass(frozen=True, slots=True)
class ElectLeaders:
    """Elect anew: the preferred leaders, or with ``unclean`` anybody who lives.

    Attributes:
        partitions: (topic, partition); None for all.
        unclean: Take any living replica for a partition without a leader, and accept that
            acknowledged records may be lost.
    """

    partitions: tuple[tuple[str, int], ...] | None
    unclean: bool


ClusterCommand = (
    FormCluster
    | RegisterBroker
    | FenceBroker
    | LeaveBroker
    | SetMaintenance
    | RemoveBroker
    | AlterInSync
    | Reassign
    | SetReplicationFactor
    | ElectLeaders
    | TakeProducerIds
    | CreateTopic
    | AlterTopic
    | DeleteTopic
)

_KINDS: dict[int, type[Any]] = {
    1: FormCluster,
    2: RegisterBroker,
    3: FenceBroker,
    4: LeaveBroker,
    5: SetMaintenance,
    6: RemoveBroker,
    7: AlterInSync,
    8: Reassign,
    9: SetReplicationFactor,
    10: ElectLeaders,
    11: TakeProducerIds,
    20: CreateTopic,
    21: AlterTopic,
    22: DeleteTopic,
}
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
