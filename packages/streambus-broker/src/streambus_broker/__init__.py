"""The StreamBus broker: durable topics on an embedded storage engine, one node or a cluster.

Start here: `streambus_broker.config` says what can be set, `streambus_broker.errors` what can go
wrong at the start.
"""

from streambus_broker._version import __version__
from streambus_broker.config import BrokerConfig, TopicSettings
from streambus_broker.errors import BrokerError, ConfigError

__all__ = ["BrokerConfig", "BrokerError", "ConfigError", "TopicSettings", "__version__"]
