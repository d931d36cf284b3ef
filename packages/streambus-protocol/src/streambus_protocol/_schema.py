"""From a message's declaration to its bytes and back.

A message is a NamedTuple; its body is the msgpack array of its fields in their order, so that
encoding is one C call. Decoding is one C call and a walk that checks every type and range and
builds the NamedTuples again. A field added in a later version stands at the end, has a default and
is annotated with ``Since(version)``: a body of an earlier version ends before it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack

from streambus_protocol.errors import MalformedMessageError

ELEMENTS_MAX = 100_000
"""The most entries of any one list in a message."""

_MessageT = TypeVar("_MessageT", bound=tuple[Any, ...])
_Check = Callable[[Any], Any]
_pack = msgpack.Packer(use_bin_type=True, autoreset=True).pack


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


class _FieldError(Exception):
    """What is wrong, and where from the inside outwards; never leaves this module."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str] = []


def encode_message(message: tuple[Any, ...], version: int) -> bytes:
    """Encode a message's body as ``version`` has it: later fields are left out."""
    since = _since(type(message))
    if since and since[-1] > version:
        message = message[: len(message) - sum(1 for start in since if start > version)]
    body: bytes = _pack(message)
    return body


def decode_message(message_type: type[_MessageT], body: bytes, version: int) -> _MessageT:
    """Decode and check a body.

    Raises:
        MalformedMessageError: not msgpack, too few or too many fields for the version, or a field
            of a wrong type or out of its range; the error names the field.
    """
    try:
        fields = msgpack.unpackb(body, max_array_len=ELEMENTS_MAX, max_map_len=ELEMENTS_MAX)
    except (ValueError, MemoryError, msgpack.UnpackException) as error:
        raise MalformedMessageError(message_type.__name__, "", f"not msgpack: {error}") from error
    try:
        message: _MessageT = _message_check(message_type, version)(fields)
    except _FieldError as problem:
        where = "".join(reversed(problem.path)).lstrip(".")
        raise MalformedMessageError(message_type.__name__, where, problem.problem) from None
    return message


@cache
def _since(message_type: type) -> tuple[int, ...]:
    """The versions that brought the message's later fields, ascending."""
    hints = get_type_hints(message_type, include_extras=True)
    return tuple(version for hint in hints.values() if (version := _since_of(hint)))


def _since_of(hint: Any) -> int:
    return next((note.version for note in _notes(hint) if isinstance(note, Since)), 0)


def _notes(hint: Any) -> Sequence[Any]:
    return getattr(hint, "__metadata__", ())


@cache
def _message_check(message_type: type[Any], version: int) -> _Check:
    """Compile the check of a NamedTuple: a list of fields in, the NamedTuple out."""
    hints = get_type_hints(message_type, include_extras=True)
    present = {name: hint for name, hint in hints.items() if _since_of(hint) <= version}
    names = tuple(present)
    checks = tuple(_check(hint, version) for hint in present.values())
    defaults = tuple(message_type._field_defaults[name] for name in hints if name not in present)
    count = len(checks)
    make = message_type._make

    def check(fields: Any) -> Any:
        if type(fields) is not list or len(fields) != count:
            raise _FieldError(
                f"{count} fields expected in version {version}, not {_describe(fields)}"
            )
        values: list[Any] = []
        try:
            for one, field in zip(checks, fields, strict=True):
                values.append(one(field))
        except _FieldError as problem:
            problem.path.append(f".{names[len(values)]}")
            raise
        return make((*values, *defaults))

    return check


def _describe(value: Any) -> str:
    if isinstance(value, list | dict | bytes | str):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r}"[:60]


def _check(hint: Any, version: int) -> _Check:
    """Compile the check of one field from its annotation."""
    notes = _notes(hint)
    if notes:
        hint = get_args(hint)[0]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        check = _check(inner, version)
        return lambda value: None if value is None else check(value)
    if origin is Annotated:
        return _check(hint, version)
    if origin is tuple:
        return _list_check(_check(arguments[0], version))
    if origin is dict:
        return _dict_check(_check(arguments[0], version), _check(arguments[1], version))
    if hint is int:
        bounds = next((note for note in notes if isinstance(note, Range)), None)
        assert bounds is not None, "an int field declares its width"
        return _int_check(bounds)
    if isinstance(hint, type) and issubclass(hint, tuple):
        return _message_check(hint, version)
    return _type_check(hint)


def _type_check(expected: type) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not expected:
            raise _FieldError(f"{expected.__name__} expected, not {_describe(value)}")
        return value

    return check


def _int_check(bounds: Range) -> _Check:
    low, high = bounds

    def check(value: Any) -> Any:
        if type(value) is not int or not low <= value <= high:
            raise _FieldError(f"int from {low} to {high} expected, not {_describe(value)}")
        return value

    return check


def _list_check(check_one: _Check) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not list:
            raise _FieldError(f"list expected, not {_describe(value)}")
        done: list[Any] = []
        try:
            for entry in value:
                done.append(check_one(entry))  # noqa: PERF401 - the length tells which entry failed
        except _FieldError as problem:
            problem.path.append(f"[{len(done)}]")
            raise
        return tuple(done)

    return check


def _dict_check(check_key: _Check, check_value: _Check) -> _Check:
    def check(value: Any) -> Any:
        if type(value) is not dict:
            raise _FieldError(f"map expected, not {_describe(value)}")
        return {check_key(key): check_value(entry) for key, entry in value.items()}

    return check
