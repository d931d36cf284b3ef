"""The checker finds what it is there to find: known good histories pass, known bad ones do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.history import CheckFailedError, History, Reader

Change = Callable[[History, list[list[bytes]], Reader], None]


def a_good_run() -> tuple[History, list[list[bytes]], Reader]:
    """Two producers, one partition; of each the middle record was not acknowledged."""
    history = History(partitions=1, producers=2)
    log: list[bytes] = []
    for _ in range(3):
        for producer in (0, 1):
            record = history.sending(producer, 0, "all")
            if record.name != b"1-1":  # that one was lost on its way
                log.append(record.name)
            if not record.name.endswith(b"-1"):
                record.offset = len(log) - 1
    reader = Reader("reader")
    for offset, name in enumerate(log):
        history.read(reader, 0, offset, name)
    history.watermarks[0] = len(log)
    return history, [log], reader


def lost(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    history.consumed.clear()
    history.watermarks[0] = 0
    logs[0].pop()


def doubled(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    logs[0].append(logs[0][0])


def doubled_without_acknowledgement(
    history: History, logs: list[list[bytes]], reader: Reader
) -> None:
    logs[0].append(b"0-1")


def reordered(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    history.consumed.clear()
    logs[0].append(b"1-1")


def moved(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    history.consumed.clear()
    logs[0].insert(0, b"1-1")


def invented(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    logs[0].append(b"2-0")


def read_and_gone(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    history.read(reader, 0, 5, b"1-1")


def read_elsewhere(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    history.read(Reader("other"), 0, 0, logs[0][1])


def read_with_a_gap(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    history.read(Reader("other"), 0, 1, logs[0][1])


def read_twice(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    history.read(reader, 0, 4, logs[0][4])


def committed_and_gone(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    history.watermarks[0] = 6


def told_and_gone(history: History, logs: list[list[bytes]], reader: Reader) -> None:
    history.told(0, 6)


def test_a_good_run_passes() -> None:
    history, logs, _ = a_good_run()
    history.check(logs)
    assert history.acknowledged_count == 4
    assert history.unanswered_count == 2
    assert history.consumed_count == 5


def test_what_the_leader_alone_acknowledged_may_be_lost_in_a_cluster() -> None:
    history = History(partitions=1, producers=1)
    history.sending(0, 0, 1).offset = 0
    history.check([[]])


def test_a_single_broker_loses_what_was_not_synced_only_with_its_power() -> None:
    history = History(partitions=1, producers=1, forgetful=True)
    history.sending(0, 0, 1).offset = 0
    with pytest.raises(CheckFailedError):
        history.check([[]])
    history.power_cuts += 1
    history.check([[]])


@pytest.mark.parametrize(
    "spoil",
    [
        lost, doubled, doubled_without_acknowledgement, reordered, moved, invented, read_and_gone,
        read_elsewhere, read_with_a_gap, read_twice, committed_and_gone, told_and_gone,
    ],
)  # fmt: skip
def test_a_bad_run_is_found(spoil: Change) -> None:
    history, logs, reader = a_good_run()
    with pytest.raises(CheckFailedError):
        spoil(history, logs, reader)
        history.check(logs)
