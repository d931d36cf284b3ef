"""The file that says whose log a directory holds, so that a mixed-up or emptied disk is noticed.

Written once, when the log is created; never changed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from streambus_raft._checked import CheckedFileError, decode_checked, encode_checked
from streambus_raft._types import NUMBER_MAX

NAME: Final = "identity"
MAGIC: Final = b"SBRAFTID"
VERSION: Final = 1


class Identity(NamedTuple):
    """Whose log it is.

    Attributes:
        storage_id: Drawn at random when the log was created.
        node_id: The node that it belongs to.
        cluster: The cluster that it belongs to.
    """

    storage_id: int
    node_id: int
    cluster: str


def encode_identity(identity: Identity) -> bytes:
    """Encode the whole file."""
    return encode_checked(MAGIC, VERSION, identity)


def decode_identity(data: bytes) -> Identity:
    """Decode the whole file.

    Raises:
        CheckedFileError: it is cut off, damaged, or of an unknown version.
    """
    fields = decode_checked(MAGIC, VERSION, data)
    if [type(field) for field in fields] != [int, int, str] or not all(
        0 < number <= NUMBER_MAX for number in fields[:2]
    ):
        raise CheckedFileError("the content makes no sense")
    return Identity._make(fields)
