"""Keep the metadata in the ``meta`` tree: load it at the start, store changes durably.

Keys: ``format``, ``cluster``, and ``topic/<name>`` for each topic. A change is one atomic batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgpack

from streambus_broker.errors import StoredStateError
from streambus_broker.metadata.records import FORMAT_VERSION, ClusterRecord, TopicRecord
from streambus_broker.metadata.registry import Changes, Registry
from streambus_storage import WriteBatch

if TYPE_CHECKING:
    from streambus_storage import LSMTree

_FORMAT = b"format"
_CLUSTER = b"cluster"
_TOPIC = b"topic/"


def load_registry(tree: LSMTree, path: str, new_cluster_id: str) -> Registry:
    """Read the metadata, or begin a new cluster in an empty tree.

    Args:
        tree: The ``meta`` tree.
        path: The data directory, for errors.
        new_cluster_id: What a new cluster is called.

    Raises:
        StoredStateError: The directory has another format version, or a record makes no sense.
    """
    stored_format = tree.get(_FORMAT)
    if stored_format is None:
        registry = Registry(ClusterRecord(new_cluster_id))
        with tree.batch(sync=True) as batch:
            batch.put(_FORMAT, msgpack.packb(FORMAT_VERSION))
            batch.put(_CLUSTER, registry.cluster.encode())
        return registry
    try:
        version = msgpack.unpackb(stored_format)
        if version != FORMAT_VERSION:
            raise StoredStateError(
                path,
                f"has format version {version!r}, this version reads {FORMAT_VERSION}",
                "start the broker version that wrote it, or choose another directory",
            )
        stored_cluster = tree.get(_CLUSTER)
        if stored_cluster is None:
            raise ValueError("the cluster record is missing")
        registry = Registry(ClusterRecord.decode(stored_cluster))
        for _, value in tree.scan(prefix=_TOPIC):
            topic = TopicRecord.decode(value)
            registry.topics[topic.name] = topic
    except (ValueError, msgpack.UnpackException) as exc:
        raise StoredStateError(
            path, f"holds metadata that cannot be read: {exc}", "restore it from a backup"
        ) from exc
    return registry


def encode_changes(changes: Changes) -> WriteBatch:
    """Turn changes into one atomic write."""
    batch = WriteBatch()
    for topic in changes.topics:
        batch.put(_TOPIC + topic.name.encode(), topic.encode())
    for name in changes.deleted:
        batch.delete(_TOPIC + name.encode())
    if changes.cluster is not None:
        batch.put(_CLUSTER, changes.cluster.encode())
    return batch
