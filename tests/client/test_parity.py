"""The blocking and the async front door are one: names, arguments, defaults, documentation."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import streambus_client
from streambus_client import (
    Admin,
    AsyncAdmin,
    AsyncConsumer,
    AsyncProducer,
    AsyncSendFuture,
    AsyncSendManyFuture,
    Consumer,
    Producer,
    SendFuture,
    SendManyFuture,
)

PAIRS = [
    (Producer, AsyncProducer),
    (Consumer, AsyncConsumer),
    (Admin, AsyncAdmin),
    (SendFuture, AsyncSendFuture),
    (SendManyFuture, AsyncSendManyFuture),
]
# what the one has and the other cannot: a hook between the async iterator and its consumer
ONE_SIDED = {"next_columns"}


def public(kind: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and callable(member) and name not in ONE_SIDED
    }


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_both_have_the_same_methods_with_the_same_arguments(blocking: type, awaited: type) -> None:
    assert set(public(blocking)) == set(public(awaited))
    for name, member in public(blocking).items():
        here = inspect.signature(member).parameters
        there = inspect.signature(public(awaited)[name]).parameters
        assert list(here) == list(there), name
        for argument in here.values():
            other = there[argument.name]
            assert (argument.kind, argument.default) == (other.kind, other.default), name


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS[:3])
def test_both_are_made_with_the_same_arguments(blocking: type, awaited: type) -> None:
    here = inspect.signature(blocking).parameters
    there = inspect.signature(awaited).parameters
    assert list(here) == list(there)
    assert [one.default for one in here.values()] == [one.default for one in there.values()]
    for name, argument in here.items():
        assert argument.annotation is not inspect.Parameter.empty, name


@pytest.mark.parametrize("kind", [kind for pair in PAIRS for kind in pair])
def test_every_public_method_is_typed_and_documented(kind: type) -> None:
    assert kind.__doc__
    for name, member in public(kind).items():
        assert member.__doc__, name
        signature = inspect.signature(member)
        assert signature.return_annotation is not inspect.Signature.empty, name
        for argument in list(signature.parameters.values())[1:]:
            assert argument.annotation is not inspect.Parameter.empty, name


def test_every_argument_of_a_client_is_described() -> None:
    for pair in PAIRS[:3]:
        for kind in pair:
            for name in inspect.signature(kind).parameters:
                assert f"        {name}: " in (kind.__doc__ or ""), f"{kind.__name__}: {name}"


def test_every_public_name_is_there_and_no_other() -> None:
    for name in streambus_client.__all__:
        assert getattr(streambus_client, name) is not None
        assert name in dir(streambus_client)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = streambus_client.nonsense


def test_front_door_of_the_design() -> None:
    """The names and arguments that users' programs rely on."""
    for names, kind in [
        ("send submit submit_many flush close", Producer),
        ("poll batches seek assign subscribe pause resume positions close", Consumer),
        ("create_topic describe_topic list_topics alter_topic delete_topic cluster", Admin),
    ]:
        assert set(names.split()) <= set(public(kind))
    assert list(inspect.signature(Producer.send).parameters)[1:4] == ["topic", "value", "key"]
    assert list(inspect.signature(Producer.submit_many).parameters)[1:4] == [
        "topic",
        "values",
        "keys",
    ]
    assert list(inspect.signature(Consumer.poll).parameters)[1:] == ["max_records", "timeout"]
