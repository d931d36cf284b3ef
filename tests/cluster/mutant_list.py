"""The seeded bugs of replication and failover: what `mutants cluster` hunts."""

from __future__ import annotations

from tests.cluster.mutant import Mutant
from tests.cluster.mutant_list_leases import LEASES, MOVES

_DURABILITY = [
    Mutant(
        "fetched-is-synced",
        "cluster.leader",
        "known.durable = min(durable, offset)",
        "known.durable = offset",
        "a record that a follower has written counts as synced there",
    ),
    Mutant(
        "own-sync-not-waited-for",
        "cluster.leader",
        "        self.log_end = log_end\n\n    def synced",
        "        self.log_end = self.durable = log_end\n\n    def synced",
        "the leader counts its own record as synced when it is written",
    ),
    Mutant(
        "records-not-synced",
        "log.durability",
        "        self._waiting.append((sequence, call))\n        if self._idle:\n",
        "        self._loop.call_soon(call, None)\n        if False:\n",
        "whoever waits for a sync is told at once",
    ),
    Mutant(
        "sync-covers-later-writes",
        "log.durability",
        "waiting[0][0] <= covered or error is not None",
        "True",
        "a sync counts for writes that came after it began",
    ),
    Mutant(
        "failed-sync-is-success",
        "log.durability",
        "waiting.popleft()[1](error)",
        "waiting.popleft()[1](None)",
        "records of a failed sync count as durable",
    ),
    Mutant(
        "metadata-not-synced",
        "cluster.raft_log",
        "            self._tree.on_durable(self._tree.last_sequence, synced)\n",
        "            synced(None)\n",
        "votes and entries of the metadata group count as durable when they are written",
    ),
    Mutant(
        "durability-survives-truncation",
        "cluster.follower",
        "        known.durable = min(known.durable, log_end)\n        known.retry_s = 0.0\n",
        "        known.durable = max(known.durable, 0)\n        known.retry_s = 0.0\n",
        "a follower's session takes what was truncated for durable",
    ),
    Mutant(
        "replica-durable-survives-truncation",
        "cluster.replica_log",
        "        self.durable = min(self.durable, end)\n",
        "        self.durable = max(self.durable, end)\n",
        "a replica takes what replaces truncated records for durable",
    ),
    Mutant(
        "sync-outlives-a-cut",
        "cluster.replica_log",
        "        if written.cuts != self._cuts:\n            return False\n",
        "",
        "a sync from before a truncation counts for what came in the place of the truncated",
    ),
    Mutant(
        "end-of-later-append-is-synced",
        "cluster.node",
        "                leading.synced(written.end)\n",
        "                leading.synced(written.end + 5)\n",
        "a leader's sync counts for records that it has not appended yet",
    ),
]

_COMMIT = [
    Mutant(
        "leader-alone-commits",
        "cluster.leader",
        "                if position < lowest:\n                    lowest = position\n",
        "                if position < lowest:\n                    continue\n",
        "the in-sync followers' positions do not count",
    ),
    Mutant(
        "unknown-follower-ignored",
        "cluster.leader",
        "position = UNKNOWN if known is None else known.durable",
        "position = lowest if known is None or known.durable == UNKNOWN else known.durable",
        "in-sync followers that have not reported in this epoch do not count",
    ),
    Mutant(
        "watermark-off-by-one",
        "cluster.leader",
        "        if lowest > self.high_watermark:\n            self.high_watermark = lowest\n",
        "        if lowest >= self.high_watermark and lowest < self.log_end:\n"
        "            self.high_watermark = lowest + 1\n",
        "the high watermark is one record too high",
    ),
    Mutant(
        "requested-set-counts-at-once",
        "cluster.leader",
        "counted = in_sync if self._requested is None else in_sync | self._requested",
        "counted = in_sync if self._requested is None else self._requested",
        "a requested in-sync set counts before it is granted",
    ),
    Mutant(
        "requested-set-does-not-count",
        "cluster.leader",
        "counted = in_sync if self._requested is None else in_sync | self._requested",
        "counted = in_sync",
        "a record is committed without a member that the controller may have let in already",
    ),
    Mutant(
        "joins-before-it-caught-up",
        "cluster.leader",
        "keep = known.durable >= max(self.high_watermark, self.epoch_start)",
        "keep = known.fetched >= 0",
        "a follower joins the in-sync set without what is committed",
    ),
    Mutant(
        "everybody-in-sync",
        "cluster.leader",
        "            if keep:\n                wanted.add(replica)\n",
        "            wanted.add(replica)\n",
        "every replica is asked into the in-sync set",
    ),
    Mutant(
        "progress-before-fetch-counts",
        "cluster.leader",
        "        if known is None or known.fetched == UNKNOWN:\n"
        "            return self.high_watermark\n"
        "        if durable > known.durable:\n"
        "            known.durable = min(durable, self.log_end)\n",
        "        if known is None:\n            return self.high_watermark\n"
        "        if True:\n            known.durable = max(durable, self.log_end)\n",
        "any progress of a follower counts for the whole log",
    ),
    Mutant(
        "lost-follower-still-counts",
        "cluster.leader",
        "            known.fetched = known.durable = UNKNOWN\n",
        "            known.fetched = known.durable = self.log_end\n",
        "a follower whose session ended counts as if it had everything",
    ),
    Mutant(
        "acknowledged-before-committed",
        "cluster.produce",
        "one.replica.stored.log.high_watermark < one.offset",
        "one.replica.stored.log.next_offset < one.offset",
        "acks=all is answered when the leader has written",
    ),
    Mutant(
        "acknowledged-one-early",
        "cluster.replica",
        "waiting[count].offset <= watermark",
        "waiting[count].offset <= watermark + 1",
        "acks=all is answered one record before it is committed",
    ),
    Mutant(
        "deposed-leader-acknowledges",
        "cluster.replica",
        "            one.call(reason)\n",
        "            one.call(None)\n",
        "who waits when leadership ends is told that all is well",
    ),
    Mutant(
        "new-leader-commits-its-log",
        "cluster.replica",
        "            high_watermark=log.high_watermark,\n",
        "            high_watermark=log.next_offset,\n",
        "a new leader takes its whole log for committed",
    ),
    Mutant(
        "recovered-is-committed",
        "cluster.replica_log",
        "min(watermark, log.next_offset))\n",
        "log.next_offset)\n",
        "what is found after a restart counts as committed",
    ),
    Mutant(
        "leader-serves-uncommitted",
        "cluster.replica_log",
        "        self._appended(header, base_offset, value)\n"
        "        return base_offset, sequence\n",
        "        self._appended(header, base_offset, value)\n"
        "        log.high_watermark = log.next_offset\n        return base_offset, sequence\n",
        "consumers see what the leader has written",
    ),
    Mutant(
        "follower-takes-all-for-committed",
        "cluster.fetcher",
        "log.advance_high_watermark(min(high_watermark, log.next_offset))",
        "log.advance_high_watermark(log.next_offset)",
        "a follower takes for committed what it has fetched",
    ),
    Mutant(
        "fetch-beyond-watermark",
        "log.store",
        "stop = log.high_watermark if stop_offset is None else stop_offset",
        "stop = log.next_offset",
        "a read goes on to the log's end",
    ),
]

_ELECTION = [
    Mutant(
        "any-living-replica-leads",
        "cluster.election",
        "if each in in_sync and each in able), NO_LEADER)",
        "if each in able), NO_LEADER)",
        "a replica that is not in sync is elected",
    ),
    Mutant(
        "epoch-not-raised",
        "cluster.election",
        "        leader_epoch=record.leader_epoch + 1,\n",
        "        leader_epoch=record.leader_epoch,\n",
        "an election keeps the leader epoch",
    ),
    Mutant(
        "restarted-leader-keeps-epoch",
        "cluster.registering",
        "        if record.leader == broker.broker_id:\n"
        "            # What it wrote and had not synced is gone: nobody may take its log "
        "for the"
        " old one.\n            return",
        "        if record.leader == broker.broker_id and not broker.leads:\n            return",
        "a leader that restarts within its session goes on in its old epoch",
    ),
    Mutant(
        "fenced-broker-leads",
        "cluster.registering",
        "    electable = state.electable(broker)\n\n    def change(placed: Placed)"
        " -> PartitionRecord:\n        record = placed.record\n"
        "        if broker.broker_id not in record.replicas:\n            return record\n"
        "        minimum",
        "    electable = state.electable()\n\n    def change(placed: Placed)"
        " -> PartitionRecord:\n        record = placed.record\n"
        "        if broker.broker_id not in record.replicas:\n            return record\n"
        "        minimum",
        "nobody is elected where a broker is fenced",
    ),
    Mutant(
        "lost-disk-stays-in-sync",
        "cluster.registering",
        "    lost_disk = known is not None and known.storage_id != command.storage_id\n",
        "    lost_disk = False\n",
        "a broker that comes back with an empty disk counts as in sync",
    ),
    Mutant(
        "deposed-leader-leads-on",
        "cluster.node",
        "        if me is None or record.leader != me.broker_id:\n            if replica.leading",
        "        if replica.leading is None and (me is None or record.leader != me.broker_id):\n"
        "            if replica.leading",
        "a broker leads on although the metadata names another one",
    ),
    Mutant(
        "acts-before-it-registers",
        "cluster.node",
        "        if record is None or record.incarnation != self.incarnation or record.fenced:\n",
        "        if record is None or record.fenced:\n",
        "a restarted broker acts on what was said to its former life",
    ),
    Mutant(
        "leads-in-old-epoch",
        "cluster.node",
        "if leading is None or replica.stored.log.leader_epoch != record.leader_epoch:",
        "if leading is None:",
        "a leader that is elected anew does not begin anew",
    ),
    Mutant(
        "reassignment-ends-too-early",
        "cluster.reassignment",
        "not set(record.adding) <= set(record.in_sync):",
        "not set(record.adding) <= set(record.replicas):",
        "those that leave are dropped before the added ones have caught up",
    ),
]

_LOGS = [
    Mutant(
        "divergence-not-looked-for",
        "cluster.epochs",
        "        if end.epoch == last_epoch and offset <= end.end_offset:\n"
        "            return None\n"
        "        return end\n",
        "        return None\n",
        "a follower keeps records that its leader does not have",
    ),
    Mutant(
        "epoch-not-compared",
        "cluster.epochs",
        "if end.epoch == last_epoch and offset <= end.end_offset:",
        "if offset <= end.end_offset:",
        "a follower's last record is compared by offset alone",
    ),
    Mutant(
        "offset-not-compared",
        "cluster.epochs",
        "if end.epoch == last_epoch and offset <= end.end_offset:",
        "if end.epoch == last_epoch:",
        "a follower that is longer in an epoch than its leader is not cut",
    ),
    Mutant(
        "truncates-one-too-many",
        "cluster.epochs",
        "return max(0, min(mine.end_offset, leader_end.end_offset))",
        "return max(0, min(mine.end_offset, leader_end.end_offset) - 1)",
        "a follower goes back one record too far",
    ),
    Mutant(
        "truncates-too-few",
        "cluster.epochs",
        "return max(0, min(mine.end_offset, leader_end.end_offset))",
        "return max(0, leader_end.end_offset)",
        "a follower goes by its leader's epochs alone",
    ),
    Mutant(
        "epochs-not-noted",
        "cluster.epochs",
        "        if epoch <= self.latest:\n            return False\n        self.cut",
        "        if epoch <= self.latest or self.epochs:\n            return False\n"
        "        self.cut",
        "only the first leader epoch of a log is noted",
    ),
    Mutant(
        "epochs-survive-truncation",
        "cluster.replica_log",
        "        left.cut(end)\n",
        "",
        "a truncated log remembers the epochs of what is gone",
    ),
    Mutant(
        "epochs-not-stored",
        "cluster.replica_log",
        "        batch.put(epochs_key(self.log.partition_id), ahead.encode())\n",
        "",
        "leader epochs are forgotten with a restart",
    ),
    Mutant(
        "truncated-batches-stay-cached",
        "cluster.replica_log",
        "        self.store.tail.forget(self.log.partition_id)\n",
        "",
        "truncated batches are served from memory",
    ),
    Mutant(
        "truncation-not-stored",
        "cluster.replica_log",
        "        batch.delete_range(\n            batch_key(partition_id, mark.next_offset),"
        " partition_prefix(partition_id + 1)\n        )\n",
        "",
        "truncated batches stay on disk",
    ),
    Mutant(
        "leader-epoch-of-fetch-ignored",
        "cluster.replica_sessions",
        "        if position.leader_epoch != log.leader_epoch:\n",
        "        if False:\n",
        "a leader serves followers of another epoch",
    ),
    Mutant(
        "old-session-undoes-new",
        "cluster.replica_sessions",
        "            self._end_all_of(request.broker_id)\n",
        "",
        "a follower's older connection goes on beside its newer one",
    ),
    Mutant(
        "answer-of-old-position-appended",
        "cluster.follower",
        "            if answer.partition_id in self._changed:\n                continue  #",
        "            if False:\n                continue  #",
        "an answer to a position that was left is carried out",
    ),
    Mutant(
        "answer-of-old-epoch-appended",
        "cluster.follower",
        "if known is None or known.leader_epoch != answer.leader_epoch:",
        "if known is None:",
        "an answer of an earlier leader epoch is carried out",
    ),
]

_PRODUCERS = [
    Mutant(
        "retry-not-recognised",
        "log.producers",
        "            if batch.base_sequence == base and batch.last_sequence == last:\n"
        "                return batch\n",
        "            if batch.base_sequence == base and batch.last_sequence == last:\n"
        "                return None\n",
        "a batch that is sent again is appended again",
    ),
    Mutant(
        "retry-acknowledged-at-once",
        "cluster.produce",
        "return result, replica, known.last_offset + 1",
        "return result, replica, 0",
        "a retry is answered before what it repeats is committed",
    ),
    Mutant(
        "retry-answered-with-the-end",
        "cluster.produce",
        "result = (0, None, known.base_offset, -1, log.log_start_offset)",
        "result = (0, None, log.next_offset, -1, log.log_start_offset)",
        "a retry is answered with another offset",
    ),
    Mutant(
        "producers-forgotten-by-followers",
        "cluster.replica_log",
        "        if header.producer_id >= 0:\n"
        "            self.producers.appended(header, base_offset)\n",
        "        if header.producer_id >= 0 and log.leads:\n"
        "            self.producers.appended(header, base_offset)\n",
        "a new leader does not know the producers of its predecessor",
    ),
    Mutant(
        "producers-survive-truncation",
        "cluster.replica_log",
        "        self.store.recover_producers(self.log)\n        self.knows_producers = True\n",
        "        self.knows_producers = True\n",
        "a batch that was truncated counts as written, and its retry is acknowledged",
    ),
    Mutant(
        "producers-not-recovered",
        "cluster.replica_log",
        "            learn_producers(tree, log, known_to)\n",
        "",
        "a restarted broker has forgotten its producers",
    ),
    Mutant(
        "old-producer-epoch-accepted",
        "log.producers",
        "    if epoch < known.epoch:\n",
        "    if epoch < known.epoch:\n        return None\n    if epoch < 0:\n",
        "a batch that its producer has given up is appended when it arrives late",
    ),
    Mutant(
        "producer-ids-given-twice",
        "cluster.state",
        "return ClusterChanges(next_producer_id=first + command.count, answer=first)",
        "return ClusterChanges(next_producer_id=first, answer=first)",
        "two producers get the same id",
    ),
]

_FOLLOWER_READS = [
    Mutant(
        "follower-serves-beyond-its-watermark",
        "log.store",
        "        stop = log.high_watermark if stop_offset is None else stop_offset\n",
        "        stop = log.high_watermark if log.leads else log.next_offset\n"
        "        stop = stop if stop_offset is None else stop_offset\n",
        "consumers of a follower see all that it has fetched",
    ),
    Mutant(
        "stale-follower-serves-on",
        "cluster.node",
        "            me is not None\n            and replica.follows != NOBODY\n",
        "            True or me is not None\n            and replica.follows != NOBODY\n",
        "a follower serves whether it is in sync, in touch and in session or not",
    ),
    Mutant(
        "leader-redirects-to-lagging",
        "cluster.closest",
        "each.rack == rack and each.serving and each.log_end >= offset",
        "each.rack == rack and each.serving",
        "a leader sends consumers to a follower that does not hold what they ask for",
    ),
]

MUTANTS = [
    *_DURABILITY, *_COMMIT, *_ELECTION, *LEASES, *MOVES, *_LOGS, *_PRODUCERS, *_FOLLOWER_READS,
]  # fmt: skip
