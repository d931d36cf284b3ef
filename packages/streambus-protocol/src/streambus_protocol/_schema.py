"""From a message to its body and back.

A message is a NamedTuple; its body is the msgpack array of its fields in their order, so that
encoding is one C call. A field added in a later version stands at the end, has a default and is
annotated with ``Since(version)``: a body of an earlier version ends before it, on the wire in both
directions and at every depth.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import msgpack

from streambus_protocol._budget import ELEMENTS_MAX, SMALL_BYTES, check_budget
from streambus_protocol._compiled import MismatchError, compiled_decoder
from streambus_protocol._faults import find_fault
from streambus_protocol._packing import pack
from streambus_protocol._shape import downgrade, message_shape, newest_version
from streambus_protocol.errors import MalformedMessageError

_MessageT = TypeVar("_MessageT", bound=tuple[Any, ...])


def encode_message(message: tuple[Any, ...], version: int) -> bytes:
    """Encode a message's body as ``version`` has it: later fields are left out."""
    message_type = type(message)
    content: Any = message
    if version < _newest(message_type):
        content = downgrade(message_shape(message_type), message, version)
    return pack(content)


def decode_message(message_type: type[_MessageT], body: bytes, version: int) -> _MessageT:
    """Decode and check a body.

    Raises:
        MalformedMessageError: not msgpack, more objects than any message needs, too few or too
            many fields for the version, or a field of a wrong type or out of its range; the error
            names the field.
    """
    try:
        if len(body) > SMALL_BYTES:
            check_budget(body)
        fields = msgpack.unpackb(body, max_array_len=ELEMENTS_MAX, max_map_len=ELEMENTS_MAX)
    except (ValueError, MemoryError, msgpack.UnpackException) as error:
        raise MalformedMessageError(message_type.__name__, "", f"not msgpack: {error}") from error
    try:
        message: _MessageT = compiled_decoder(message_type, version)(fields)
    except MismatchError:
        fault = find_fault(message_shape(message_type), fields, version)
        assert fault is not None, "decoder and fault finder disagree"
        raise MalformedMessageError(message_type.__name__, *fault) from None
    return message


@cache
def _newest(message_type: type[tuple[Any, ...]]) -> int:
    return newest_version(message_shape(message_type))
