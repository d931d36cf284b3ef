"""Addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streambus_client._addresses import Address, parse_addresses
from streambus_client.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", [("localhost", 9092)]),
        ("a:1,b:2", [("a", 1), ("b", 2)]),
        (" a:1 , , b ", [("a", 1), ("b", 9092)]),
        ("[::1]:7", [("::1", 7)]),
        ("[::1]", [("::1", 9092)]),
        ("::1", [("::1", 9092)]),
        ("a:1,a:1", [("a", 1)]),
    ],
)
def test_addresses_are_read(text: str, expected: list[tuple[str, int]]) -> None:
    assert parse_addresses(text) == tuple(Address(*one) for one in expected)
    assert parse_addresses([text]) == parse_addresses(text)


@pytest.mark.parametrize(
    "text", ["", " , ", "a:b", "a:0", "a:65536", ":1", "[::1", "[::1]x", "a:-1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="brokers"):
        parse_addresses(text)


@given(
    host=st.sampled_from(["h", "127.0.0.1", "::1", "fe80::1", "my.host"]),
    port=st.integers(1, 65535),
)
def test_written_address_is_read_again(host: str, port: int) -> None:
    assert parse_addresses(str(Address(host, port))) == (Address(host, port),)
