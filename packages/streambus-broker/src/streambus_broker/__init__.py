"""The StreamBus broker: durable topics on an embedded storage engine, one node or a cluster.

Start here: `Broker` runs on an event loop (``async with Broker(config) as broker``),
`EmbeddedBroker` in a thread of its own; ``streambus serve`` runs one as a process. `node` is what
a broker knows and holds, `api` the requests, `log` the partition logs, `metadata` the topics,
`network` the connections, `observe` logs, metrics, health and traces.
"""

from typing import TYPE_CHECKING, Any

from streambus_broker._version import __version__
from streambus_broker.config import BrokerConfig, TopicSettings
from streambus_broker.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from streambus_broker.broker import Broker
    from streambus_broker.embedded import EmbeddedBroker

__all__ = [
    "Broker",
    "BrokerConfig",
    "BrokerError",
    "ConfigError",
    "EmbeddedBroker",
    "TopicSettings",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Load the running parts only when they are asked for: configuration alone stays cheap."""
    if name == "Broker":
        from streambus_broker.broker import Broker

        return Broker
    if name == "EmbeddedBroker":
        from streambus_broker.embedded import EmbeddedBroker

        return EmbeddedBroker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
