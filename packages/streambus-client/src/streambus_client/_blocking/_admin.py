"""The blocking administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_client._admin_operations import (
    alter_topic,
    broker_health,
    cluster_info,
    create_topic,
    delete_topic,
    describe_topic,
    list_topics,
    topic_offsets,
)
from streambus_client._blocking._driver import BlockingClient
from streambus_client._cluster_operations import (
    alter_member,
    describe_cluster,
    elect_leaders,
    reassign,
    set_replication_factor,
)
from streambus_client._comparing import compare_replicas
from streambus_client._copies import (
    alter_cluster,
    copy_progress,
    rebalance,
    replace_broker,
)
from streambus_client._options import ClientOptions
from streambus_client._settings import alteration_text, config_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from random import Random

    from streambus_client._cluster_operations import (
        ClusterDescription,
        Election,
        MemberAction,
    )
    from streambus_client._comparing import ReplicaDifference
    from streambus_client._copies import ClusterSetting, CopyProgress, ReplicaMove
    from streambus_client._types import (
        BrokerHealth,
        ClusterInfo,
        PartitionOffsets,
        Timestamp,
        TopicDescription,
        TopicListing,
        TopicPartition,
    )


class Admin(BlockingClient):
    """Creates, lists, describes, alters and deletes topics, and looks at the cluster. Thread-safe.

    Every call is tried again, at whichever broker is in charge, until ``request_timeout_ms`` is
    over; then it raises what stood in the way last. A call that was cut off may have taken effect.

    Args:
        brokers: ``"host:port,host:port"``, or a sequence of such strings; any of the cluster.
        request_timeout_ms: for one call, retries included.
        connect_timeout_ms: for one connection.
        retry_backoff_ms: the first pause between attempts; it doubles.
        retry_backoff_ms_max: the longest.
        client_id: how the brokers' logs name this client.
        random: the dice of jitter; give a seeded one to repeat a run.

    Raises:
        InvalidArgumentError: a value cannot be used. Nothing is connected before the first call.
    """

    def __init__(
        self,
        brokers: str | Sequence[str],
        *,
        request_timeout_ms: float = 30_000,
        connect_timeout_ms: float = 10_000,
        retry_backoff_ms: float = 50,
        retry_backoff_ms_max: float = 1_000,
        client_id: str = "streambus",
        random: Random | None = None,
    ) -> None:
        super().__init__(
            ClientOptions.make(
                brokers,
                client_id=client_id,
                connect_timeout_ms=connect_timeout_ms,
                request_timeout_ms=request_timeout_ms,
                retry_backoff_ms=retry_backoff_ms,
                retry_backoff_ms_max=retry_backoff_ms_max,
                metadata_age_ms_max=300_000,
                random=random,
            )
        )

    def create_topic(
        self,
        name: str,
        *,
        partitions: int = -1,
        replication_factor: int = -1,
        config: Mapping[str, object] | None = None,
        validate_only: bool = False,
    ) -> None:
        """Create a topic.

        Args:
            name: 1 to 249 of the characters a-z A-Z 0-9 . _ -
            partitions: 1 or more; -1 is the cluster's default.
            replication_factor: 1 to the number of brokers; -1 is the cluster's default.
            config: settings, such as ``{"retention_ms": 3_600_000}``; see the broker's README.
            validate_only: only say, by an error or none, whether it could be created.

        Raises:
            TopicExistsError: there is one of this name.
            InvalidTopicError: name, partitions or replication factor are not acceptable.
            InvalidSettingError: a setting is unknown or out of range.
            BrokerUnreachableError: no broker answered in time.
        """
        self._run(
            create_topic(
                self._session,
                name,
                partitions,
                replication_factor,
                config_text(config or {}),
                validate_only,
                self._deadline(),
            )
        )

    def list_topics(self) -> list[TopicListing]:
        """List all topics, by name.

        Raises:
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(list_topics(self._session, self._deadline()))

    def describe_topic(self, name: str) -> TopicDescription:
        """Give everything about one topic: partitions, replicas, offsets, settings.

        Raises:
            TopicNotFoundError: there is no such topic.
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(describe_topic(self._session, name, self._deadline()))

    def alter_topic(
        self,
        name: str,
        *,
        partitions: int | None = None,
        config: Mapping[str, object | None] | None = None,
        validate_only: bool = False,
    ) -> None:
        """Change a topic, whole or not at all.

        Args:
            name: an existing topic.
            partitions: how many it shall have, never fewer than now; None keeps them. Keyed
                records written from then on may go to other partitions than before.
            config: settings to change; None as a value goes back to the default.
            validate_only: only say, by an error or none, whether it could be done.

        Raises:
            TopicNotFoundError: there is no such topic.
            InvalidTopicError: fewer partitions than now.
            InvalidSettingError: a setting is unknown or out of range.
            BrokerUnreachableError: no broker answered in time.
        """
        self._run(
            alter_topic(
                self._session,
                name,
                -1 if partitions is None else partitions,
                alteration_text(config or {}),
                validate_only,
                self._deadline(),
            )
        )

    def delete_topic(self, name: str, *, validate_only: bool = False) -> None:
        """Delete a topic with all its records.

        Args:
            name: an existing topic.
            validate_only: only say, by an error or none, whether it could be deleted.

        Raises:
            TopicNotFoundError: there is no such topic.
            BrokerUnreachableError: no broker answered in time.
        """
        self._run(delete_topic(self._session, name, validate_only, self._deadline()))

    def offsets(self, name: str, *, time: Timestamp | None = None) -> list[PartitionOffsets]:
        """Give the ends of every partition of a topic, and the offsets for a time.

        Raises:
            TopicNotFoundError: there is no such topic.
            BrokerUnreachableError: no broker answered in time.
        """
        time_ms = None if time is None else time.ms
        return self._run(topic_offsets(self._session, name, time_ms, self._deadline()))

    def cluster(self) -> ClusterInfo:
        """Give the cluster as one broker sees it.

        Raises:
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(cluster_info(self._session, self._deadline()))

    def health(self) -> list[BrokerHealth]:
        """Ask every broker how it is; one that does not answer is reported as not live.

        Raises:
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(broker_health(self._session, self._deadline()))

    def describe_cluster(self) -> ClusterDescription:
        """Give members and partitions that need attention, as the controller sees them.

        Raises:
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(describe_cluster(self._session, self._deadline()))

    def alter_member(self, node_id: int, action: MemberAction) -> None:
        """Change one member of the cluster.

        Args:
            node_id: which.
            action: ``promote`` (to voter of the metadata group, once it has caught up),
                ``demote``, ``remove`` (it holds nothing any more), ``transfer`` (make it the
                controller),
                ``maintenance_on`` (leadership and new replicas stay away), ``maintenance_off``.

        Raises:
            BrokerError: it cannot be done; the error says why.
            BrokerUnreachableError: no broker answered in time.
        """
        self._run(alter_member(self._session, node_id, action, self._deadline()))

    def reassign(self, moves: Mapping[TopicPartition, Sequence[int] | None]) -> None:
        """Move partitions to other brokers in the background, all or none.

        Args:
            moves: for each partition the node ids of its replicas, the preferred leader first;
                None cancels what is under way.

        Raises:
            TopicNotFoundError, PartitionNotFoundError: as they say.
            BrokerError: a broker is unknown, or nothing is under way that could be cancelled.
            BrokerUnreachableError: no broker answered in time.
        """
        self._run(reassign(self._session, moves, self._deadline()))

    def set_replication_factor(self, topic: str, factor: int) -> None:
        """Give every partition of a topic so many replicas; the cluster chooses where.

        Raises:
            TopicNotFoundError: there is no such topic.
            BrokerError: there are not so many brokers.
            BrokerUnreachableError: no broker answered in time.
        """
        self._run(set_replication_factor(self._session, topic, factor, self._deadline()))

    def elect_leaders(
        self, partitions: Iterable[TopicPartition] | None = None, *, unclean: bool = False
    ) -> Election:
        """Give partitions back to their preferred leaders, where those are in sync.

        Args:
            partitions: which; None for all.
            unclean: for partitions without a leader, take any replica that is alive, although it
                was not in sync. Acknowledged records may be lost; the warnings say of which.

        Raises:
            TopicNotFoundError, PartitionNotFoundError: as they say.
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(elect_leaders(self._session, partitions, unclean, self._deadline()))

    def copy_progress(self, partitions: Iterable[TopicPartition] | None = None) -> CopyProgress:
        """Tell how far copies of replicas are, in bytes, with rate and time left.

        Args:
            partitions: which; None for all that have a replica that is not in sync.

        Raises:
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(copy_progress(self._session, partitions, self._deadline()))

    def rebalance(
        self, *, dry_run: bool = False, leaders_only: bool = False
    ) -> tuple[ReplicaMove, ...]:
        """Spread replicas and preferred leaders evenly over the brokers, by the fewest moves.

        Args:
            dry_run: only tell what would be moved.
            leaders_only: move no replica.

        Raises:
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(rebalance(self._session, dry_run, leaders_only, self._deadline()))

    def replace_broker(
        self, old_id: int, new_id: int, *, dry_run: bool = False
    ) -> tuple[ReplicaMove, ...]:
        """Have a broker take everything over from another, which is removed at the end.

        The cluster goes on with it by itself; ``copy_progress`` and ``describe_cluster`` tell how
        far it is.

        Args:
            old_id: the broker that goes, alive or dead.
            new_id: the one that takes its replicas, its leaderships and its vote.
            dry_run: only tell what would be moved.

        Raises:
            BrokerError: it cannot be done; the error says why.
            BrokerUnreachableError: no broker answered in time.
        """
        action = "plan" if dry_run else "begin"
        return self._run(replace_broker(self._session, action, old_id, new_id, self._deadline()))

    def cancel_replacement(self, old_id: int) -> tuple[ReplicaMove, ...]:
        """Call a replacement off: what is not finished goes back, and gives its space back.

        Raises:
            BrokerError: the broker is not being replaced.
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(replace_broker(self._session, "cancel", old_id, -1, self._deadline()))

    def alter_cluster(
        self, settings: Mapping[str, object | None] | None = None
    ) -> tuple[ClusterSetting, ...]:
        """Set settings that hold for the whole cluster from now on; give all of them.

        Args:
            settings: ``default_replication_factor``, ``default_partitions`` or
                ``replication_throttle_bytes_per_s``; None as a value leaves it to the brokers.

        Raises:
            InvalidSettingError: a setting is unknown or out of range.
            BrokerUnreachableError: no broker answered in time.
        """
        return self._run(alter_cluster(self._session, settings or {}, self._deadline()))

    def compare_replicas(
        self, partition: TopicPartition, replicas: Sequence[int]
    ) -> tuple[int, tuple[ReplicaDifference, ...]]:
        """Compare what replicas of a partition hold and know to be committed, byte by byte.

        Reads all of it from the brokers' disks, in small pieces.

        Args:
            partition: which.
            replicas: the brokers whose replicas to compare.

        Returns:
            How many bytes of each were compared, and what was found.
        """
        return self._run(compare_replicas(self._session, partition, replicas, self._deadline()))
