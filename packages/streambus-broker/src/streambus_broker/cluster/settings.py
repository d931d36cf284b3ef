"""Settings that hold for the whole cluster while it runs, above what each broker was started with.

A setting that the cluster does not have is the broker's own of the same name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streambus_broker.config.broker import BrokerConfig
from streambus_broker.config.table import parse_setting, setting, settings_of, unknown_key
from streambus_broker.errors import SettingError
from streambus_broker.metadata.registry import CommandError
from streambus_protocol import ClusterSetting, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Mapping

REPLICATION_FACTOR_MAX = 3
"""Replicas of a topic where nobody says how many: three survive the loss of one."""


def _as_broker(key: str) -> int:
    """The same setting of a single broker: its default and range hold here too."""
    _, default, facts = settings_of(BrokerConfig)[key]
    made: int = setting(
        default, facts.help, minimum=facts.minimum, maximum=facts.maximum,
        unlimited=facts.unlimited,
    )  # fmt: skip
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """The settings of a cluster."""

    default_replication_factor: int = _as_broker("default_replication_factor")
    default_partitions: int = _as_broker("default_partitions")
    replication_throttle_bytes_per_s: int = _as_broker("replication_throttle_bytes_per_s")


def parse_cluster_settings(
    values: Mapping[str, str | None],
) -> tuple[tuple[str, int | None], ...]:
    """Turn what a user wrote into what a command carries.

    Raises:
        CommandError: A setting is unknown, or its value does not fit.
    """
    parsed: list[tuple[str, int | None]] = []
    try:
        for key, value in values.items():
            if key not in settings_of(ClusterSettings):
                raise unknown_key(key, settings_of(ClusterSettings))
            parsed.append(
                (key, None if value is None else int(parse_setting(ClusterSettings, key, value)))
            )
    except SettingError as problem:
        raise CommandError(ErrorCode.INVALID_CONFIG, str(problem)) from problem
    return tuple(parsed)


def in_force(settings: Mapping[str, int], config: BrokerConfig, key: str) -> int:
    """The value of a setting: the cluster's, or else this broker's."""
    return settings.get(key, int(getattr(config, key)))


def list_in_force(settings: Mapping[str, int], config: BrokerConfig) -> tuple[ClusterSetting, ...]:
    """All of them, with where they come from."""
    return tuple(
        ClusterSetting(
            key,
            str(in_force(settings, config, key)),
            "cluster" if key in settings else "broker",
        )
        for key in settings_of(ClusterSettings)
    )
