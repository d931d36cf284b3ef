"""Snapshots as files: one with the bytes as the state machine gave them, one with the facts.

``snapshot-<index>-<term>.data`` holds the bytes. ``snapshot-<index>-<term>.meta`` is written after
they are durable and makes the snapshot count; it holds the facts and a checksum for every block of
``BLOCK_BYTES``, so that any part can be checked by itself when it is read.

What arrives from a leader is collected in ``incoming.data``; ``incoming.pieces`` records what
arrived with its checksum, so that after a crash a transfer goes on where its durable, intact
beginning ends.

Not thread-safe for writing: the owner holds a lock. Reading may go on beside it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgpack
from xxhash import xxh3_64, xxh3_64_intdigest

from streambus_raft._checked import (
    CheckedFileError,
    decode_checked,
    encode_checked,
    write_durably,
)
from streambus_raft._membership import Membership, membership_from_fields
from streambus_raft._segment import HEADER_BYTES, encode_header, encode_record, scan_segment
from streambus_raft._storage import SnapshotMeta, SnapshotPiece
from streambus_raft._types import NUMBER_MAX, Index, Term
from streambus_raft.errors import (
    LogDamagedError,
    MessageMalformedError,
    SnapshotGoneError,
    SnapshotMismatchError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from streambus_raft._files import AppendFile, FileSystem

BLOCK_BYTES: Final = 64 * 1024
MAGIC: Final = b"SBRAFTSN"
VERSION: Final = 1
KEEP: Final = 2
"""How many snapshots are kept: the newest, and the one that a follower may just be receiving."""
CHECKSUM_MASK: Final = NUMBER_MAX
_META_NAME: Final = re.compile(r"snapshot-(\d{20})-(\d{20})\.meta")
_DATA_NAME: Final = re.compile(r"snapshot-(\d{20})-(\d{20})\.data")
_PIECES: Final = "incoming.pieces"
_INCOMING: Final = "incoming.data"
_PIECES_SEGMENT: Final = 0  # the number that the frames of incoming.pieces are tied to


class _Stored(NamedTuple):
    meta: SnapshotMeta
    blocks: tuple[int, ...]


class Partial(NamedTuple):
    """A snapshot of which ``size_bytes`` have arrived."""

    meta: SnapshotMeta
    size_bytes: int


class SnapshotFiles:
    """The snapshots of one directory.

    Attributes:
        newest: The newest complete snapshot, or None.
        partial: The one that is arriving, or None.
    """

    def __init__(self, files: FileSystem, directory: str) -> None:
        self._files = files
        self._directory = directory
        self._stored: dict[tuple[Index, Term], _Stored] = {}
        self._data: AppendFile | None = None
        self._pieces: AppendFile | None = None
        self._pieces_position = 0
        self.newest: SnapshotMeta | None = None
        self.partial: Partial | None = None

    def recover(self) -> None:
        """Find the snapshots that count, and remove what a crash left behind.

        Raises:
            LogDamagedError: a snapshot's facts are damaged, or its bytes are missing.
            OSError: the disk failed.
        """
        names = self._files.list_directory(self._directory)
        for name in names:
            if match := _META_NAME.fullmatch(name):
                self._remember(self._read_meta(name, (int(match[1]), int(match[2]))))
        for name in names:
            match = _DATA_NAME.fullmatch(name)
            leftover = match and (int(match[1]), int(match[2])) not in self._stored
            if leftover or name.endswith(".tmp"):
                self._files.unlink(self._path(name))
        self._recover_partial(names)

    def _read_meta(self, name: str, key: tuple[Index, int]) -> _Stored:
        path = self._path(name)
        try:
            fields = decode_checked(MAGIC, VERSION, self._files.read(path))
            stored = stored_from_fields(fields)
        except (CheckedFileError, MessageMalformedError) as exc:
            raise LogDamagedError(path, 0, str(exc)) from exc
        if stored.meta[:2] != key:
            raise LogDamagedError(path, 0, f"it describes the snapshot {stored.meta[:2]}")
        data = self._path(_data_name(stored.meta))
        try:
            size = self._files.size(data)
        except FileNotFoundError:
            size = 0 if stored.meta.size_bytes == 0 else -1
        if size != stored.meta.size_bytes:
            problem = f"the snapshot has {size} of {stored.meta.size_bytes} bytes"
            raise LogDamagedError(data, max(size, 0), problem)
        return stored

    def _remember(self, stored: _Stored) -> None:
        self._stored[stored.meta.index, stored.meta.term] = stored
        if self.newest is None or stored.meta.index >= self.newest.index:
            self.newest = stored.meta

    # --- what arrives from a leader ---

    def _recover_partial(self, names: list[str]) -> None:
        if _PIECES not in names or _INCOMING not in names:
            self._drop_partial(names)
            return
        scan = scan_segment(self._files.read(self._path(_PIECES)), _PIECES_SEGMENT)
        data = memoryview(self._files.read(self._path(_INCOMING)))
        meta: SnapshotMeta | None = None
        received = 0
        end = HEADER_BYTES
        for record in scan.records:
            fields = msgpack.unpackb(record.body, use_list=False)
            if meta is None:
                meta = meta_from_fields(fields)
            else:
                length, checksum = fields
                if xxh3_64_intdigest(data[received : received + length]) != checksum:
                    break
                received += length
            end = record.position + len(encode_record(record.body, 0, 0, 0))
        if meta is None or (self.newest is not None and meta.index <= self.newest.index):
            self._drop_partial(names)
            return
        self._files.truncate(self._path(_INCOMING), received)
        self._files.truncate(self._path(_PIECES), end)
        self.partial = Partial(meta, received)
        self._pieces_position = end

    def _drop_partial(self, names: Iterable[str]) -> None:
        self._close_incoming()
        self.partial = None
        for name in (_PIECES, _INCOMING):
            if name in names:
                self._files.unlink(self._path(name))

    def add_piece(self, piece: SnapshotPiece) -> None:
        """Append a part of an arriving snapshot; durable after :meth:`sync_pieces`.

        Raises:
            SnapshotMismatchError: it does not follow on what has arrived.
            OSError: the disk failed.
        """
        if piece.offset == 0:
            self._drop_partial((_PIECES, _INCOMING))
            self._data = self._files.open_append(self._path(_INCOMING))
            self._pieces = self._files.open_append(self._path(_PIECES))
            self._pieces.write(encode_header(_PIECES_SEGMENT, 0))
            self._pieces_position = HEADER_BYTES
            self.partial = Partial(piece.meta, 0)
            self._record_piece(msgpack.packb(piece.meta))
            self._files.sync_directory(self._directory)
        partial = self.partial
        if partial is None or partial.meta != piece.meta or partial.size_bytes != piece.offset:
            raise SnapshotMismatchError(piece.meta.index, f"a piece at {piece.offset} does not fit")
        if self._data is None:
            self._data = self._files.open_append(self._path(_INCOMING))
        if piece.data:
            self._data.write(piece.data)
            self._record_piece(msgpack.packb((len(piece.data), xxh3_64_intdigest(piece.data))))
            self.partial = Partial(piece.meta, partial.size_bytes + len(piece.data))

    def _record_piece(self, body: bytes) -> None:
        if self._pieces is None:
            self._pieces = self._files.open_append(self._path(_PIECES))
        framed = encode_record(body, _PIECES_SEGMENT, self._pieces_position, 0)
        self._pieces.write(framed)
        self._pieces_position += len(framed)

    def sync_pieces(self) -> None:
        """Make the pieces that were added durable."""
        if self._data is not None:
            self._data.sync()
        if self._pieces is not None:
            self._pieces.sync()

    def complete(self, meta: SnapshotMeta) -> None:
        """Check the arrived snapshot against its facts, and make it count.

        Raises:
            SnapshotMismatchError: size or checksum is wrong; what arrived is dropped.
            OSError: the disk failed.
        """
        if meta.size_bytes == 0 and meta.index == 0:  # where a new cluster begins
            self._drop_partial((_PIECES, _INCOMING))
            self._commit(_Stored(meta, ()))
            return
        self.sync_pieces()
        self._close_incoming()
        total, blocks = xxh3_64(), []
        path, offset = self._path(_INCOMING), 0
        arrived = self.partial.size_bytes if self.partial and self.partial.meta == meta else -1
        while arrived == meta.size_bytes and offset < meta.size_bytes:
            block = self._files.read(path, offset, BLOCK_BYTES)
            total.update(block)
            blocks.append(xxh3_64_intdigest(block))
            offset += len(block)
        if arrived != meta.size_bytes or total.intdigest() & CHECKSUM_MASK != meta.checksum:
            self._drop_partial((_PIECES, _INCOMING))
            problem = f"{arrived} of {meta.size_bytes} bytes, or a wrong checksum"
            raise SnapshotMismatchError(meta.index, problem)
        self._files.rename(path, self._path(_data_name(meta)))
        self._files.sync_directory(self._directory)
        self._commit(_Stored(meta, tuple(blocks)))
        self._drop_partial((_PIECES,))

    # --- what this node makes itself ---

    def save(
        self, index: Index, term: Term, membership: Membership, chunks: Iterable[bytes]
    ) -> SnapshotMeta:
        """Write a snapshot of this node's own, durably.

        After failure: as if it had not been called, but for a file that the next start removes.
        """
        draft = SnapshotMeta(index, term, membership, 0, 0)
        path = self._path(_data_name(draft))
        if (stored := self._stored.get((index, term))) is not None:
            return stored.meta
        self._files.unlink(path)
        file = self._files.open_append(path)
        total, blocks, size = xxh3_64(), [], 0
        try:
            for block in _blocks(chunks):
                file.write(block)
                total.update(block)
                blocks.append(xxh3_64_intdigest(block))
                size += len(block)
            file.sync()
        finally:
            file.close()
        self._files.sync_directory(self._directory)
        meta = draft._replace(size_bytes=size, checksum=total.intdigest() & CHECKSUM_MASK)
        self._commit(_Stored(meta, tuple(blocks)))
        return meta

    def _commit(self, stored: _Stored) -> None:
        fields = (*stored.meta, BLOCK_BYTES, stored.blocks)
        data = encode_checked(MAGIC, VERSION, fields)
        write_durably(self._files, self._directory, _meta_name(stored.meta), data)
        self._remember(stored)

    def remove_older(self, index: Index) -> None:
        """Remove all but the newest ``KEEP`` snapshots, but none from ``index`` on."""
        for key in sorted(self._stored)[:-KEEP]:
            if key[0] < index:
                meta = self._stored.pop(key).meta
                self._files.unlink(self._path(_meta_name(meta)))
                self._files.sync_directory(self._directory)
                self._files.unlink(self._path(_data_name(meta)))

    # --- reading ---

    def read(self, meta: SnapshotMeta, offset: int, bytes_max: int) -> bytes:
        """Read a part of a complete snapshot, checked. Cost: the blocks that the part touches.

        Raises:
            SnapshotGoneError: that snapshot is no longer there.
            LogDamagedError: its bytes are not what was written.
        """
        stored = self._stored.get((meta.index, meta.term))
        if stored is None or stored.meta != meta:
            raise SnapshotGoneError(f"the snapshot at {meta.index} is no longer there")
        end = min(offset + bytes_max, meta.size_bytes)
        if offset >= end:
            return b""
        first = offset // BLOCK_BYTES * BLOCK_BYTES
        last = min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, meta.size_bytes)
        path = self._path(_data_name(meta))
        try:
            data = self._files.read(path, first, last - first)
        except FileNotFoundError:
            raise SnapshotGoneError(f"the snapshot at {meta.index} is no longer there") from None
        view = memoryview(data)
        for start in range(0, last - first, BLOCK_BYTES):
            expected = stored.blocks[(first + start) // BLOCK_BYTES]
            if xxh3_64_intdigest(view[start : start + BLOCK_BYTES]) != expected:
                raise LogDamagedError(path, first + start, "a snapshot's checksum does not match")
        return data[offset - first : end - first]

    def close(self) -> None:
        """Close the files of an arriving snapshot."""
        self._close_incoming()

    def _close_incoming(self) -> None:
        for file in (self._data, self._pieces):
            if file is not None:
                file.close()
        self._data = self._pieces = None

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"


def _data_name(meta: SnapshotMeta) -> str:
    return f"snapshot-{meta.index:020}-{meta.term:020}.data"


def _meta_name(meta: SnapshotMeta) -> str:
    return f"snapshot-{meta.index:020}-{meta.term:020}.meta"


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a stream of bytes into blocks; only the last one may be short."""
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        whole = len(rest) // BLOCK_BYTES * BLOCK_BYTES
        if whole:
            view = bytes(memoryview(rest)[:whole])
            del rest[:whole]
            for start in range(0, whole, BLOCK_BYTES):
                yield view[start : start + BLOCK_BYTES]
    if rest:
        yield bytes(rest)


def meta_from_fields(fields: object) -> SnapshotMeta:
    """Check the decoded facts of a snapshot.

    Raises:
        MessageMalformedError: shape, type or range is wrong.
    """
    if not isinstance(fields, tuple) or len(fields) != 5:
        raise MessageMalformedError("a snapshot's facts are five fields")
    index, term, membership, size, checksum = fields
    for number in (index, term, size, checksum):
        if type(number) is not int or not 0 <= number <= NUMBER_MAX:
            raise MessageMalformedError("a snapshot's facts are out of range")
    return SnapshotMeta(index, Term(term), membership_from_fields(membership), size, checksum)


def stored_from_fields(fields: tuple[object, ...]) -> _Stored:
    if len(fields) != 7 or fields[5] != BLOCK_BYTES or not isinstance(fields[6], tuple):
        raise MessageMalformedError("a snapshot's facts have another shape")
    meta = meta_from_fields(fields[:5])
    blocks = fields[6]
    if set(map(type, blocks)) - {int} or len(blocks) != -(-meta.size_bytes // BLOCK_BYTES):
        raise MessageMalformedError("a snapshot's block checksums do not match its size")
    return _Stored(meta, blocks)
