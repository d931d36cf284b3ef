"""Hypothesis strategies made from the declarations of the messages themselves."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from streambus_protocol._shape import (
    IntShape,
    ListShape,
    MapShape,
    MessageShape,
    OptionalShape,
    Shape,
    message_shape,
)


def messages(message_type: type[tuple[Any, ...]]) -> st.SearchStrategy[Any]:
    """Every valid value of a message."""
    return _values(message_shape(message_type))


def _values(shape: Shape) -> st.SearchStrategy[Any]:
    match shape:
        case IntShape(low, high):
            return st.integers(low, high)
        case OptionalShape(inner):
            return st.none() | _values(inner)
        case ListShape(inner):
            return st.lists(_values(inner), max_size=3).map(tuple)
        case MapShape(key, value):
            return st.dictionaries(_values(key), _values(value), max_size=3)
        case MessageShape(kind):
            parts = [_values(field.shape) for field in shape.fields]
            return st.tuples(*parts).map(kind._make)  # type: ignore[attr-defined]  # a NamedTuple
    if shape.type is str:
        return st.text(st.characters(codec="utf-8"), max_size=20)
    return st.binary(max_size=20) if shape.type is bytes else st.booleans()


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=15,
)
"""Every kind of value that msgpack can carry."""
