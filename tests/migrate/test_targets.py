"""The tables hold what the broker and the client really take: names, ranges, defaults."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path

import pytest

from streambus_broker.config import BrokerConfig, TopicSettings, load_config
from streambus_broker.config.table import settings_of
from streambus_broker.config.topics import parse_topic_settings
from streambus_client import AsyncConsumer, AsyncProducer, Consumer, Producer
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


@pytest.mark.parametrize(
    ("kind", "clients"),
    [("producer", [Producer, AsyncProducer]), ("consumer", [Consumer, AsyncConsumer])],
)
def test_client_targets_are_real_arguments(kind: str, clients: list[type]) -> None:
    for client in clients:
        parameters = inspect.signature(client).parameters
        for name, target in TABLES[kind].targets.items():
            assert name in parameters, f"{name} is no argument any more; correct the {kind} keys"
            default = parameters[name].default
            expected = inspect.Parameter.empty if name == "brokers" else target.default
            assert default == expected, f"the default of {name} has changed; correct its target"


@pytest.mark.parametrize(
    ("kind", "client", "extreme"),
    [
        ("producer", Producer, "batch.size=0\nbuffer.memory=1\nlinger.ms=0\nretries=2147483647"),
        ("producer", Producer, "batch.size=2147483647\nretry.backoff.ms=99999\nacks=0"),
        ("producer", Producer, "partitioner.ignore.keys=true\nretry.backoff.max.ms=1"),
        ("consumer", Consumer, "fetch.max.bytes=2147483647\nfetch.min.bytes=0"),
        ("consumer", Consumer, "max.partition.fetch.bytes=1\nauto.offset.reset=none"),
        ("producer", Producer, None),
        ("consumer", Consumer, None),
    ],
)
def test_clients_take_what_is_written(
    kind: str, client: type[Producer | Consumer], extreme: str | None, tmp_path: Path
) -> None:
    content = (FILES / f"{kind}.properties").read_bytes()
    if extreme is not None:
        content = b"bootstrap.servers=localhost:9092\n" + extreme.encode()
    (section,) = parse("f", content)
    conversion = convert(section, TABLES[kind])
    assert conversion.settings["brokers"]
    settings = tomllib.loads(as_toml("f", conversion))
    client(**settings).close()


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
