"""Settings of a topic: one typed table with ranges and defaults.

A topic stores only what differs from the broker's defaults (``default_<setting>`` in the broker's
configuration), so that a changed default reaches every topic that did not decide for itself.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from streambus_broker.config.table import (
    DAY_MS,
    INT64_MAX,
    KIB,
    MIB,
    check_settings,
    parse_settings,
    setting,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streambus_broker.errors import SettingError

MIN_INSYNC_REPLICAS_MAX = 32_767
MAX_MESSAGE_BYTES_MAX = 15 * MIB  # leaves room for the rest of a 16 MiB request


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSettings:
    """The effective settings of one topic; an object that exists is valid.

    Raises:
        ConfigError: A value is out of its range.
    """

    retention_ms: int = setting(
        7 * DAY_MS,
        "age in ms after which records may be deleted, by the batch's largest timestamp",
        minimum=0,
        maximum=INT64_MAX,
        unlimited=True,
    )
    retention_bytes: int = setting(
        -1,
        "bytes kept for each partition; the oldest batches beyond are deleted",
        minimum=0,
        maximum=INT64_MAX,
        unlimited=True,
    )
    max_message_bytes: int = setting(
        MIB,
        "largest record batch in bytes, as it travels (compressed, header included)",
        minimum=KIB,
        maximum=MAX_MESSAGE_BYTES_MAX,
    )
    compression: str = setting(
        "producer",
        "codec at rest; 'producer' keeps each batch as it was sent, any other recompresses",
        choices=("producer", "none", "zstd", "lz4", "snappy", "gzip"),
    )
    message_timestamp_type: str = setting(
        "create_time",
        "whose clock stamps records: the producer's (create_time) or the broker's (append_time)",
        choices=("create_time", "append_time"),
    )
    min_insync_replicas: int = setting(
        -1,
        "replicas that must have a record on disk before acks=all is answered and consumers see"
        " it; -1 means a majority, more than there are replicas means all",
        minimum=1,
        maximum=MIN_INSYNC_REPLICAS_MAX,
        unlimited=True,
    )
    cleanup_policy: str = setting(
        "delete",
        "what happens to old records; 'delete' removes them by retention_ms and retention_bytes",
        choices=("delete",),
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def overridden(self, overrides: Mapping[str, object]) -> Self:
        """Return these settings with already parsed ``overrides`` on top.

        Raises:
            ConfigError: A value is out of its range.
        """
        return dataclasses.replace(self, **overrides)  # type: ignore[arg-type]  # parsed by key


def parse_topic_settings(
    values: Mapping[str, object],
) -> tuple[dict[str, int | bool | str], list[SettingError]]:
    """Parse what a user wrote for a topic; return the right ones and an error for each other."""
    return parse_settings(TopicSettings, values)
