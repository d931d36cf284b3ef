"""The dispatch table: which function serves which API in which versions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streambus_broker.api.cluster import ClusterApi
from streambus_broker.api.fetch import FetchApi
from streambus_broker.api.offsets import OffsetsApi
from streambus_broker.api.produce import ProduceApi
from streambus_broker.api.producer_ids import ProducerIds, ProducersApi, ids_of_single_broker
from streambus_broker.api.topics import TopicsApi
from streambus_broker.network.connection import ApiStats, Route
from streambus_protocol import APIS, ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streambus_broker.network.connection import Connection
    from streambus_broker.node import Node
    from streambus_broker.observe.health import Health


@dataclass(frozen=True, slots=True)
class Apis:
    """The served APIs with their counters.

    Attributes:
        routes: For the server.
        stats: API name (lower case) → counters.
    """

    routes: dict[int, Route]
    stats: dict[str, ApiStats]
    produce: ProduceApi
    fetch: FetchApi
    topics: TopicsApi


def serve_apis(
    node: Node,
    health: Callable[[], Health],
    *,
    produce_api: type[ProduceApi] = ProduceApi,
    fetch_api: type[FetchApi] = FetchApi,
    offsets_api: type[OffsetsApi] = OffsetsApi,
    cluster_api: Callable[[Node, TopicsApi, Callable[[], Health]], ClusterApi] = ClusterApi,
    producer_ids: ProducerIds | None = None,
    more: Mapping[ApiKey, Callable[[Connection, int, int, bytes], bytes | None]] | None = None,
) -> Apis:
    """Build the table for every version that the protocol speaks.

    Args:
        node: What is served.
        health: Tells how the broker does.
        produce_api: How PRODUCE is served.
        fetch_api: How FETCH is served.
        offsets_api: How LIST_OFFSETS is served.
        cluster_api: How HANDSHAKE, METADATA and HEALTH are served.
        producer_ids: Gives producer ids out; from the node's own metadata by default.
        more: Further APIs.
    """
    produce = produce_api(node)
    fetch = fetch_api(node, asyncio.get_running_loop())
    topics = TopicsApi(node)
    cluster = cluster_api(node, topics, health)
    producers = ProducersApi(node, producer_ids or ids_of_single_broker(node))
    handlers = {
        ApiKey.HANDSHAKE: cluster.handshake,
        ApiKey.METADATA: cluster.metadata,
        ApiKey.PRODUCE: produce.handle,
        ApiKey.FETCH: fetch.handle,
        ApiKey.LIST_OFFSETS: offsets_api(node).handle,
        ApiKey.CREATE_TOPICS: topics.create,
        ApiKey.DELETE_TOPICS: topics.delete,
        ApiKey.ALTER_TOPICS: topics.alter,
        ApiKey.DESCRIBE_TOPICS: topics.describe,
        ApiKey.HEALTH: cluster.health,
        ApiKey.DESCRIBE_CLUSTER: cluster.describe,
        ApiKey.INIT_PRODUCER_ID: producers.init,
        **(more or {}),
    }
    stats = {key.name.lower(): ApiStats() for key in handlers}
    routes = {
        key << 8 | version: Route(key, version, handler, stats[key.name.lower()])
        for key, handler in handlers.items()
        for version in range(APIS[key].version_min, APIS[key].version_max + 1)
    }
    return Apis(routes, stats, produce, fetch, topics)
