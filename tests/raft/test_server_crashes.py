"""Servers on disks that lose power at any call: what was acknowledged is there, exactly once."""

from __future__ import annotations

import pytest

from tests.raft import simulate
from tests.raft.power_cuts import MORE_ACKNOWLEDGED, Trial, agree, play
from tests.raft.power_cuts import simulate as simulate_power_cuts
from tests.raft.servers import run, running


def test_power_cuts_lose_nothing_that_was_acknowledged() -> None:
    """With real threads and real time, on one seed; the others are played faster than that."""

    async def test() -> None:
        trial = await play(0, seconds=1.5, virtual=False)
        assert trial.cuts > 1
        assert len(trial.acknowledged) >= MORE_ACKNOWLEDGED

    run(test, seconds=120)


@pytest.mark.parametrize("first", range(500, 506, 2))
def test_power_cuts_under_virtual_time_lose_nothing(first: int) -> None:
    for seed in range(first, first + 2):
        print(f"seed {seed}")
        report = simulate_power_cuts(seed)
        assert report.cuts > 5
        assert report.acknowledged > 50


def test_the_same_seed_cuts_the_same_power() -> None:
    assert simulate_power_cuts(3, 1.0) == simulate_power_cuts(3, 1.0)


def test_the_command_counts_what_was_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.main(["--servers", "--seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "seeds 0 to 0: 1 seeds hold, none fails" in printed
    assert "power cuts" in printed


def test_the_trial_notices_a_command_that_is_applied_twice() -> None:
    async def test() -> None:
        async with running(0) as cluster:
            trial = Trial(0, cluster, virtual=False)
            await cluster.start(1, (1,))
            server = await cluster.leader()
            for _ in range(2):
                await server.propose(b"twice")  # without a session
            with pytest.raises(AssertionError, match="applied twice"):
                await agree(cluster, trial)

    run(test)


def test_the_trial_notices_a_command_that_is_gone() -> None:
    async def test() -> None:
        async with running(0) as cluster:
            trial = Trial(0, cluster, virtual=False)
            await cluster.start(1, (1,))
            trial.acknowledged.append(b"never proposed")
            with pytest.raises(AssertionError, match="acknowledged and gone"):
                await agree(cluster, trial)

    run(test)
