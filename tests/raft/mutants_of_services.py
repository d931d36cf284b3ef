"""Seeded bugs in reads, membership, snapshots, handover and identity."""

from __future__ import annotations

from tests.raft.mutant import Mutant

MUTANTS = [
    # Reads
    Mutant(
        "read-before-first-commit",
        "_reads",
        "    if not node.committed_in_term():\n        node.reads_deferred",
        "    if not node.term_start:\n        node.reads_deferred",
        "a new leader answers reads at an old commit",
    ),
    Mutant(
        "read-without-quorum",
        "_reads",
        "    confirmed = _confirmed_round(node)\n    while node.reads_waiting",
        "    confirmed = node.round\n    while node.reads_waiting",
        "a deposed leader answers reads",
    ),
    Mutant(
        "read-confirmed-by-earlier-round",
        "_reads",
        "    node.reads_waiting.append((node.round + 1, node.commit, origin, ticket))",
        "    node.reads_waiting.append((node.round, node.commit, origin, ticket))",
        "an answer to a round before the read confirms it",
        "tests/raft/test_scenarios_reads.py"
        "::test_08_answer_to_an_earlier_round_confirms_nothing_later",
    ),
    Mutant(
        "reads-survive-office",
        "_roles",
        "    node.reads_waiting.clear()\n",
        "",
        "reads promised in an earlier office are answered in a later one",
    ),
    Mutant(
        "lease-never-ends",
        "_reads",
        "    return node.commit if now_seconds < started + node.config.lease_seconds else None",
        "    return node.commit",
        "a lease is not checked against the clock",
        "tests/raft/test_scenarios_reads.py"
        "::test_09_lease_holds_while_a_quorum_answers_and_ends_by_the_clock",
    ),
    Mutant(
        "lease-without-confirmation",
        "_reads",
        "    if number > _confirmed_round(node):\n        return None\n",
        "",
        "a lease is counted from a round that nobody answered",
        "tests/raft/test_scenarios_reads.py::test_09_lease_needs_an_answer",
    ),
    Mutant(
        "lease-survives-transfer",
        "_handover",
        "    node.lease_forfeited = True\n",
        "",
        "a lease goes on although somebody was told to campaign",
        "tests/raft/test_scenarios_reads.py"
        "::test_09_lease_is_forfeited_by_a_transfer_even_one_that_failed",
    ),
    Mutant(
        "lease-forgotten-by-restart",
        "_state",
        "        self.grace = state.hard_state.term > 0",
        "        self.grace = False",
        "a voter that restarts helps another leader into office during a lease",
        "tests/raft/test_scenarios_reads.py::test_09_restarted_voter_keeps_protecting_the_lease",
    ),
    Mutant(
        "lease-survives-clock-jump",
        "_reads",
        "        node.round_times.clear()\n    node.now",
        "        pass\n    node.now",
        "a clock that goes back prolongs a lease",
        "tests/raft/test_scenarios_reads.py::test_09_lease_fails_closed_on_a_clock_that_jumps",
    ),
    Mutant(
        "tickets-repeat",
        "_state",
        "        self.next_ticket = random.randrange(1, NUMBER_MAX // 2)",
        "        self.next_ticket = 1",
        "the answer to a read of an earlier life answers one of this",
        "tests/raft/test_scenarios_reads.py"
        "::test_08_answer_to_a_read_of_an_earlier_life_answers_none_of_this",
    ),
    # Membership
    Mutant(
        "change-before-first-commit",
        "_changes",
        "    if not node.committed_in_term():\n        raise",
        "    if not node.term_start:\n        raise",
        "two leaders each remove a node and both find a majority (2015)",
        "tests/raft/test_scenarios_membership.py"
        "::test_03_no_change_before_an_entry_of_the_term_is_committed",
    ),
    Mutant(
        "two-changes-at-once",
        "_changes",
        "    if is_pending(node):\n        raise",
        "    if node.track.current.is_joint:\n        raise",
        "a second change begins before the first is committed",
        "tests/raft/test_scenarios_membership.py::test_03_one_change_at_a_time",
    ),
    Mutant(
        "joint-left-before-commit",
        "_changes",
        "    if not node.committed_in_term() or node.track.index > node.commit:\n        return\n"
        "    current",
        "    if not node.committed_in_term():\n        return\n    current",
        "a joint configuration is left before it is committed",
        "tests/raft/test_scenarios_membership.py"
        "::test_16_joint_configuration_is_left_only_after_it_is_committed",
    ),
    Mutant(
        "configuration-survives-truncation",
        "_replication",
        "            node.track.truncate(fresh[0].index)\n",
        "",
        "a configuration whose entry was truncated stays in force",
        "tests/raft/test_scenarios_membership.py"
        "::test_16_configuration_is_in_force_when_it_is_in_the_log",
    ),
    Mutant(
        "snapshot-without-configuration",
        "_snapshots",
        "    node.track.restore(meta.index, meta.membership)\n",
        "",
        "an installed snapshot does not bring its configuration",
        "tests/raft/test_scenarios_snapshots.py"
        "::test_17_snapshot_s_configuration_beats_an_uncommitted_one",
    ),
    Mutant(
        "two-voters-changed-in-one-step",
        "_membership",
        "    joint = len(voters ^ before) > 1",
        "    joint = len(voters ^ before) > 3",
        "several voters change without a joint configuration",
        "tests/raft/test_quorum.py::test_any_two_quorums_of_neighbouring_configurations_meet",
    ),
    # Snapshots
    Mutant(
        "snapshot-acknowledged-before-durable",
        "_snapshots",
        "    node.send_durable(\n        SnapshotReply(",
        "    node.send(\n        SnapshotReply(",
        "an installed snapshot is acknowledged before it is on the disk",
        "tests/raft/test_scenarios_snapshots.py"
        "::test_18_snapshot_is_acknowledged_only_when_it_is_durable",
    ),
    Mutant(
        "snapshot-keeps-log",
        "_snapshots",
        "    node.log.restore(meta)\n",
        "",
        "the log is not replaced by the snapshot",
    ),
    Mutant(
        "old-snapshot-installed",
        "_snapshots",
        "    if meta.index <= node.commit:",
        "    if meta.index < 0:",
        "a late snapshot takes the node back",
        "tests/raft/test_scenarios_snapshots.py"
        "::test_18_old_or_repeated_snapshot_takes_nothing_back",
    ),
    Mutant(
        "piece-out-of-place",
        "_snapshots",
        "    if message.offset != node.partial_bytes:",
        "    if message.offset > node.partial_bytes:",
        "a repeated piece is written twice",
    ),
    Mutant(
        "snapshot-matches-too-much",
        "_snapshots",
        "        progress.accepted(meta.index)",
        "        progress.accepted(node.log.last)",
        "an installed snapshot counts as the whole log",
    ),
    # What no rule of safety covers, and directed tests do
    Mutant(
        "pre-vote-raises-term",
        "_dispatch",
        "        if message.pre_vote:\n            return True\n    elif",
        "    elif",
        "a pre-vote makes its receiver enter the term that is asked about",
        "tests/raft/test_scenarios_elections.py::test_12_pre_vote_alters_neither_term_nor_vote",
    ),
    Mutant(
        "low-priority-never-wins",
        "_state",
        "        handicap = 0 if again else (",
        "        handicap = (",
        "a voter of low priority is always a term behind a quicker one that cannot win",
        "tests/raft/test_scenarios_elections.py"
        "::test_low_priority_waits_longer_for_its_first_campaign_alone",
    ),
    Mutant(
        "leader-not-protected",
        "_state",
        "        return self.leader != NO_NODE or self.grace",
        "        return False",
        "a node that was cut off, or removed, unseats a living leader",
        "tests/raft/test_scenarios_elections.py"
        "::test_13_removed_voter_that_does_not_know_cannot_disrupt",
    ),
    Mutant(
        "past-leader-not-told",
        "_dispatch",
        "    if isinstance(message, _FROM_LEADER):\n        node.send(",
        "    if isinstance(message, tuple()):\n        node.send(",
        "a candidate of a high term stays out for ever (etcd 5468)",
        "tests/raft/test_scenarios_elections.py"
        "::test_10_leader_of_the_past_hears_of_the_present_term",
    ),
    Mutant(
        "higher-term-stops-the-clock",
        "_roles",
        "    if leader != NO_NODE or node.role == Role.LEADER:\n",
        "    if True:\n",
        "a quick candidate that cannot win keeps the others from campaigning",
        "tests/raft/test_scenarios_elections.py"
        "::test_11_quick_candidate_that_cannot_win_does_not_keep_the_other_from_winning",
    ),
    Mutant(
        "removed-leader-stays",
        "_changes",
        "    elif not current.is_voter(node.id):\n        abdicate(node)",
        "    elif not current.is_voter(node.id):\n        return",
        "a leader that was taken out leads on",
        "tests/raft/test_scenarios_membership.py::test_14_leader_leaves_and_hands_over",
    ),
    Mutant(
        "removed-voter-never-campaigns",
        "_track",
        "            if index <= commit:\n                return False",
        "            if index:\n                return False",
        "two voters, of whom one holds its own removal alone, are stuck",
        "tests/raft/test_scenarios_membership.py"
        "::test_16_removed_voter_campaigns_while_its_removal_is_not_committed",
    ),
    Mutant(
        "transfer-to-lagging-target",
        "_handover",
        "    elif progress.match == node.log.last:",
        "    else:",
        "a target is told to campaign before it holds the whole log",
        "tests/raft/test_scenarios_handover.py::test_23_lagging_target_is_brought_up_to_date_first",
    ),
    Mutant(
        "transfer-never-given-up",
        "_handover",
        "    if node.transfer_ticks >= node.config.election_ticks:",
        "    if node.transfer_ticks < 0:",
        "a transfer to a dead target stops proposals for good",
        "tests/raft/test_scenarios_handover.py::test_23_target_that_crashes_is_given_up_in_time",
    ),
    Mutant(
        "stalled-leader-stays",
        "_handover",
        "    return node.is_stalled() and any(",
        "    return False and any(",
        "a leader whose disk hangs leads on, and nothing is ever committed",
        "tests/raft/test_scenarios_storage.py"
        "::test_22_leader_whose_disk_hangs_hands_over_in_bounded_time",
    ),
    Mutant(
        "window-never-shrinks",
        "_progress",
        "            self.window.shrink()\n",
        "",
        "in a network that reorders, rejections breed rejections",
        "tests/raft/test_scenarios_replication.py"
        "::test_overtaking_appends_do_not_breed_more_of_them",
    ),
    Mutant(
        "snapshot-complete-and-not-installed",
        "_snapshots",
        "    if node.partial_bytes == meta.size_bytes and meta.size_bytes:",
        "    if node.partial_bytes > meta.size_bytes:",
        "a power cut after the last piece leaves a snapshot that is never installed",
        "tests/raft/test_scenarios_snapshots.py"
        "::test_18_power_cut_between_the_last_piece_and_the_installation",
    ),
    Mutant(
        "snapshot-resumed-with-another-one",
        "_snapshots",
        "    if node.partial != meta:\n        if message.offset:",
        "    if node.partial is None:\n        if message.offset:",
        "pieces of two snapshots are put together",
        "tests/raft/test_scenarios_snapshots.py"
        "::test_18_piece_of_another_snapshot_begins_a_new_transfer",
    ),
    Mutant(
        "lost-tail-not-noticed",
        "_replication",
        "        if message.commit > node.log.last:",
        "        if message.commit > 2**63:",
        "a node that lost its tail goes on acknowledging",
        "tests/raft/test_scenarios_storage.py"
        "::test_20_lost_tail_is_noticed_from_what_the_leader_knows",
    ),
    # Identity
    Mutant(
        "foreign-storage-counts",
        "_state",
        "if not each.foreign}",
        "}",
        "the acknowledgements of a replaced disk count",
        "tests/raft/test_scenarios_storage.py::test_20_replaced_disk_does_not_count",
    ),
    Mutant(
        "session-outlives-its-disk",
        "_replication",
        "        renew_sessions(node, before)\n",
        "",
        "a disk that is gone is registered again, and the new one stays a stranger",
        "tests/raft/test_scenarios_storage.py::test_20_disk_that_is_gone_is_not_written_down_again",
    ),
    Mutant(
        "voter-judges-its-own-storage",
        "_election",
        "    if granted and not message.pre_vote:",
        "    granted = granted and not node.is_other_storage()\n"
        "    if granted and not message.pre_vote:",
        "a voter taken in again that has not heard of it yet withholds the vote that is needed",
        "tests/raft/test_scenarios_storage.py"
        "::test_20_voter_taken_in_again_that_has_not_heard_of_it_votes",
    ),
    Mutant(
        "foreign-storage-votes",
        "_election",
        "    if not expected or (known is not None and known != message.storage_id):",
        "    if not expected:",
        "the vote of a replaced disk counts",
        "tests/raft/test_scenarios_storage.py::test_20_vote_of_a_replaced_disk_does_not_count",
    ),
]
