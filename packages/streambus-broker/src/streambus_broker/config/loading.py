"""Load the broker's configuration: file, environment, flags, in growing strength.

Every wrong value of every source is reported at once, with its key, value, source and remedy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streambus_broker.config.addresses import split_address
from streambus_broker.config.broker import BrokerConfig
from streambus_broker.config.table import nearest, parse_settings, settings_of
from streambus_broker.errors import ConfigError, SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX = "STREAMBUS_"
EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - to warn of them
CONFIG_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration and where each value that is not a default came from.

    Attributes:
        config: The configuration.
        sources: Setting → ``file PATH``, ``environment NAME`` or ``flag --name``.
        warnings: Things that look like mistakes and are not errors.
    """

    config: BrokerConfig
    sources: dict[str, str]
    warnings: list[str]


def load_config(
    path: str | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> LoadedConfig:
    """Combine file, environment and flags into one valid configuration.

    Args:
        path: A TOML file with settings as top-level keys; None for no file.
        environment: Variables; those named ``STREAMBUS_<SETTING>`` count.
        flags: Setting → value from the command line; None values are ignored.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or a value wrong.
    """
    values: dict[str, int | bool | str] = {}
    sources: dict[str, str] = {}
    problems: list[SettingError] = []
    known = settings_of(BrokerConfig)

    def take(found: Mapping[str, object], names: Mapping[str, str]) -> None:
        for key, value in found.items():
            good, bad = parse_settings(BrokerConfig, {key: value}, names.get(key, ""))
            problems.extend(bad)
            values.update(good)
            sources.update(dict.fromkeys(good, names.get(key, "")))

    if path is not None:
        written = read_config_file(path)
        take(written, dict.fromkeys(written, f"file {path}"))
    variables, warnings = _from_environment(environment or {}, list(known))
    take(variables, {key: f"environment {ENVIRONMENT_PREFIX}{key.upper()}" for key in variables})
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    take(given, {key: f"flag --{key.replace('_', '-')}" for key in given})
    if problems:
        raise ConfigError(problems)
    try:
        config = BrokerConfig(**values)  # type: ignore[arg-type]  # parsed by key
    except ConfigError as exc:
        raise ConfigError([_with_source(problem, sources) for problem in exc.problems]) from exc
    if not config.advertise and split_address(config.listen)[0] in EVERY_ADDRESS:
        warnings.append(
            f"listen = {config.listen!r} is no address that clients elsewhere can connect to; tell"
            " them one with advertise = HOST:PORT (--advertise)"
        )
    return LoadedConfig(config, sources, warnings)


def read_config_file(path: str) -> dict[str, object]:
    """Read a TOML file of settings.

    Raises:
        ConfigError: It cannot be read, is larger than 1 MiB or is not TOML.
    """
    import tomllib

    source = f"file {path}"
    try:
        with open(path, "rb") as file:
            text = file.read(CONFIG_BYTES_MAX + 1)
        if len(text) > CONFIG_BYTES_MAX:
            raise ValueError("is larger than 1 MiB")
        return tomllib.loads(text.decode())
    except OSError as exc:
        problem = f"cannot be read: {exc.strerror or exc}"
        raise ConfigError(
            [SettingError("config", path, problem, "name a readable TOML file", source)]
        ) from exc
    except ValueError as exc:  # not UTF-8, not TOML, or too large
        raise ConfigError(
            [SettingError("config", path, f"is not TOML: {exc}", "correct the file", source)]
        ) from exc


def _from_environment(
    environment: Mapping[str, str], known: list[str]
) -> tuple[dict[str, str], list[str]]:
    """Pick the settings; other ``STREAMBUS_`` variables belong to the client, or are misspelt."""
    found: dict[str, str] = {}
    warnings = []
    for name, value in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if key in known:
            found[key] = value
        elif near := nearest(key, known, cutoff=0.85):
            meant = ENVIRONMENT_PREFIX + near.upper()
            warnings.append(f"environment variable {name} is ignored; did you mean {meant}?")
    return found, warnings


def _with_source(problem: SettingError, sources: Mapping[str, str]) -> SettingError:
    source = problem.source or sources.get(problem.key, "default")
    return SettingError(problem.key, problem.value, problem.problem, problem.remedy, source)
