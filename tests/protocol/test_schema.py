"""Every message round-trips in every version; whatever else arrives is refused and located."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streambus_protocol as protocol
from streambus_protocol import APIS, Api, decode_message, encode_message
from streambus_protocol._budget import OverBudgetError, check_budget
from streambus_protocol._compiled import MismatchError, compiled_decoder
from streambus_protocol._faults import find_fault
from streambus_protocol._shape import Int32, Since, message_shape, newest_version
from streambus_protocol.errors import MalformedMessageError
from tests.protocol.strategies import anything, messages

MESSAGE_TYPES = sorted(
    {kind for api in APIS.values() for kind in (api.request, api.response)}
    | {protocol.ErrorResponse},
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("message_type", MESSAGE_TYPES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_message_round_trips(message_type: type[tuple[Any, ...]], data: st.DataObject) -> None:
    newest = newest_version(message_shape(message_type))
    message = data.draw(messages(message_type))
    for version in range(newest + 1):
        again = decode_message(message_type, encode_message(message, version), version)
        assert again == message or version < newest
        assert encode_message(again, version) == encode_message(message, version)
        assert type(again) is message_type


@pytest.mark.parametrize("message_type", MESSAGE_TYPES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_message_decoder_and_fault_finder_agree_on_anything(
    message_type: type[tuple[Any, ...]], data: st.DataObject
) -> None:
    newest = newest_version(message_shape(message_type))
    count = len(message_shape(message_type).fields)
    value = data.draw(st.lists(anything, min_size=count, max_size=count) | anything)
    fault = find_fault(message_shape(message_type), value, newest)
    try:
        compiled_decoder(message_type, newest)(value)
    except MismatchError:
        assert fault is not None
    else:
        assert fault is None


@given(st.binary(max_size=200))
def test_message_of_garbage_is_refused_by_a_typed_error(body: bytes) -> None:
    with suppress(MalformedMessageError):
        assert isinstance(decode_message(protocol.HealthRequest, body, 0), protocol.HealthRequest)
    with pytest.raises(MalformedMessageError, match="ProduceRequest"):
        decode_message(protocol.ProduceRequest, body, 0)


def test_message_error_names_the_field() -> None:
    fetch = protocol.FetchPartition("orders", 0, 0, -1, 1000)
    good = protocol.FetchRequest(0, 1, 1000, (fetch, fetch._replace(offset=2**70)))
    body = msgpack.packb([0, 1, 1000, [list(fetch), ["orders", 0, "x", -1, 1000]]])
    with pytest.raises(MalformedMessageError) as caught:
        decode_message(protocol.FetchRequest, body, 0)
    assert caught.value.where == "partitions[1].offset"
    assert "'x'" in str(caught.value)
    with pytest.raises(OverflowError):
        encode_message(good, 0)


def test_message_of_many_announced_elements_takes_no_memory_for_them() -> None:
    body = b"\xdd\xff\xff\xff\xff" * 100
    with pytest.raises(MalformedMessageError, match="not msgpack"):
        decode_message(protocol.MetadataRequest, body, 0)


BOMBS = {
    "empty lists": b"\x90",
    "empty maps": b"\x80",
    "nils": b"\xc0",
    "short texts": b"\xa2ab",
    "wide numbers": b"\xcd\x01\x01",
}


@pytest.mark.parametrize("filling", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("chained", [False, True], ids=["beside", "inside"])
def test_message_of_16_mebibytes_of_small_objects_is_refused_unbuilt(
    filling: bytes, chained: bool
) -> None:
    rows = 16 * 1024 * 1024 // (99_999 * len(filling))
    row = b"\xdd\x00\x01\x86\xa0" + filling * 99_999
    body = row * rows if chained else b"\xdc" + rows.to_bytes(2, "big") + (row + b"\xc0") * rows
    with pytest.raises(MalformedMessageError, match="more than 500000 objects"):
        decode_message(protocol.MetadataRequest, body, 0)


@given(anything)
def test_budget_of_anything_counts_its_objects(value: Any) -> None:
    body = msgpack.packb(value)
    count = _count(value)
    check_budget(body, count)
    with pytest.raises(OverBudgetError):
        check_budget(body, count - 1)


def _count(value: Any) -> int:
    if isinstance(value, list):
        return 1 + sum(map(_count, value))
    if isinstance(value, dict):
        return 1 + sum(map(_count, [*value, *value.values()]))
    return 1


def test_budget_refuses_types_that_no_message_has() -> None:
    with pytest.raises(OverBudgetError, match="0xd4"):
        check_budget(msgpack.packb(msgpack.ExtType(1, b"x")))


def test_message_with_large_batches_is_within_its_budget() -> None:
    parts = tuple(protocol.ProducePartition("t", n, bytes(2**20)) for n in range(8))
    produce = protocol.ProduceRequest(1, 0, parts)
    assert decode_message(protocol.ProduceRequest, encode_message(produce, 0), 0) == produce


class _Part(NamedTuple):
    name: str
    rack: Annotated[str | None, Since(2)] = None


class _Whole(NamedTuple):
    parts: tuple[_Part, ...]
    limit: Annotated[Int32, Since(1)] = 7
    byname: Annotated[dict[str, _Part], Since(2)] = {}  # noqa: RUF012 - a default of the wire


@pytest.mark.parametrize("version", [0, 1, 2])
def test_message_of_an_earlier_version_leaves_later_fields_out_at_every_depth(version: int) -> None:
    whole = _Whole((_Part("a", "r1"), _Part("b")), 9, {"c": _Part("c", "r2")})
    body = encode_message(whole, version)
    again = decode_message(_Whole, body, version)
    assert len(msgpack.unpackb(body)) == version + 1
    expected = {
        0: _Whole((_Part("a"), _Part("b"))),
        1: _Whole((_Part("a"), _Part("b")), 9),
        2: whole,
    }
    assert again == expected[version]


def test_message_declarations_that_break_the_rules_are_found_at_import() -> None:
    class NoDefault(NamedTuple):
        name: Annotated[str, Since(1)]

    class WrongOrder(NamedTuple):
        late: Annotated[str, Since(1)] = ""
        early: str = ""

    class NoWidth(NamedTuple):
        width: int

    for kind in (NoDefault, WrongOrder, NoWidth):
        with pytest.raises(TypeError):
            message_shape(kind)


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.key.name)
def test_api_messages_have_a_shape_in_every_version(api: Api) -> None:
    for kind in (api.request, api.response):
        for version in range(api.version_min, api.version_max + 1):
            compiled_decoder(kind, version)
