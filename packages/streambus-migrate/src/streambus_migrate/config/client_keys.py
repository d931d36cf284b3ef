"""What producers and consumers of Kafka have in common, and their StreamBus keyword arguments.

Source: org.apache.kafka.clients.CommonClientConfigs, Kafka 3.9.
"""

from __future__ import annotations

from streambus_migrate.config.rules import Rows, Target, becomes, not_needed, not_supported
from streambus_migrate.config.security_keys import client_security
from streambus_migrate.config.values import InvalidValueError, endpoint, integer, items, text

FRAME_BYTES_MAX = 16 * 1024 * 1024
CLIENT_METRICS = "clients keep no metrics of their own; the broker's /metrics has the rates"

CLIENT_TARGETS = {
    "brokers": Target(str),
    "client_id": Target(str, default="streambus"),
    "connect_timeout_ms": Target(int, minimum=1, default=10_000),
    "request_timeout_ms": Target(int, minimum=1, default=30_000),
    "retry_backoff_ms": Target(int, minimum=1, default=50),
    "retry_backoff_ms_max": Target(int, minimum=1, default=1_000),
    "metadata_age_ms_max": Target(int, minimum=1, default=300_000),
}


def servers(value: str) -> str:
    """Convert ``bootstrap.servers``: drop listener names, keep the order."""
    addresses = [endpoint(part) for part in items(value)]
    if not addresses or not all(host and port for _, host, port in addresses):
        raise InvalidValueError("is not HOST:PORT,…")
    return ",".join(f"{host}:{port}" for _, host, port in addresses)


def shared_client() -> Rows:
    """Rows that hold for producers and consumers alike."""
    brokers = "name the StreamBus brokers here when you move"
    yield from becomes("bootstrap.servers", "brokers", servers, brokers)
    yield from becomes("client.id", "client_id", text)
    yield from becomes("request.timeout.ms", "request_timeout_ms", integer)
    yield from becomes("retry.backoff.ms", "retry_backoff_ms", integer)
    yield from becomes("retry.backoff.max.ms", "retry_backoff_ms_max", integer)
    yield from becomes("metadata.max.age.ms", "metadata_age_ms_max", integer)
    yield from becomes("socket.connection.setup.timeout.ms", "connect_timeout_ms", integer)
    yield from not_needed(
        "a new attempt waits as after any other failure: retry_backoff_ms",
        "reconnect.backoff.ms reconnect.backoff.max.ms",
    )
    yield from not_needed(
        "the time to connect does not grow; connect_timeout_ms is the limit of each attempt",
        "socket.connection.setup.timeout.max.ms",
    )
    yield from not_needed("every address that a name resolves to is tried", "client.dns.lookup")
    yield from not_needed(
        "the operating system sizes them", "send.buffer.bytes receive.buffer.bytes"
    )
    yield from not_needed(
        "the broker closes idle connections (idle_timeout_ms), and clients reconnect",
        "connections.max.idle.ms",
    )
    yield from not_needed(
        CLIENT_METRICS,
        """metrics.sample.window.ms metrics.num.samples metrics.recording.level
        enable.metrics.push auto.include.jmx.reporter""",
    )
    yield from not_supported(CLIENT_METRICS, "metric.reporters", harmless=[""])
    yield from not_supported(
        "there are no interceptors; wrap the call in your program", "interceptor.classes", [""]
    )
    yield from not_needed(
        "clients that lost every broker begin again from the addresses they were given",
        "metadata.recovery.strategy metadata.recovery.rebootstrap.trigger.ms",
    )
    yield from client_security()
