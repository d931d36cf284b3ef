"""Reading: Java's rules for ``.properties``, hostile files, and kafka-configs listings."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from streambus_migrate.config.properties import FILE_BYTES_MAX, parse, read_bytes
from streambus_migrate.errors import NotPropertiesError, UnreadableFileError

if TYPE_CHECKING:
    from pathlib import Path


def entries(content: bytes) -> list[tuple[int, str, str]]:
    (section,) = parse("f", content)
    return [(entry.line, entry.key, entry.value) for entry in section.entries]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a=1", [(1, "a", "1")]),
        (b"a = 1 \n", [(1, "a", "1 ")]),
        (b"a:1\r\nb 2\rc\t3", [(1, "a", "1"), (2, "b", "2"), (3, "c", "3")]),
        (b"# a=1\n  ! b=2\n\nc=3", [(4, "c", "3")]),
        (b"a=1,\\\n   2,\\\n   3\nb=4", [(1, "a", "1,2,3"), (4, "b", "4")]),
        (b"# not continued \\\na=1", [(2, "a", "1")]),
        (b"a=1\\\n# not a comment\nb=2", [(1, "a", "1# not a comment"), (3, "b", "2")]),
        (b"a=1\\\\\nb=2", [(1, "a", "1\\"), (2, "b", "2")]),
        (b"a\\=b=c=d", [(1, "a=b", "c=d")]),
        (b"a=\\u0041\\t\\q\\ud83d\\ude00", [(1, "a", "A\tq\U0001f600")]),
        (b"th\xe9=\xe9", [(1, "th\xe9", "\xe9")]),
        (b"alone", [(1, "alone", "")]),
        (b"=x", [(1, "", "x")]),
        (b"a=1\na=2", [(1, "a", "1"), (2, "a", "2")]),
        (b"a=1\\", [(1, "a", "1")]),
        (b"", []),
        (b"\\\n\\\n\na=1", [(4, "a", "1")]),
    ],
)
def test_properties_as_java_reads_them(
    content: bytes, expected: list[tuple[int, str, str]]
) -> None:
    assert entries(content) == expected


def test_properties_broken_escape_names_its_line() -> None:
    with pytest.raises(NotPropertiesError) as caught:
        entries(b"a=1\nb=2\\\n 3\nc=\\u12x4\n")
    assert caught.value.line == 4
    assert "f:4" in str(caught.value)


def test_properties_utf_16_is_refused() -> None:
    with pytest.raises(NotPropertiesError, match="UTF-16"):
        entries("a=1".encode("utf-16"))


def test_properties_random_bytes_never_surprise() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    alphabet = b"ab=: \\\n\r\t\f#!u0041\xff\x1b["
    for _ in range(2000):
        content = bytes(dice.choices(alphabet, k=dice.randrange(60)))
        try:
            found = entries(content)
        except NotPropertiesError:
            continue
        lines = content.count(b"\n") + content.count(b"\r") + 1
        assert all(1 <= line <= lines for line, _, _ in found)


def test_properties_that_join_very_many_lines_are_refused_at_once() -> None:
    with pytest.raises(NotPropertiesError, match="joined") as caught:
        entries(b"a=1\n" + b"a\\\n" * (FILE_BYTES_MAX // 3 - 2))
    assert caught.value.line is not None


def test_properties_with_a_bundle_of_certificates_are_read() -> None:
    line = b"x" * 64 + b"\\n\\\n"
    value = entries(b"ssl.truststore.certificates=\\\n" + line * 900 + b"end")[0][2]
    assert value == ("x" * 64 + "\n") * 900 + "end"


def test_properties_largest_file_of_ordinary_lines_is_read() -> None:
    assert len(entries(b"a=1\n" * (FILE_BYTES_MAX // 4))) == FILE_BYTES_MAX // 4


def test_read_bytes_bounds_and_errors(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    with pytest.raises(NotPropertiesError, match="256 KiB"):
        read_bytes(str(large))
    with pytest.raises(UnreadableFileError) as missing:
        read_bytes(str(tmp_path / "missing"))
    assert missing.value.exit_code == 5
    with pytest.raises(UnreadableFileError) as directory:
        read_bytes(str(tmp_path))
    assert directory.value.exit_code == 2


LISTING = b"""\
Dynamic configs for topic orders are:
  retention.ms=86400000 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:retention.ms=86400000}
  cleanup.policy=compact sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact}
Dynamic configs for broker 1 are:
  ssl.key.password=null sensitive=true synonyms={DYNAMIC_BROKER_CONFIG:ssl.key.password=null}
  a line that nobody expects
"""


def test_listing_of_kafka_configs() -> None:
    topic, broker = parse("f", LISTING)
    assert (topic.name, topic.kind) == ("topic orders", "topic")
    assert [(entry.line, entry.key, entry.value) for entry in topic.entries] == [
        (2, "retention.ms", "86400000"),
        (3, "cleanup.policy", "compact"),
    ]
    assert (broker.name, broker.kind) == ("broker 1", "server")
    assert broker.entries[0].hidden
    assert broker.ignored[0][0] == 6


def test_listing_of_all_configs_has_a_heading_of_its_own() -> None:
    (section,) = parse("f", LISTING.splitlines(keepends=True)[1])
    assert section.kind is None
    (section,) = parse(
        "f", b"All configs for topic a.b-c are:\n  x=1 sensitive=false synonyms={}\n"
    )
    assert (section.name, section.kind) == ("topic a.b-c", "topic")
