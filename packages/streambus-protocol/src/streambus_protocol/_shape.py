"""The shape of a message: its NamedTuple declaration, read once into a small tree.

Field types and what msgpack carries for them: ``Int8`` … ``UInt32`` an int within range, ``str``,
``bytes`` and ``bool`` themselves, ``X | None`` X or nil, ``tuple[X, ...]`` an array, ``dict[K, V]``
a map, another NamedTuple the array of its fields.
"""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import cache
from typing import (
    Annotated,
    Any,
    NamedTuple,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)


class Range(NamedTuple):
    """Bounds of an int, both included."""

    low: int
    high: int


class Since(NamedTuple):
    """The API version that brought a field."""

    version: int


Int8 = Annotated[int, Range(-(2**7), 2**7 - 1)]
Int16 = Annotated[int, Range(-(2**15), 2**15 - 1)]
Int32 = Annotated[int, Range(-(2**31), 2**31 - 1)]
Int64 = Annotated[int, Range(-(2**63), 2**63 - 1)]
UInt16 = Annotated[int, Range(0, 2**16 - 1)]
UInt32 = Annotated[int, Range(0, 2**32 - 1)]


@dataclass(frozen=True, slots=True)
class IntShape:
    """An int from ``low`` to ``high``, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class ScalarShape:
    """A str, bytes or bool."""

    type: type


@dataclass(frozen=True, slots=True)
class OptionalShape:
    """The inner shape, or None."""

    inner: Shape


@dataclass(frozen=True, slots=True)
class ListShape:
    """Any number of the inner shape; a tuple in the message, an array on the wire."""

    inner: Shape


@dataclass(frozen=True, slots=True)
class MapShape:
    """A map."""

    key: Shape
    value: Shape


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: since which version, and its value in bodies from before."""

    name: str
    shape: Shape
    since: int
    default: Any


@dataclass(frozen=True, slots=True)
class MessageShape:
    """A NamedTuple; fields of later versions stand behind those of earlier ones."""

    type: type[tuple[Any, ...]]
    fields: tuple[Field, ...]

    def present(self, version: int) -> tuple[Field, ...]:
        """The fields that a body of ``version`` holds."""
        return tuple(field for field in self.fields if field.since <= version)


Shape: TypeAlias = IntShape | ScalarShape | OptionalShape | ListShape | MapShape | MessageShape


@cache
def message_shape(message_type: type[tuple[Any, ...]]) -> MessageShape:
    """Read the declaration of a message.

    Raises:
        TypeError: a declaration that the rules do not allow; a bug of ours, found at import.
    """
    defaults: dict[str, Any] = getattr(message_type, "_field_defaults", {})
    fields: list[Field] = []
    for name, hint in get_type_hints(message_type, include_extras=True).items():
        notes = getattr(hint, "__metadata__", ())
        since = next((note.version for note in notes if isinstance(note, Since)), 0)
        default = defaults.get(name)
        if since and name not in defaults:
            raise TypeError(f"{message_type.__name__}.{name}: a later field needs a default")
        if fields and since < fields[-1].since:
            raise TypeError(f"{message_type.__name__}.{name}: later fields stand at the end")
        fields.append(Field(name, _shape(hint), since, default))
    return MessageShape(message_type, tuple(fields))


def _shape(hint: Any) -> Shape:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = next((note for note in hint.__metadata__ if isinstance(note, Range)), None)
        return IntShape(*bounds) if bounds is not None else _shape(arguments[0])
    if origin in (Union, types.UnionType):
        return OptionalShape(_shape(next(one for one in arguments if one is not type(None))))
    if origin is tuple:
        return ListShape(_shape(arguments[0]))
    if origin is dict:
        return MapShape(_shape(arguments[0]), _shape(arguments[1]))
    if hint in (str, bytes, bool):
        return ScalarShape(hint)
    if isinstance(hint, type) and issubclass(hint, tuple):
        return message_shape(hint)
    raise TypeError(f"{hint!r} cannot be a field of a message; an int declares its width")


def newest_version(shape: Shape) -> int:
    """The version that brought the latest field anywhere in the shape."""
    match shape:
        case MessageShape():
            return max(
                (max(field.since, newest_version(field.shape)) for field in shape.fields), default=0
            )
        case OptionalShape(inner) | ListShape(inner):
            return newest_version(inner)
        case MapShape(_, value):
            return newest_version(value)
        case _:
            return 0


def downgrade(shape: Shape, value: Any, version: int) -> Any:
    """Leave out the fields that a body of ``version`` does not have, at every depth."""
    match shape:
        case MessageShape():
            present = shape.present(version)
            return [downgrade(field.shape, value[i], version) for i, field in enumerate(present)]
        case OptionalShape(inner):
            return None if value is None else downgrade(inner, value, version)
        case ListShape(inner):
            return [downgrade(inner, one, version) for one in value]
        case MapShape(_, inner):
            return {key: downgrade(inner, one, version) for key, one in value.items()}
        case _:
            return value
