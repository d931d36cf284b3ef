"""The metadata state machine: commands in, changes out; pure, so that every broker agrees.

A command is judged against the state by `Registry.plan`, which gives the `Changes` to store or
raises `CommandError`; once they are stored, `Registry.adopt` makes them the state. Random choices
(topic ids) and the broker's own limits come in with the command.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streambus_broker.errors import BrokerError
from streambus_broker.metadata.records import ClusterRecord, PartitionRecord, TopicRecord
from streambus_protocol import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping

TOPIC_NAME_CHARACTERS_MAX = 249  # as Kafka, so that names move over unchanged
PARTITIONS_PER_TOPIC_MAX = 10_000
_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]+")


class CommandError(BrokerError):
    """A command cannot be carried out; the state is unchanged.

    Attributes:
        code: What the client is answered.
        detail: What was wrong and what to do.
    """

    def __init__(self, code: ErrorCode, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class CreateTopic:
    """Create a topic. ``brokers`` are those that may hold replicas."""

    name: str
    topic_id: bytes
    partitions: int
    replication_factor: int
    overrides: Mapping[str, int | bool | str]
    brokers: tuple[int, ...]
    partitions_max: int


@dataclass(frozen=True, slots=True)
class AlterTopic:
    """Change a topic: more partitions (-1: as many as now), settings set, settings taken back."""

    name: str
    partitions: int
    overrides: Mapping[str, int | bool | str]
    reset: tuple[str, ...]
    brokers: tuple[int, ...]
    partitions_max: int


@dataclass(frozen=True, slots=True)
class DeleteTopic:
    """Delete a topic, unless it has another id; its records are reclaimed afterwards."""

    name: str
    topic_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """The records of these deleted partitions are gone."""

    partition_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """The only broker of a single-node cluster starts: every leader epoch rises by one."""


@dataclass(frozen=True, slots=True)
class TakeProducerIds:
    """Take so many producer ids out of the count, for good."""

    count: int


Command = CreateTopic | AlterTopic | DeleteTopic | Reclaimed | NodeStarted | TakeProducerIds


@dataclass(frozen=True, slots=True)
class Changes:
    """What a command changes.

    Attributes:
        topics: Topics in their new form.
        deleted: Names of topics that are no more.
        cluster: The cluster record in its new form, or None where it is unchanged.
    """

    topics: tuple[TopicRecord, ...] = ()
    deleted: tuple[str, ...] = ()
    cluster: ClusterRecord | None = None


@dataclass(slots=True)
class Registry:
    """The state: what every broker knows of the cluster."""

    cluster: ClusterRecord
    topics: dict[str, TopicRecord] = field(default_factory=dict)

    @property
    def partition_count(self) -> int:
        """Partitions of all topics together."""
        return sum(len(topic.partitions) for topic in self.topics.values())

    def plan(self, command: Command) -> Changes:
        """Judge a command.

        Raises:
            CommandError: It cannot be carried out.
        """
        match command:
            case CreateTopic():
                return self._create(command)
            case AlterTopic():
                return self._alter(command)
            case DeleteTopic():
                return self._delete(command)
            case Reclaimed():
                rest = (i for i in self.cluster.reclaiming if i not in command.partition_ids)
                return Changes(cluster=dataclasses.replace(self.cluster, reclaiming=tuple(rest)))
            case NodeStarted():
                generation = self.cluster.generation + 1
                return Changes(cluster=dataclasses.replace(self.cluster, generation=generation))
            case TakeProducerIds():
                first = self.cluster.next_producer_id + command.count
                return Changes(cluster=dataclasses.replace(self.cluster, next_producer_id=first))

    def adopt(self, changes: Changes) -> None:
        """Make stored changes the state."""
        for topic in changes.topics:
            self.topics[topic.name] = topic
        for name in changes.deleted:
            del self.topics[name]
        if changes.cluster is not None:
            self.cluster = changes.cluster

    def _create(self, command: CreateTopic) -> Changes:
        check_topic_name(command.name)
        if self.is_made(command):
            return Changes()
        if command.name in self.topics:
            raise CommandError(
                ErrorCode.TOPIC_EXISTS,
                f"topic {command.name!r} exists; choose another name, or delete it first",
            )
        factor = 1 if command.replication_factor == -1 else command.replication_factor
        if not 1 <= factor <= len(command.brokers):
            raise CommandError(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"replication factor {command.replication_factor} with {len(command.brokers)}"
                f" broker(s); use 1 to {len(command.brokers)}, or -1 for the default",
            )
        self._check_count(command.partitions, command.partitions, command.partitions_max)
        partitions = self._new_partitions(command.partitions, factor, command.brokers)
        topic = TopicRecord(command.name, command.topic_id, partitions, dict(command.overrides))
        return Changes(topics=(topic,), cluster=self._after(command.partitions))

    def is_made(self, command: CreateTopic) -> bool:
        """Whether this very command was carried out before: its answer was lost."""
        known = self.topics.get(command.name)
        return known is not None and known.topic_id == command.topic_id

    def _alter(self, command: AlterTopic) -> Changes:
        topic = self._existing(command.name)
        overrides = {**topic.overrides, **command.overrides}
        for key in command.reset:
            overrides.pop(key, None)
        count = len(topic.partitions)
        wanted = count if command.partitions == -1 else command.partitions
        if wanted < count:
            raise CommandError(
                ErrorCode.INVALID_PARTITIONS,
                f"topic {topic.name!r} has {count} partitions, which cannot become {wanted};"
                " partitions can only be added",
            )
        added: tuple[PartitionRecord, ...] = ()
        if wanted > count:
            self._check_count(wanted, wanted - count, command.partitions_max)
            factor = len(topic.partitions[0].replicas)
            added = self._new_partitions(wanted - count, factor, command.brokers, first=count)
        altered = dataclasses.replace(
            topic, partitions=topic.partitions + added, overrides=overrides
        )
        return Changes(topics=(altered,), cluster=self._after(len(added)) if added else None)

    def _delete(self, command: DeleteTopic) -> Changes:
        topic = self._existing(command.name)
        if command.topic_id not in (b"", topic.topic_id):
            raise CommandError(
                ErrorCode.UNKNOWN_TOPIC,
                f"topic {command.name!r} was deleted already; the one of that name is another one",
            )
        ids = tuple(partition.partition_id for partition in topic.partitions)
        cluster = dataclasses.replace(self.cluster, reclaiming=self.cluster.reclaiming + ids)
        return Changes(deleted=(command.name,), cluster=cluster)

    def _existing(self, name: str) -> TopicRecord:
        topic = self.topics.get(name)
        if topic is None:
            raise CommandError(ErrorCode.UNKNOWN_TOPIC, f"topic {name!r} does not exist")
        return topic

    def _check_count(self, wanted: int, added: int, partitions_max: int) -> None:
        if not 1 <= wanted <= PARTITIONS_PER_TOPIC_MAX:
            raise CommandError(
                ErrorCode.INVALID_PARTITIONS,
                f"{wanted} partitions; a topic has 1 to {PARTITIONS_PER_TOPIC_MAX}",
            )
        if self.partition_count + added > partitions_max:
            raise CommandError(
                ErrorCode.INVALID_PARTITIONS,
                f"{added} more partitions would exceed the limit of {partitions_max} in all;"
                " delete topics, or raise partitions_max",
            )

    def _new_partitions(
        self, count: int, factor: int, brokers: tuple[int, ...], first: int = 0
    ) -> tuple[PartitionRecord, ...]:
        """Place new partitions: leaders and replicas round robin over the brokers."""
        made = []
        for index in range(count):
            start = first + index
            replicas = tuple(brokers[(start + step) % len(brokers)] for step in range(factor))
            partition_id = self.cluster.next_partition_id + index
            epoch = self.cluster.generation
            made.append(PartitionRecord(partition_id, replicas, replicas[0], epoch, replicas))
        return tuple(made)

    def _after(self, added: int) -> ClusterRecord:
        next_id = self.cluster.next_partition_id + added
        return dataclasses.replace(self.cluster, next_partition_id=next_id)


def check_topic_name(name: str) -> None:
    """Refuse a name that is empty, too long, ``.`` or ``..``, or holds other characters.

    Raises:
        CommandError: It is one of these.
    """
    if not _TOPIC_NAME.fullmatch(name) or name in (".", ".."):
        problem = "is not made of letters, digits, '.', '_' and '-'"
    elif len(name) > TOPIC_NAME_CHARACTERS_MAX:
        problem = f"has {len(name)} characters, more than {TOPIC_NAME_CHARACTERS_MAX}"
    else:
        return
    raise CommandError(ErrorCode.INVALID_TOPIC_NAME, f"topic name {name[:300]!r} {problem}")
