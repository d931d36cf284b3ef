"""A cluster of brokers: replicated metadata, replicated partitions, failover.

Start with ``docs/cluster.md``. The pure cores come first: `epochs`, `producers`, `leader` and
`follower` (one partition, or the partitions of one leader), `placement` and `election` (who holds
and who leads), `sessions` (who lives), `state` (what the Raft group replicates). The shells over
them are `metadata_group`, `peers`, `replicator` and `membership`.
"""
