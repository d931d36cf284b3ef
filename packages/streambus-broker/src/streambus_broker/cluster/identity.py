"""Who a data directory belongs to: its storage identity, and the metadata group that it is in.

The identity is drawn when the directory is made and stands in both trees, so that a broker which
came back with another directory, or with half of its own, is recognised.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import msgpack

from streambus_broker.errors import StoredStateError
from streambus_broker.log.keys import KEY
from streambus_storage import StorageError

if TYPE_CHECKING:
    from random import Random

    from streambus_storage import LSMTree

FORMAT_VERSION = 1
_META_KEY = b"cluster/identity"
_DATA_KEY = KEY.pack(0, 2**64 - 1)
_DAMAGE_KEY = b"cluster/damage"
_SINGLE_FORMAT = b"format"


class Identity(NamedTuple):
    """What a data directory says about itself.

    Attributes:
        node_id: The broker that it belongs to.
        storage_id: Its identity.
        group: The name of the metadata group; empty for a new directory.
    """

    node_id: int
    storage_id: bytes
    group: str


def load_identity(
    meta: LSMTree, data: LSMTree, path: str, node_id: int, random: Random
) -> Identity:
    """Read the identity, or give a new directory one.

    Raises:
        StoredStateError: The directory is another broker's, a single broker's, only half of one,
            of another format, or damage was found in it (see `note_damage`).
    """
    stored, mark = meta.get(_META_KEY), data.get(_DATA_KEY)
    damage = meta.get(_DAMAGE_KEY)
    if damage is not None:
        raise StoredStateError(
            path,
            f"was found damaged: {damage.decode(errors='replace')}",
            "empty it: the broker is rebuilt from its peers",
        )
    if stored is None:
        if meta.get(_SINGLE_FORMAT) is not None:
            raise StoredStateError(
                path,
                "belongs to a broker on its own, not to one of a cluster",
                "start it without voters, or give this broker another --data-dir",
            )
        if mark is not None:
            raise StoredStateError(
                path,
                "has records, and its metadata is gone",
                "empty it: the broker is rebuilt from its peers",
            )
        identity = Identity(node_id, random.randbytes(16), "")
        data.put(_DATA_KEY, identity.storage_id, sync=True)
        _store(meta, identity)
        return identity
    try:
        version, *fields = msgpack.unpackb(stored)
        if version != FORMAT_VERSION:
            raise ValueError(f"format version {version}, this broker reads {FORMAT_VERSION}")
        identity = Identity(*fields)
    except (TypeError, ValueError, msgpack.UnpackException) as exc:
        raise StoredStateError(
            path, f"has an identity that cannot be read: {exc}", "empty it, or restore it"
        ) from exc
    if identity.node_id != node_id:
        raise StoredStateError(
            path,
            f"belongs to node {identity.node_id}, this is node {node_id}",
            "give each broker a directory of its own",
        )
    if mark != identity.storage_id:
        raise StoredStateError(
            path,
            "has metadata, and its records are gone or another broker's",
            "empty it: the broker is rebuilt from its peers",
        )
    return identity


def keep_group(meta: LSMTree, path: str, identity: Identity, group: str) -> Identity:
    """Remember the group that this broker is in.

    Raises:
        StoredStateError: It was in another one.
    """
    if identity.group == group:
        return identity
    if identity.group:
        raise StoredStateError(
            path,
            "belongs to a cluster that was formed by other voters",
            "name the voters with which the cluster began, or choose another directory",
        )
    identity = identity._replace(group=group)
    _store(meta, identity)
    return identity


def note_damage(meta: LSMTree, problem: str) -> None:
    """Have this directory refused from now on: what it holds is not what was written.

    A broker that merely stopped would come back, count as in sync and be elected, with records
    that it cannot read. Where the note cannot be stored either, every start finds the damage anew.
    """
    with contextlib.suppress(StorageError):
        meta.put(_DAMAGE_KEY, problem.encode(), sync=True)


def _store(meta: LSMTree, identity: Identity) -> None:
    meta.put(_META_KEY, msgpack.packb([FORMAT_VERSION, *identity]), sync=True)
