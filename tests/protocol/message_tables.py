"""Write docs/formats/messages.md: ``python -m tests.protocol.message_tables``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streambus_protocol import APIS, ErrorCode, ErrorResponse
from streambus_protocol._shape import (
    IntShape,
    ListShape,
    MapShape,
    MessageShape,
    OptionalShape,
    Shape,
    message_shape,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats" / "messages.md"

INTRODUCTION = """# Messages

The bodies of frames. A message is a msgpack array of its fields in the order given here; `T?` is T
or nil, `[T]` an array, `{K: V}` a map, another message the array of its fields. A field added in a
later version stands at the end and is marked with it: a body of an earlier version ends before it.

A receiver refuses a body with too few or too many fields for its version, a field of another type,
an int out of its range, an array or map of more than 100,000 entries, and a body of more than
500,000 objects in all. Answers about several
topics or partitions stand in the request's order. This file is written from the declarations in
`_messages.py` of `streambus-protocol`; what the fields mean is said there. Bodies of an API in all
its versions: [vectors/message.json](vectors/message.json).
"""


def render() -> str:
    """The whole document."""
    lines = [INTRODUCTION]
    nested: dict[str, type[tuple[Any, ...]]] = {}
    for api in APIS.values():
        lines.append(f"## API {api.key.value}: {api.key.name.lower()}")
        lines.append(f"\nVersions {api.version_min} to {api.version_max}.\n")
        lines += [_message(api.request, nested), _message(api.response, nested)]
    lines.append("## Parts of messages\n")
    done: set[str] = set()
    while todo := [name for name in nested if name not in done]:
        done.update(todo)
        lines += [_message(nested[name], nested) for name in todo]
    lines += ["## Errors\n", _message(ErrorResponse, nested)]
    lines += ["| code | name | retriable | meaning |", "|---|---|---|---|"]
    for code in ErrorCode:
        retriable = "yes" if code.retriable else ""
        lines.append(f"| {code.value} | {code.name} | {retriable} | {code.advice} |")
    return "\n".join(lines) + "\n"


def _message(kind: type[tuple[Any, ...]], nested: dict[str, type[tuple[Any, ...]]]) -> str:
    fields = message_shape(kind).fields
    if not fields:
        return f"`{kind.__name__}`: no fields\n"
    rows = [
        f"  {field.name}: {_name(field.shape, nested)}"
        + (f"  (since {field.since})" * bool(field.since))
        for field in fields
    ]
    return f"`{kind.__name__}`\n\n```\n" + "\n".join(rows) + "\n```\n"


def _name(shape: Shape, nested: dict[str, type[tuple[Any, ...]]]) -> str:
    match shape:
        case IntShape(low, high):
            return f"{'u' if low == 0 else 'i'}{(high - low).bit_length()}"
        case OptionalShape(inner):
            return f"{_name(inner, nested)}?"
        case ListShape(inner):
            return f"[{_name(inner, nested)}]"
        case MapShape(key, value):
            return f"{{{_name(key, nested)}: {_name(value, nested)}}}"
        case MessageShape(kind):
            nested[kind.__name__] = kind
            return kind.__name__
    return {str: "str", bytes: "bin", bool: "bool"}[shape.type]


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
