"""How a log begins: its directory, its first segment, and its identity file, in that order."""

from __future__ import annotations

import os.path
import secrets
from typing import TYPE_CHECKING

from streambus_raft._checked import CheckedFileError, write_durably
from streambus_raft._hard_state import HardState
from streambus_raft._identity_file import NAME as IDENTITY
from streambus_raft._identity_file import Identity, decode_identity, encode_identity
from streambus_raft._log_records import CheckpointRecord, encode_checkpoint
from streambus_raft._log_recovery import recover_log, segment_name
from streambus_raft._segment import encode_header, encode_record
from streambus_raft._types import NUMBER_MAX, Term
from streambus_raft.errors import LogDamagedError, StorageMissingError

if TYPE_CHECKING:
    from streambus_raft._files import FileSystem


def read_identity(files: FileSystem, directory: str) -> Identity | None:
    """Read whose log it is; None where there is no identity file.

    Raises:
        LogDamagedError: the file cannot be read.
    """
    path = f"{directory}/{IDENTITY}"
    try:
        return decode_identity(files.read(path))
    except FileNotFoundError:
        return None
    except CheckedFileError as exc:
        raise LogDamagedError(path, 0, str(exc)) from exc


def create_log(
    files: FileSystem, directory: str, node_id: int, cluster: str, *, create: bool
) -> Identity:
    """Begin a new log; the identity file comes last and makes it count.

    Raises:
        LogDamagedError: there is a log already, and only its identity file is missing.
        StorageMissingError: ``create`` is False.
    """
    first = segment_name(1)
    listed = files.list_directory(directory)
    names = [name for name in listed if name.endswith((".seg", ".meta"))]
    begun = names == [first] and recover_log(files, directory).log.last_index == 0
    if names and not begun:
        raise LogDamagedError(f"{directory}/{IDENTITY}", 0, "it is missing beside a log")
    if not create:
        raise StorageMissingError(directory)
    files.unlink(f"{directory}/{first}")
    file = files.open_append(f"{directory}/{first}")
    try:
        file.write(encode_opening(1, 0, CheckpointRecord(HardState(), 0, Term(0), 0, Term(0))))
        file.sync()
    finally:
        file.close()
    files.sync_directory(directory)
    identity = Identity(secrets.randbelow(NUMBER_MAX) + 1, node_id, cluster)
    write_durably(files, directory, IDENTITY, encode_identity(identity))
    files.sync_directory(os.path.dirname(directory))
    return identity


def encode_opening(number: int, predecessor_bytes: int, checkpoint: CheckpointRecord) -> bytes:
    """Encode what a segment begins with: its header, and a checkpoint of all before it."""
    header = encode_header(number, predecessor_bytes)
    return header + encode_record(encode_checkpoint(checkpoint), number, len(header), 0)
