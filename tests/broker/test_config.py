from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from streambus_broker import BrokerConfig, ConfigError, TopicSettings
from streambus_broker.config import load_config
from streambus_broker.config.table import settings_of
from streambus_broker.config.topics import parse_topic_settings

if TYPE_CHECKING:
    from pathlib import Path


def test_defaults_are_valid_and_on_loopback() -> None:
    config = BrokerConfig()
    assert config.listen == "127.0.0.1:9092"
    assert not config.insecure
    assert config.topic_defaults() == TopicSettings()


def test_every_setting_has_help_and_a_default_within_its_range() -> None:
    for table in (BrokerConfig, TopicSettings):
        for key, (kind, default, facts) in settings_of(table).items():
            assert facts.help, key
            assert isinstance(default, kind), key


def test_every_topic_setting_has_a_default_in_the_broker_table() -> None:
    names = {field.name for field in dataclasses.fields(BrokerConfig)}
    assert {f"default_{key}" for key in settings_of(TopicSettings)} <= names


def test_file_environment_and_flags_grow_in_strength(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('listen = "127.0.0.1:1"\nlog_level = "debug"\nnode_id = 7\n')
    loaded = load_config(
        str(file),
        {"STREAMBUS_LISTEN": "127.0.0.1:2", "STREAMBUS_LOG_LEVEL": "error", "PATH": "/"},
        {"listen": "127.0.0.1:3", "http": None},
    )
    assert loaded.config.listen == "127.0.0.1:3"
    assert loaded.config.log_level == "error"
    assert loaded.config.node_id == 7
    assert loaded.sources["listen"] == "flag --listen"
    assert loaded.sources["log_level"] == "environment STREAMBUS_LOG_LEVEL"
    assert loaded.sources["node_id"] == f"file {file}"


def test_units_are_understood_in_text() -> None:
    loaded = load_config(None, {"STREAMBUS_REQUEST_BYTES_MAX": "8MiB"}, {"idle_timeout_ms": "5m"})
    assert loaded.config.request_bytes_max == 8 * 1024 * 1024
    assert loaded.config.idle_timeout_ms == 300_000


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("listen", "nowhere", "HOST:PORT"),
        ("listen", "127.0.0.1:99999", "0 to 65535"),
        ("listen", "::1:80", "without brackets"),
        ("request_bytes_max", "12 parsec", "unknown unit"),
        ("request_bytes_max", "many", "not an integer"),
        ("request_bytes_max", "1", "out of range"),
        ("insecure", "perhaps", "neither true nor false"),
        ("log_level", "loud", "not a known choice"),
        ("log_levels", "network=loud", "not COMPONENT=LEVEL"),
        ("data_dir", "", "empty"),
    ],
)
def test_a_wrong_value_names_key_value_source_and_remedy(
    key: str, value: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {f"STREAMBUS_{key.upper()}": value}, {})
    [found] = caught.value.problems
    assert found.key == key
    assert str(found.value) == value
    assert found.source == f"environment STREAMBUS_{key.upper()}"
    assert problem in found.problem
    assert found.remedy
    for part in (key, value, found.source, found.remedy):
        assert part in str(caught.value)


def test_every_wrong_value_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("lissten = 1\nnode_id = true\ndata_dir = 3\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(file), {"STREAMBUS_INSECURE": "x"}, {"http": "x"})
    assert [problem.key for problem in caught.value.problems] == [
        "lissten",
        "node_id",
        "data_dir",
        "insecure",
        "http",
    ]
    assert "did you mean listen?" in str(caught.value)


@pytest.mark.parametrize("content", [b"= broken", b"\xff\xfe", b"#" * 1_048_577])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broker.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broker\.toml"):
        load_config(str(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(str(tmp_path / "absent.toml"))


@pytest.mark.parametrize("key", ["listen", "http"])
@pytest.mark.parametrize("address", ["0.0.0.0:9092", "[::]:9092", "example.org:9092"])
def test_a_bind_beyond_loopback_is_refused_unless_insecure(key: str, address: str) -> None:
    with pytest.raises(ConfigError, match="--insecure") as caught:
        load_config(None, {}, {key: address})
    assert caught.value.problems[0].source == f"flag --{key}"
    loaded = load_config(None, {}, {key: address, "insecure": True})
    assert getattr(loaded.config, key) == address


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:9092", "127.9.9.9:1"])
def test_loopback_addresses_are_accepted(address: str) -> None:
    assert BrokerConfig(listen=address).listen == address


def test_a_misspelt_variable_is_warned_about_and_the_clients_are_not() -> None:
    loaded = load_config(None, {"STREAMBUS_DATADIR": "x", "STREAMBUS_BROKERS": "h:1"})
    assert loaded.warnings == [
        "environment variable STREAMBUS_DATADIR is ignored; did you mean STREAMBUS_DATA_DIR?"
    ]


@pytest.mark.parametrize("address", ["0.0.0.0:9092", "[::]:0"])
def test_an_address_that_is_none_to_connect_to_is_warned_about(address: str) -> None:
    flags = {"listen": address, "insecure": True}
    (warning,) = load_config(None, {}, flags).warnings
    assert "advertise" in warning
    assert load_config(None, {}, flags | {"advertise": "broker.example:9092"}).warnings == []


def test_levels_per_component() -> None:
    config = BrokerConfig(log_level="warning", log_levels="network=debug,storage=error")
    levels = config.levels()
    assert levels["network"] == "debug"
    assert levels["storage"] == "error"
    assert levels["broker"] == "warning"


def test_topic_settings_parse_and_override() -> None:
    good, bad = parse_topic_settings({"retention_ms": "-1", "max_message_bytes": "2MiB", "x": 1})
    assert good == {"retention_ms": -1, "max_message_bytes": 2 * 1024 * 1024}
    assert [problem.key for problem in bad] == ["x"]
    settings = TopicSettings().overridden(good)
    assert settings.retention_ms == -1
    assert settings.retention_bytes == -1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retention_ms", "-2"),
        ("retention_bytes", -2),
        ("max_message_bytes", 16 * 1024 * 1024),
        ("compression", "brotli"),
        ("cleanup_policy", "compact"),
        ("retention.ms", "1"),
    ],
)
def test_a_wrong_topic_setting_is_refused(key: str, value: object) -> None:
    good, bad = parse_topic_settings({key: value})
    assert not good
    assert [problem.key for problem in bad] == [key]


def test_config_objects_check_themselves() -> None:
    with pytest.raises(ConfigError, match="node_id = 0: is out of range; use 1 to"):
        BrokerConfig(node_id=0)
    with pytest.raises(ConfigError, match="is not an integer"):
        BrokerConfig(node_id="1")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ConfigError, match="cleanup_policy"):
        TopicSettings(cleanup_policy="shred")


def test_number_of_thousands_of_digits_is_a_wrong_value_like_any_other() -> None:
    with pytest.raises(ConfigError, match="connections_max"):
        load_config(None, {"STREAMBUS_CONNECTIONS_MAX": "9" * 5000}, {})
    for port in ("9" * 5000, "\u00b2"):
        with pytest.raises(ConfigError, match="listen"):
            load_config(None, {"STREAMBUS_LISTEN": f"127.0.0.1:{port}"}, {})
