"""CREATE, ALTER, DELETE and DESCRIBE topics.

Changes are carried out one after the other by one worker, in the order in which they came, and
answered when they are durable.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any

from streambus_broker.config.table import setting_text, settings_of
from streambus_broker.config.topics import TopicSettings as EffectiveSettings
from streambus_broker.config.topics import parse_topic_settings
from streambus_broker.metadata.registry import AlterTopic, CommandError, CreateTopic, DeleteTopic
from streambus_broker.network.connection import error_frame, response_frame
from streambus_protocol import (
    AlterTopicsRequest,
    AlterTopicsResponse,
    ApiKey,
    CreateTopicsRequest,
    CreateTopicsResponse,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DescribeTopicsRequest,
    DescribeTopicsResponse,
    ErrorCode,
    ProtocolError,
    TopicResult,
    TopicSetting,
    TopicSettings,
    decode_message,
    encode_message,
)
from streambus_storage import StorageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping

    from streambus_broker.network.connection import Connection
    from streambus_broker.node import Node
    from streambus_protocol import NewTopic, TopicAlteration

_JOBS_MAX = 1_000


class TopicsApi:
    """The handlers, and the worker behind those that change something."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._jobs: deque[Callable[[], Awaitable[None]]] = deque()
        self._wake = asyncio.Event()

    async def work(self) -> None:
        """Carry out changes in their order, for ever."""
        while True:
            while self._jobs:
                await self._jobs.popleft()()
            self._wake.clear()
            await self._wake.wait()

    def create(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes | None:
        """Create topics.

        Raises:
            ProtocolError: The request cannot be read.
        """
        request = decode_message(CreateTopicsRequest, body, version)
        changes = (
            self._create(topic, validate_only=request.validate_only) for topic in request.topics
        )
        return self._later(
            ApiKey.CREATE_TOPICS, connection, version, correlation_id, changes,
            CreateTopicsResponse, request.timeout_ms,
        )  # fmt: skip

    def alter(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes | None:
        """Alter topics.

        Raises:
            ProtocolError: The request cannot be read.
        """
        request = decode_message(AlterTopicsRequest, body, version)
        changes = (
            self._alter(topic, validate_only=request.validate_only) for topic in request.topics
        )
        return self._later(
            ApiKey.ALTER_TOPICS, connection, version, correlation_id, changes,
            AlterTopicsResponse, request.timeout_ms,
        )  # fmt: skip

    def delete(
        self, connection: Connection, version: int, correlation_id: int, body: bytes
    ) -> bytes | None:
        """Delete topics.

        Raises:
            ProtocolError: The request cannot be read.
        """
        request = decode_message(DeleteTopicsRequest, body, version)
        ids = request.topic_ids or (b"",) * len(request.topics)
        if len(ids) != len(request.topics):
            problem = f"{len(ids)} ids for {len(request.topics)} topics"
            raise ProtocolError(problem)
        changes = (
            self._delete(name, topic_id, validate_only=request.validate_only)
            for name, topic_id in zip(request.topics, ids, strict=True)
        )
        return self._later(
            ApiKey.DELETE_TOPICS, connection, version, correlation_id, changes,
            DeleteTopicsResponse, request.timeout_ms,
        )  # fmt: skip

    def describe(
        self,
        connection: Connection,  # noqa: ARG002 - a handler's shape
        version: int,
        correlation_id: int,
        body: bytes,
    ) -> bytes:
        """Answer which settings are in force for topics.

        Raises:
            ProtocolError: The request cannot be read.
        """
        request = decode_message(DescribeTopicsRequest, body, version)
        described = tuple(self._describe(name) for name in request.topics)
        encoded = encode_message(DescribeTopicsResponse(described), version)
        return response_frame(ApiKey.DESCRIBE_TOPICS, version, correlation_id, encoded)

    def create_missing(self, names: list[str], then: Callable[[], None]) -> None:
        """Create topics with the defaults where they can be, then call ``then``."""
        if len(self._jobs) >= _JOBS_MAX:
            self._node.loop.call_soon(self._give_up, then)
            return

        async def job() -> None:
            for name in names:
                if name not in self._node.registry.topics:
                    await self._outcome(self._create_default(name))
            then()
            self._node.server.flush_dirty()

        self._enqueue(job)

    def _give_up(self, then: Callable[[], None]) -> None:
        then()
        self._node.server.flush_dirty()

    # --- one change ----------------------------------------------------------------------------

    async def _create(self, topic: NewTopic, *, validate_only: bool) -> None:
        overrides = _parsed(topic.config)
        node = self._node
        command = CreateTopic(
            topic.name,
            self._id_of(topic),
            node.default_partitions() if topic.partitions == -1 else topic.partitions,
            node.default_replication_factor()
            if topic.replication_factor == -1
            else topic.replication_factor,
            overrides,
            (node.config.node_id,),
            node.config.partitions_max,
        )
        node.registry.plan(command)
        if not validate_only:
            await node.commit(command)
            node.logger.info(
                "create_topic", "topic created", topic=topic.name, partitions=command.partitions
            )

    def _id_of(self, topic: NewTopic) -> bytes:
        """The id that a topic is to have.

        Raises:
            CommandError: It is not 16 bytes, or another topic's.
        """
        wanted = topic.topic_id
        if not wanted:
            return self._node.random.randbytes(16)
        known = self._node.registry.topics.values()
        taken = any(each.topic_id == wanted and each.name != topic.name for each in known)
        if len(wanted) != 16 or taken:
            problem = "is another topic's" if taken else f"has {len(wanted)} bytes, not 16"
            raise CommandError(ErrorCode.INVALID_REQUEST, f"the id for {topic.name!r} {problem}")
        return wanted

    async def _create_default(self, name: str) -> None:
        node = self._node
        partitions, factor = node.default_partitions(), node.default_replication_factor()
        brokers = (node.config.node_id,)
        topic_id = node.random.randbytes(16)
        await node.commit(
            CreateTopic(name, topic_id, partitions, factor, {}, brokers, node.config.partitions_max)
        )
        node.logger.info("create_topic", "topic created on demand", topic=name)

    async def _alter(self, alteration: TopicAlteration, *, validate_only: bool) -> None:
        node = self._node
        changed = {key: value for key, value in alteration.config.items() if value is not None}
        reset = tuple(key for key, value in alteration.config.items() if value is None)
        overrides = _parsed(changed)
        _parsed_keys(reset)
        command = AlterTopic(
            alteration.name,
            alteration.partitions,
            overrides,
            reset,
            (node.config.node_id,),
            node.config.partitions_max,
        )
        node.registry.plan(command)
        if not validate_only:
            await node.commit(command)
            node.logger.info("alter_topic", "topic altered", topic=alteration.name)

    async def _delete(self, name: str, topic_id: bytes, *, validate_only: bool) -> None:
        node = self._node
        node.registry.plan(DeleteTopic(name, topic_id))
        if not validate_only:
            await node.delete_topic(name, topic_id)
            node.logger.info("delete_topic", "topic deleted", topic=name)

    def _describe(self, name: str) -> TopicSettings:
        node = self._node
        topic = node.registry.topics.get(name)
        if topic is None:
            detail = f"topic {name[:300]!r} does not exist"
            return TopicSettings(ErrorCode.UNKNOWN_TOPIC, detail, ())
        defaults = node.config.topic_defaults()
        builtin = EffectiveSettings()
        effective = defaults.overridden(topic.overrides)
        settings = []
        for key in settings_of(EffectiveSettings):
            source = "topic" if key in topic.overrides else "broker"
            if source == "broker" and getattr(defaults, key) == getattr(builtin, key):
                source = "default"
            settings.append(TopicSetting(key, setting_text(getattr(effective, key)), source))
        return TopicSettings(0, None, tuple(settings), topic.topic_id)

    # --- the worker ----------------------------------------------------------------------------

    async def _outcome(
        self, change: Coroutine[Any, Any, None], ends_s: float = math.inf
    ) -> TopicResult:
        if self._node.loop.time() > ends_s:
            change.close()
            detail = "its time was over before its turn came; nothing was changed"
            return TopicResult(ErrorCode.REQUEST_TIMED_OUT, detail)
        try:
            await change
        except CommandError as error:
            return TopicResult(error.code, error.detail)
        except StorageError as error:
            code, detail = self._node.storage_failed("change_topics", error)
            return TopicResult(code, detail)
        return TopicResult(0, None)

    def _later(
        self,
        api: ApiKey,
        connection: Connection,
        version: int,
        correlation_id: int,
        changes: Iterable[Coroutine[Any, Any, None]],
        response: Callable[[tuple[TopicResult, ...]], tuple[Any, ...]],
        timeout_ms: int,
    ) -> bytes | None:
        """Have the worker make changes, each after the other; answer what became of each.

        One whose turn comes when its time is over is not made: who asked has given it up, and may
        have changed the same to something else since.
        """
        node = self._node
        ends_s = node.loop.time() + timeout_ms / 1000
        if node.closing or len(self._jobs) >= _JOBS_MAX:
            code = ErrorCode.BROKER_SHUTTING_DOWN if node.closing else ErrorCode.TOO_BUSY
            return error_frame(api, version, correlation_id, code, code.advice)
        connection.pending += 1

        async def job() -> None:
            try:
                outcomes = tuple([await self._outcome(change, ends_s) for change in changes])
                encoded = encode_message(response(outcomes), version)
                frame = response_frame(api, version, correlation_id, encoded)
            except Exception as error:  # noqa: BLE001 - the worker outlives a bad job
                node.server.unexpected(api, error)
                code = ErrorCode.INTERNAL
                frame = error_frame(api, version, correlation_id, code, code.advice)
            connection.answer_later(frame)
            node.server.flush_dirty()

        self._enqueue(job)
        return None

    def _enqueue(self, job: Callable[[], Awaitable[None]]) -> None:
        self._jobs.append(job)
        self._wake.set()


def _parsed(config: Mapping[str, str]) -> dict[str, int | bool | str]:
    good, bad = parse_topic_settings(config)
    if bad:
        detail = "; ".join(str(problem) for problem in bad)
        raise CommandError(ErrorCode.INVALID_CONFIG, detail)
    return good


def _parsed_keys(keys: tuple[str, ...]) -> None:
    unknown = [key for key in keys if key not in settings_of(EffectiveSettings)]
    if unknown:
        known = ", ".join(settings_of(EffectiveSettings))
        detail = f"unknown settings {', '.join(map(repr, unknown))}; known settings: {known}"
        raise CommandError(ErrorCode.INVALID_CONFIG, detail)
