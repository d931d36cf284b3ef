"""A block whose checksum is right and whose payload is a map of maps raised TypeError."""

from __future__ import annotations

import msgpack
import pytest

from streambus_storage import CorruptionError
from streambus_storage._block import decode_entries, unpack

MAP_OF_MAPS = b"\x81\x80\xc0"  # {{}: nil}


@pytest.mark.parametrize("payload", [MAP_OF_MAPS, b"\x81\x90\xc0", b"\xc1", b"", b"\x91" * 2_000])
def test_block_of_anything_is_a_typed_error(payload: bytes) -> None:
    with pytest.raises((TypeError, ValueError, msgpack.UnpackException)):
        msgpack.unpackb(payload, strict_map_key=False)
    with pytest.raises(CorruptionError) as caught:
        unpack(payload, "1.sst", 5)
    assert (caught.value.path, caught.value.offset) == ("1.sst", 5)
    with pytest.raises(CorruptionError):
        decode_entries(payload, "1.sst", 5)
