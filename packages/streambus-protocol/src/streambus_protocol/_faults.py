"""What is wrong with a body, and where: for the error message, after the fast decoder refused."""

from __future__ import annotations

from typing import Any, NamedTuple

from streambus_protocol._shape import (
    IntShape,
    ListShape,
    MapShape,
    MessageShape,
    OptionalShape,
    ScalarShape,
    Shape,
)

_SHOWN_CHARACTERS_MAX = 60


class Fault(NamedTuple):
    """The first thing that is wrong: the path of the field, such as ``partitions[2].offset``."""

    where: str
    problem: str


def find_fault(shape: Shape, value: Any, version: int, where: str = "") -> Fault | None:
    """Walk the shape and the value side by side; None when nothing is wrong."""
    match shape:
        case IntShape(low, high):
            if type(value) is not int or not low <= value <= high:
                return Fault(where, f"an int from {low} to {high} expected, not {_describe(value)}")
        case ScalarShape(kind):
            if type(value) is not kind:
                return Fault(where, f"{kind.__name__} expected, not {_describe(value)}")
        case OptionalShape(inner):
            return None if value is None else find_fault(inner, value, version, where)
        case ListShape(inner):
            if type(value) is not list:
                return Fault(where, f"a list expected, not {_describe(value)}")
            parts = ((inner, one, f"{where}[{index}]") for index, one in enumerate(value))
            return _first_fault(parts, version)
        case MapShape(key, inner):
            if type(value) is not dict:
                return Fault(where, f"a map expected, not {_describe(value)}")
            entries = [(key, name, f"{where} key") for name in value]
            entries += [(inner, one, f"{where}[{_describe(name)}]") for name, one in value.items()]
            return _first_fault(entries, version)
        case MessageShape():
            return _message_fault(shape, value, version, where)
    return None


def _message_fault(shape: MessageShape, value: Any, version: int, where: str) -> Fault | None:
    present = shape.present(version)
    if type(value) is not list or len(value) != len(present):
        problem = f"{len(present)} fields expected in version {version}, not {_describe(value)}"
        return Fault(where, problem)
    dot = "." if where else ""
    parts = zip(present, value, strict=True)
    return _first_fault(
        ((field.shape, one, f"{where}{dot}{field.name}") for field, one in parts), version
    )


def _first_fault(parts: Any, version: int) -> Fault | None:
    faults = (find_fault(shape, value, version, where) for shape, value, where in parts)
    return next((fault for fault in faults if fault is not None), None)


def _describe(value: Any) -> str:
    """Say what a value is, in a few characters whatever its size."""
    if isinstance(value, list | dict | bytes | str) and len(value) > _SHOWN_CHARACTERS_MAX // 3:
        return f"{type(value).__name__} of length {len(value)}"
    return repr(value)[:_SHOWN_CHARACTERS_MAX]
