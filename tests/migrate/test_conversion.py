"""What becomes of each key: every entry ends in a finding, and nothing is dropped silently."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from streambus_migrate.config.conversion import Conversion, convert
from streambus_migrate.config.kinds import TABLES, recognise
from streambus_migrate.config.properties import parse
from streambus_migrate.config.rules import Fate, becomes, not_needed, table
from streambus_migrate.config.values import integer
from streambus_migrate.errors import UnknownKindError

DATA = Path(__file__).parent / "data"


def converted(text: str, kind: str) -> Conversion:
    (section,) = parse("f", text.encode("latin-1"))
    return convert(section, TABLES[kind])


def fate(text: str, kind: str) -> Fate:
    return converted(text, kind).findings[0].fate


@pytest.mark.parametrize("kind", TABLES)
def test_every_key_of_kafka_is_known(kind: str) -> None:
    keys = (DATA / f"kafka-3.9-{kind}-keys.txt").read_text(encoding="utf-8").split()
    assert len(keys) >= {"server": 300, "topic": 30, "producer": 60, "consumer": 60}[kind]
    assert [key for key in keys if not TABLES[kind].find(key)] == []


@pytest.mark.parametrize("kind", TABLES)
def test_every_rule_says_why_or_where(kind: str) -> None:
    for key, rules in TABLES[kind].rules.items():
        for rule in rules:
            if rule.target:
                assert rule.target in TABLES[kind].targets, key
            else:
                assert len(rule.reason) > 10, key
            assert not rule.reason.endswith("."), key


@pytest.mark.parametrize("kind", TABLES)
def test_every_entry_ends_in_a_finding(kind: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    keys = [*TABLES[kind].rules, "unknown.key", "x", "Q" * 60]
    values = ["", "0", "1", "-1", "true", "false", "abc", "9" * 30, "a,b", "${env:X}", "\x1b[31m"]
    for _ in range(300):
        lines = [f"{dice.choice(keys)}={dice.choice(values)}" for _ in range(dice.randrange(12))]
        conversion = converted("\n".join(lines), kind)
        assert {finding.line for finding in conversion.findings} - {0} == set(
            range(1, len(lines) + 1)
        )
        for name, value in conversion.settings.items():
            assert TABLES[kind].targets[name].problem(value) == ""


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("log.retention.hours=168", {"default_retention_ms": 604_800_000}),
        ("log.retention.hours=-1", {"default_retention_ms": -1}),
        ("log.retention.minutes=5\nlog.retention.hours=1", {"default_retention_ms": 300_000}),
        ("log.retention.hours=1\nlog.retention.ms=7", {"default_retention_ms": 7}),
        ("listeners=PLAINTEXT://:9092", {"listen": "0.0.0.0:9092"}),
        ("listeners=PLAINTEXT://[::1]:9092", {"listen": "[::1]:9092"}),
        ("listeners = PLAINTEXT://h:1, CONTROLLER://h:2 ", {"listen": "h:1"}),
        ("log.dirs=/var/kafka/", {"data_dir": "/var/kafka-streambus"}),
        ("log.dir=/a\nlog.dirs=/b", {"data_dir": "/b-streambus"}),
        (
            "log.message.timestamp.type=LogAppendTime",
            {"default_message_timestamp_type": "append_time"},
        ),
        ("broker.id=0", {"node_id": 1}),
        ("broker.id=7\nnode.id=3", {"node_id": 3}),
        ("min.insync.replicas=2", {"default_min_insync_replicas": 2}),
        ("leader.imbalance.check.interval.seconds=300", {"leader_balance_ms": 300_000}),
        ("broker.rack=eu-1a", {"rack": "eu-1a"}),
        ("compression.type=uncompressed", {"default_compression": "none"}),
        ("auto.create.topics.enable=FALSE", {"auto_create_topics": False}),
        ("message.max.bytes=1048588", {"default_max_message_bytes": 1_048_588}),
        ("num.partitions=3\nnum.partitions=5", {"default_partitions": 5}),
    ],
)
def test_server_settings(text: str, settings: dict[str, object]) -> None:
    found = converted(text, "server").settings
    if "auto_create_topics" not in settings:
        assert found.pop("auto_create_topics") is True, "Kafka's default differs and is written"
    assert found == settings


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (
            "acks=-1\nlinger.ms=5\nbatch.size=0",
            {"acks": "all", "linger_ms": 5, "batch_bytes_max": 1, "partitioner": "murmur2"},
        ),
        ("acks=1\npartitioner.ignore.keys=true", {"acks": 1, "partitioner": "sticky"}),
        (
            "acks=0\npartitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner",
            {"acks": 0, "partitioner": "round_robin"},
        ),
        (
            "acks=all\nretry.backoff.ms=900\nretry.backoff.max.ms=300",
            {
                "acks": "all",
                "retry_backoff_ms": 300,
                "retry_backoff_ms_max": 300,
                "partitioner": "murmur2",
            },
        ),
    ],
)
def test_producer_settings(text: str, settings: dict[str, object]) -> None:
    assert converted(text, "producer").settings == settings


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {"out_of_range": "latest"}),
        ("auto.offset.reset=earliest", {"start": "earliest", "out_of_range": "earliest"}),
        ("auto.offset.reset=none", {"out_of_range": "error"}),
        (
            "fetch.max.bytes=52428800\nfetch.min.bytes=0\nauto.offset.reset=none",
            {"fetch_bytes_max": 16 * 1024 * 1024, "fetch_bytes_min": 1, "out_of_range": "error"},
        ),
    ],
)
def test_consumer_settings(text: str, settings: dict[str, object]) -> None:
    assert converted(text, "consumer").settings == settings


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("server", "node.id=1", Fate.SAME),
        ("topic", "retention.ms=1000", Fate.SAME),
        ("topic", "retention.ms=+1000", Fate.CONVERTED),
        ("topic", "retention.ms=-2", Fate.NOT_SUPPORTED),
        ("topic", "retention.ms=1_000", Fate.INVALID),
        ("topic", "retention.ms=\u0661", Fate.INVALID),
        ("topic", "retention.ms=" + "9" * 5000, Fate.INVALID),
        ("topic", "retention.ms=", Fate.INVALID),
        ("topic", "cleanup.policy=compact,delete", Fate.NOT_SUPPORTED),
        ("topic", "cleanup.policy=shred", Fate.INVALID),
        ("topic", "max.message.bytes=99999999", Fate.NOT_SUPPORTED),
        ("topic", "unclean.leader.election.enable=FALSE", Fate.NOT_NEEDED),
        ("topic", "unclean.leader.election.enable=true", Fate.NOT_SUPPORTED),
        ("topic", "segment.bytes=1", Fate.NOT_NEEDED),
        ("topic", "no.such.key=1", Fate.UNKNOWN),
        ("server", "log.dirs=/a,/b", Fate.NOT_SUPPORTED),
        ("server", "listeners=SSL://:9093", Fate.NOT_SUPPORTED),
        ("server", "listeners=PLAINTEXT://:1,SASL_SSL://:2", Fate.NOT_SUPPORTED),
        ("server", "listeners=PLAINTEXT://:1,EXTERNAL://:2", Fate.NOT_SUPPORTED),
        ("server", "listeners=MINE://:1", Fate.NOT_SUPPORTED),
        ("server", "listeners=PLAINTEXT://:99999", Fate.INVALID),
        ("server", "log.retention.ms=${file:/x:y}", Fate.NOT_SUPPORTED),
        ("server", "controller.quorum.voters=1@a:1,2@b:1", Fate.NOT_SUPPORTED),
        ("server", "controller.quorum.voters=1@a:1", Fate.NOT_NEEDED),
        ("server", "listener.name.x.ssl.keystore.location=/k", Fate.NOT_SUPPORTED),
        ("server", "confluent.license=abc", Fate.NOT_SUPPORTED),
        ("producer", "acks=2", Fate.INVALID),
        ("producer", "partitioner.class=com.example.Mine", Fate.NOT_SUPPORTED),
        ("producer", "security.protocol=PLAINTEXT", Fate.NOT_NEEDED),
        ("producer", "security.protocol=SASL_SSL", Fate.NOT_SUPPORTED),
        (
            "producer",
            "key.serializer=org.apache.kafka.common.serialization.ByteArraySerializer",
            Fate.NOT_NEEDED,
        ),
        ("consumer", "group.id=g", Fate.NOT_SUPPORTED),
        ("consumer", "auto.offset.reset=by_duration:PT1H", Fate.NOT_SUPPORTED),
    ],
)
def test_fate_of_a_key(kind: str, text: str, expected: Fate) -> None:
    if not text.isascii():  # a file has bytes; Java writes what lies beyond Latin-1 as escapes
        text = text.encode("ascii", "backslashreplace").decode()
    assert fate(text, kind) is expected


def test_duplicate_is_reported_and_the_last_counts() -> None:
    conversion = converted("retention.ms=1\nsegment.ms=2\nretention.ms=3", "topic")
    assert [finding.fate for finding in conversion.findings] == [
        Fate.OVERRIDDEN,
        Fate.NOT_NEEDED,
        Fate.SAME,
    ]
    assert "line 3" in conversion.findings[0].reason
    assert conversion.complete


@pytest.mark.parametrize(
    "text",
    [
        "ssl.keystore.password=hunter2",
        "sasl.jaas.config=org.x.Module required username='u' password='hunter2';",
        "sasl.jaas.config=org.x.Module required\npassword='hunter2';",
        "listener.name.a.plain.sasl.jaas.config=hunter2",
        "my.plugin.setting=hunter2",
        "ssl.keystore.key=-----BEGIN PRIVATE KEY-----\nhunter2hunter2Hunter2\n-----END-----",
        "basic.auth.user.info=u:hunter2",
        "sasl.oauthbearer.token.endpoint.url=https://u:hunter2@idp/token",
        "bootstrap.servers=http://u:hunter2@h:1",
        "bootstrap.servers=hunter2",
    ],
)
@pytest.mark.parametrize("kind", TABLES)
def test_secrets_never_enter_a_finding(kind: str, text: str) -> None:
    findings = converted(text, kind).findings
    if text == "bootstrap.servers=hunter2":  # an address is no secret: it may be shown
        assert findings[0].fate in {Fate.INVALID, Fate.UNKNOWN}
        return
    assert "hunter2" not in repr(findings).lower()


def test_control_characters_never_reach_a_terminal() -> None:
    for finding in converted("client.id=\\u001b[31mred\n\\u001b]0;x=1", "producer").findings:
        assert "\x1b" not in finding.key + (finding.given or "")


def test_byte_order_mark_is_explained() -> None:
    (section,) = parse("f", b"\xef\xbb\xbfretention.ms=1\n")
    finding = convert(section, TABLES["topic"]).findings[0]
    assert finding.fate is Fate.UNKNOWN
    assert "byte order mark" in finding.reason


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("broker.id=0\nlog.dirs=/x\ncompression.type=gzip", "server"),
        ("retention.ms=1\nsegment.bytes=2", "topic"),
        ("bootstrap.servers=a:1\ncompression.type=none", "producer"),
        ("bootstrap.servers=a:1\ngroup.id=g", "consumer"),
    ],
)
def test_kind_is_recognised(text: str, kind: str) -> None:
    (section,) = parse("f", text.encode())
    assert recognise("f", section).kind == kind


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("bootstrap.servers=a:1", ["producer", "consumer"]),
        ("dataDir=/tmp/zookeeper\nclientPort=2181", []),
        ("", []),
    ],
)
def test_kind_is_asked_for_where_content_does_not_tell(text: str, candidates: list[str]) -> None:
    (section,) = parse("f", text.encode())
    with pytest.raises(UnknownKindError, match="--kind") as caught:
        recognise("f", section)
    assert caught.value.candidates == candidates


def test_table_refuses_a_key_that_stands_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        table(not_needed("because of this", "a b"), not_needed("because of that", "b"))
    with pytest.raises(ValueError, match="twice"):
        table(becomes("a", "x", integer), becomes("a", "x", integer))
