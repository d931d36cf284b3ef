"""Seeded bugs of leases, sessions and reassignment; see `mutant_list`."""

from __future__ import annotations

from tests.cluster.mutant import Mutant

LEASES = [
    Mutant(
        "appends-without-lease",
        "cluster.produce",
        "replica.leading is None or node.closing or node.lapsed():\n",
        "replica.leading is None or node.closing:\n",
        "a leader takes records although others may lead by now",
    ),
    Mutant(
        "reads-without-lease",
        "cluster.fetch",
        "            return not node.lapsed()\n",
        "            return True\n",
        "a leader lets clients read although others may lead by now",
    ),
    Mutant(
        "lease-counts-from-the-answer",
        "cluster.member",
        "            self._use_lease(asked_s, 0.0 if",
        "            self._use_lease(node.steady_s(), 0.0 if",
        "a lease is counted from the answer to a heartbeat, however late that comes",
    ),
    Mutant(
        "lease-without-a-margin",
        "cluster.lease",
        "asked_s + lasts_s * (1 - DRIFT))\n",
        "asked_s + lasts_s)\n",
        "a lease is as long as the session, although clocks may run apart",
    ),
    Mutant(
        "lease-by-the-wall-clock",
        "cluster.member",
        "        asked_s = node.steady_s()\n        try:\n            answer",
        "        asked_s = node.clock_ms() / 1000\n        try:\n            answer",
        "a lease is counted on the clock that tells the date",
    ),
    Mutant(
        "grants-while-it-fences",
        "cluster.sessions",
        "        if broker_id in self._ending:\n            return False\n",
        "",
        "a session whose end is decided gets a lease until that is carried out",
    ),
    Mutant(
        "grants-beyond-its-office",
        "cluster.lease",
        "return max(0.0, self._confirmed_s + self.session_s - now_s)",
        "return self.session_s",
        "a controller grants leases although it may have a successor",
    ),
    Mutant(
        "past-life-judges-the-new",
        "cluster.sessions",
        "            if self._epochs.get(broker_id) != epoch:\n",
        "            if broker_id not in self._ends_s:\n",
        "a broker that registers anew is fenced for what its former life did not say",
    ),
    Mutant(
        "cut-off-is-taken-for-dead",
        "cluster.raft_transport",
        "                if broke and error.refused:\n",
        "                if broke:\n",
        "a broker that cannot be reached counts as one whose process is gone",
    ),
    Mutant(
        "new-controller-knows-nobody-lives",
        "cluster.sessions",
        "                self._forget(broker_id)\n"
        "                self._ends_s[broker_id] = now_s + self.timeout_s\n",
        "                self._forget(broker_id)\n"
        "                self._ends_s[broker_id] = now_s + self.suspect_s\n",
        "a new controller gives the others less time than their leases last",
    ),
    Mutant(
        "successor-does-not-wait",
        "cluster.member",
        "            self.sessions.suspect(broker_id, now_s, self.office.own_lease_s)\n",
        "            self.sessions.suspect(broker_id, now_s, 0.0)\n",
        "a controller's successor fences it while its lease lasts",
    ),
    Mutant(
        "controller-keeps-its-old-lease",
        "cluster.member",
        "                        self.lease.shortened(node.steady_s(), self.office.own_lease_s)\n",
        "",
        "whoever becomes the controller goes on with the longer lease that another granted",
    ),
]

MOVES = [
    Mutant(
        "added-replica-counts-at-once",
        "cluster.reassignment",
        "    moved = election.with_in_sync(moved, record.in_sync)\n",
        "    moved = election.with_in_sync(moved, (*record.in_sync, *adding))\n",
        "a replica counts as in sync from the moment that it is added",
    ),
    Mutant(
        "moves-leave-too-few",
        "cluster.reassignment",
        "    return max(0, need - len(after.in_sync))\n",
        "    return 0\n",
        "a reassignment ends, or is called off, with too few of the rest in sync",
    ),
    Mutant(
        "asked-for-does-not-count-yet",
        "cluster.in_sync_requests",
        "            leading.asked(wanted)\n",
        "",
        "while a leader asks for several in-sync sets at once, records are committed without those"
        " who are to come in",
    ),
    Mutant(
        "deletes-in-its-past",
        "cluster.node",
        "        if self.knows_latest:\n            self._remove_records([partition_id])\n",
        "        self._remove_records([partition_id])\n",
        "a broker that starts deletes what left it once, though it has come back since",
    ),
]
