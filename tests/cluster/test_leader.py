"""What is committed, and who is in sync, as the leader of a partition sees it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streambus_broker.cluster.leader import LeaderReplication

ALL = {1, 2, 3}


def leader_of(
    in_sync: tuple[int, ...] = (1, 2, 3), *, log_end: int = 0, minimum: int = 2
) -> LeaderReplication:
    return LeaderReplication(
        1,
        (1, 2, 3),
        in_sync,
        log_end=log_end,
        durable=log_end,
        high_watermark=0,
        min_in_sync=minimum,
        lag_s_max=10.0,
        now_s=0.0,
    )


def test_nothing_is_committed_before_everybody_in_sync_has_synced_it() -> None:
    leader = leader_of()
    leader.appended(5)
    assert leader.synced(5) == 0
    assert leader.fetched(2, 5, 0, 1.0) == 0
    assert leader.fetched(3, 5, 5, 1.0) == 0
    assert leader.progressed(2, 4, 1.1) == 4
    assert leader.progressed(2, 5, 1.2) == 5


def test_the_leaders_own_sync_counts_too() -> None:
    leader = leader_of()
    leader.appended(5)
    leader.fetched(2, 5, 5, 1.0)
    assert leader.fetched(3, 5, 5, 1.0) == 0
    assert leader.synced(3) == 3


def test_below_the_minimum_nothing_is_committed() -> None:
    leader = leader_of(in_sync=(1,))
    leader.appended(5)
    assert leader.synced(5) == 0
    leader.fetched(2, 5, 5, 1.0)
    assert leader.use_in_sync((1, 2)) == 5


def test_a_requested_member_counts_until_the_controller_has_answered() -> None:
    leader = leader_of(in_sync=(1, 2))
    leader.appended(5)
    leader.fetched(2, 5, 5, 1.0)
    leader.fetched(3, 3, 3, 1.0)
    leader.asked((1, 2, 3))
    assert leader.synced(5) == 3
    leader.refused()
    assert leader.synced(5) == 5


def test_a_follower_joins_when_it_has_everything_committed_and_the_epochs_beginning() -> None:
    leader = leader_of(in_sync=(1, 2), log_end=10)
    leader.fetched(2, 10, 8, 0.5)
    leader.fetched(3, 9, 9, 1.0)
    assert leader.high_watermark == 8
    assert leader.wanted_in_sync(1.0, ALL) is None
    leader.fetched(3, 10, 10, 1.0)
    assert leader.wanted_in_sync(1.0, ALL) == (1, 2, 3)


def test_a_follower_that_lags_leaves_by_time() -> None:
    leader = leader_of()
    leader.appended(10)
    leader.fetched(2, 10, 10, 8.0)
    leader.fetched(3, 5, 5, 8.0)
    assert leader.wanted_in_sync(9.0, ALL) is None
    assert leader.wanted_in_sync(10.5, ALL) == (1, 2)
    leader.asked((1, 2))
    assert leader.wanted_in_sync(11.0, ALL) is None


def test_a_dead_member_leaves_as_soon_as_somebody_else_is_in_its_place() -> None:
    """It stayed for the minimum's sake, and nothing is committed while it counts."""
    leader = leader_of(in_sync=(1, 2))
    living = {1, 3}
    assert leader.wanted_in_sync(1.0, living) == (1,), "below the minimum: not to be asked for"
    leader.fetched(3, 0, 0, 1.0)
    assert leader.wanted_in_sync(1.0, living) == (1, 3)


def test_a_follower_that_keeps_up_under_load_stays() -> None:
    leader = leader_of()
    for step in range(1, 200):
        leader.appended(step * 10)
        leader.fetched(2, step * 10, step * 10, step * 1.0)
        leader.fetched(3, step * 10 - 5, step * 10 - 5, step * 1.0)  # always a little behind
        assert leader.wanted_in_sync(step * 1.0, ALL) is None


def test_a_lost_session_counts_for_nothing_until_it_fetches_again() -> None:
    leader = leader_of()
    leader.appended(5)
    leader.synced(5)
    for follower in (2, 3):
        leader.fetched(follower, 5, 5, 1.0)
    leader.lost(3)
    leader.appended(6)
    leader.synced(6)
    leader.fetched(2, 6, 6, 1.0)
    assert leader.progressed(3, 6, 1.0) == 5
    assert leader.fetched(3, 0, 0, 1.0) == 5, "never back"


def test_a_stranger_changes_nothing() -> None:
    leader = leader_of()
    leader.appended(5)
    leader.synced(5)
    assert leader.fetched(9, 5, 5, 1.0) == 0
    assert leader.progressed(9, 5, 1.0) == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 5)),
            st.tuples(st.just("sync"), st.integers(0, 60)),
            st.tuples(st.sampled_from(["fetch2", "fetch3", "progress2", "progress3"]),
                      st.integers(0, 60)),
            st.tuples(st.sampled_from(["lost2", "lost3", "refused"]), st.just(0)),
            st.tuples(st.sampled_from(["in_sync", "asked"]), st.integers(0, 3)),
        ),
        max_size=60,
    )
)  # fmt: skip
def test_the_watermark_never_falls_nor_passes_what_all_in_sync_hold(
    steps: list[tuple[str, int]],
) -> None:
    leader = leader_of()
    held = {1: 0, 2: 0, 3: 0}
    sets = [(1, 2, 3), (1, 2), (1, 3), (1,)]
    seen = 0
    for what, value in steps:
        grown = False
        if what == "append":
            leader.appended(leader.log_end + value)
        elif what == "sync":
            held[1] = max(held[1], min(value, leader.log_end))
            leader.synced(min(value, leader.log_end))
        elif what.startswith("fetch"):
            follower, position = int(what[-1]), min(value, leader.log_end)
            held[follower] = max(held[follower], position)
            leader.fetched(follower, position, position, 0.0)
        elif what.startswith("progress"):
            follower, position = int(what[-1]), min(value, leader.log_end)
            held[follower] = max(held[follower], position)
            leader.progressed(follower, position, 0.0)
        elif what.startswith("lost"):
            leader.lost(int(what[-1]))
        elif what == "in_sync":
            leader.use_in_sync(sets[value])
            grown = True
        elif what == "asked":
            leader.asked(sets[value])
        else:
            leader.refused()
        assert leader.high_watermark >= seen
        if leader.high_watermark > seen and not grown:
            assert len(leader.in_sync) >= 2
            assert leader.high_watermark <= min(held[each] for each in leader.in_sync)
        seen = leader.high_watermark
