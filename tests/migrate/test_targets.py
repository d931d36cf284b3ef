"""The tables hold what the broker and the client really take: names, ranges, defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from streambus_broker.config import BrokerConfig, TopicSettings, load_config
from streambus_broker.config.table import settings_of
from streambus_broker.config.topics import parse_topic_settings
from streambus_migrate.config.conversion import convert
from streambus_migrate.config.kinds import TABLES
from streambus_migrate.config.properties import parse
from streambus_migrate.config.report import as_toml
from streambus_migrate.config.rules import Target

FILES = Path(__file__).parent / "files"


@pytest.mark.parametrize(("kind", "model"), [("server", BrokerConfig), ("topic", TopicSettings)])
def test_broker_and_topic_targets_are_real_settings(kind: str, model: type) -> None:
    real = settings_of(model)
    for name, target in TABLES[kind].targets.items():
        assert name in real, f"{name} is no setting any more; correct the table of {kind} keys"
        kind_of_value, default, facts = real[name]
        assert target == Target(
            kind_of_value,
            facts.minimum,
            facts.maximum,
            facts.unlimited,
            facts.choices,
            default,
        ), f"{name} has changed; correct its target in the table of {kind} keys"


def converted_toml(name: str, kind: str, tmp_path: Path) -> Path:
    path = FILES / name
    (section,) = parse(str(path), path.read_bytes())
    written = tmp_path / "streambus.toml"
    written.write_text(as_toml(str(path), convert(section, TABLES[kind])), encoding="utf-8")
    return written


@pytest.mark.parametrize("name", ["zookeeper-broker.properties", "kraft-server.properties"])
def test_broker_loads_what_is_written(name: str, tmp_path: Path) -> None:
    written = converted_toml(name, "server", tmp_path)
    loaded = load_config(str(written), {}, {"insecure": True})
    assert loaded.config.default_retention_ms == 7 * 24 * 3600 * 1000
    assert loaded.config.default_partitions == 3
    assert loaded.config.data_dir.endswith("-streambus")
    assert loaded.warnings == []


def test_topics_take_what_is_written(tmp_path: Path) -> None:
    path = FILES / "topic.properties"
    (section,) = parse(str(path), path.read_bytes())
    settings = convert(section, TABLES["topic"]).settings
    values, problems = parse_topic_settings({key: str(value) for key, value in settings.items()})
    assert problems == []
    assert values == settings
    assert TopicSettings().overridden(values).retention_ms == 86_400_000
