"""One msgpack packer for the whole process: making one costs more than a small message does.

Thread safety: ``pack`` holds the interpreter lock from beginning to end, because plain values call
no Python code; on an error the packer empties itself.
"""

from __future__ import annotations

from typing import Any

import msgpack

_KEPT_BYTES_MAX = 1024 * 1024
_packer = msgpack.Packer(buf_size=65536)


def pack(value: Any) -> bytes:
    """Encode a value.

    Raises:
        TypeError: a value that msgpack has no type for.
        ValueError: nested too deeply, or a text that is not valid Unicode.
        OverflowError: an int beyond 64 bits.
    """
    global _packer
    data: bytes = _packer.pack(value)
    if len(data) > _KEPT_BYTES_MAX:
        _packer = msgpack.Packer(buf_size=65536)  # its buffer has grown to the largest value
    return data
