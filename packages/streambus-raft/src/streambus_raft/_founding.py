"""How a node's log begins: founded by order, left empty to join, or not at all.

An empty storage is that of a new node, or all that is left of one that took part: nobody here can
tell. Did every empty founder found its cluster again, the loss of one disk could make a second
cluster; of a single founder it certainly would. So founding is an act that the caller orders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streambus_raft._hard_state import HardState
from streambus_raft._storage import SnapshotPiece, Write, bootstrap_snapshot
from streambus_raft.errors import StorageEmptyError

if TYPE_CHECKING:
    from streambus_raft._membership import Membership
    from streambus_raft._storage import LogStorage
    from streambus_raft._types import NodeId


def begin_log(
    storage: LogStorage, node_id: NodeId, founders: Membership, *, bootstrap: bool, join: bool
) -> None:
    """Let an empty log begin as ordered; without effect on any other. Blocks for the disk.

    Args:
        storage: Opened, and not used by anybody yet.
        node_id: Whose it is.
        founders: The configuration to write down.
        bootstrap: Found the cluster.
        join: Stay without a configuration.

    Raises:
        StorageEmptyError: it is empty, and neither was ordered.
        StorageError: the storage failed.
    """
    if not is_empty(storage) or join:
        return
    if not bootstrap:
        raise StorageEmptyError(node_id)
    meta = bootstrap_snapshot(founders)
    piece = SnapshotPiece(meta, 0, b"")
    storage.write(Write(0, None, (piece,), meta, [], must_sync=True))
    storage.sync()


def is_empty(storage: LogStorage) -> bool:
    """Whether nothing was ever written down here, no vote and no configuration."""
    state = storage.state()
    return (
        state.hard_state == HardState()
        and state.snapshot.index == 0
        and not state.snapshot.membership.voters
        and storage.last_index() == 0
        and state.loss is None
    )
