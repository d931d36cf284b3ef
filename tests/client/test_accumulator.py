"""Batches: by size, by time, in order, within the bound, each ending once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streambus_client._accumulator import Accumulator, PendingBatch, columns_bytes, slices
from streambus_client._types import TopicPartition
from streambus_client.errors import ClientClosedError, DeliveryTimedOutError, RequestTimedOutError

WHERE = TopicPartition("t", 0)


def make(
    *,
    linger_s: float = 1.0,
    batch_bytes_max: int = 100,
    buffer_bytes_max: int = 1000,
    delivery_timeout_s: float = 10.0,
) -> Accumulator:
    return Accumulator(
        linger_s=linger_s,
        batch_bytes_max=batch_bytes_max,
        buffer_bytes_max=buffer_bytes_max,
        delivery_timeout_s=delivery_timeout_s,
    )


def add(accumulator: Accumulator, value: bytes, now: float, size_bytes: int = 30) -> PendingBatch:
    batch, _ = accumulator.append(WHERE, None, value, None, 5, size_bytes, now)
    return batch


def test_open_batch_leaves_after_the_linger_and_a_full_one_at_once() -> None:
    accumulator = make()
    add(accumulator, b"1", 0.0)
    assert accumulator.sendable(0.9) == []
    assert accumulator.next_due() == 1.0
    assert accumulator.sendable(1.0) == [WHERE]
    for number in range(3):
        add(accumulator, b"%d" % number, 0.1)
    assert accumulator.sendable(0.1) == [WHERE], "the first batch is closed by its size"


def test_next_batch_waits_for_the_one_under_way() -> None:
    accumulator = make(batch_bytes_max=30)
    for number in range(3):
        add(accumulator, b"%d" % number, 0.0)
    first = accumulator.take(WHERE)
    assert accumulator.sendable(5.0) == []
    follower = accumulator.peek_closed(WHERE)
    assert follower is not None
    assert follower.values == [b"1"]
    accumulator.put_back(first, 3.0, RequestTimedOutError("late"))
    assert accumulator.sendable(2.9) == [], "a retry is not overtaken"
    again = accumulator.take(WHERE)
    assert again is first
    assert again.attempts == 2
    accumulator.acknowledge(again, 10)
    assert first.outcome.base_offset == 10
    assert accumulator.take(WHERE).values == [b"1"]


def test_room_is_bounded_and_a_single_giant_is_let_in_alone() -> None:
    accumulator = make(buffer_bytes_max=100)
    assert accumulator.has_room(5000)
    batch = add(accumulator, b"giant", 0.0, size_bytes=5000)
    assert not accumulator.has_room(1)
    accumulator.take(WHERE)
    accumulator.fail(batch, ClientClosedError("x"))
    assert accumulator.has_room(100)
    assert accumulator.buffered_bytes == 0


def test_deadline_ends_waiting_batches_only() -> None:
    accumulator = make(batch_bytes_max=30, delivery_timeout_s=10.0)
    first = add(accumulator, b"1", 0.0)
    second = add(accumulator, b"2", 5.0)
    accumulator.take(WHERE)
    assert accumulator.expired(20.0) == [], "what is under way is judged when it comes back"
    accumulator.put_back(first, 20.0, RequestTimedOutError("late"))
    assert accumulator.expired(12.0) == [first]
    assert accumulator.expired(15.0) == [second]
    assert accumulator.empty


def test_flush_lets_open_batches_leave() -> None:
    accumulator = make()
    add(accumulator, b"1", 0.0)
    accumulator.close_all()
    assert accumulator.sendable(0.0) == [WHERE]


def test_columns_fill_in_when_the_first_key_header_or_other_time_comes() -> None:
    accumulator = make(batch_bytes_max=10_000)
    add(accumulator, b"1", 0.0)
    accumulator.append(WHERE, b"k", b"2", [("h", b"x")], 6, 30, 0.0)
    batch, index = accumulator.extend(WHERE, None, [b"3", b"4"], 5, 60, 0.0)
    assert index == 2
    assert batch.values == [b"1", b"2", b"3", b"4"]
    assert batch.keys == [None, b"k", None, None]
    assert batch.headers == [(), [("h", b"x")], (), ()]
    assert batch.timestamps_ms == [5, 6, 5, 5]


@given(
    values=st.lists(st.none() | st.binary(max_size=50), max_size=200),
    with_keys=st.booleans(),
    batch_bytes_max=st.integers(1, 400),
)
def test_slices_cover_columns_once_and_respect_the_size(
    values: list[bytes | None], with_keys: bool, batch_bytes_max: int
) -> None:
    keys: list[bytes | None] | None = list(reversed(values)) if with_keys else None
    position = 0
    for start, stop, size_bytes in slices(values, keys, batch_bytes_max):
        assert start == position < stop
        assert size_bytes == columns_bytes(values[start:stop], keys[start:stop] if keys else None)
        assert size_bytes <= batch_bytes_max or stop - start == 1
        position = stop
    assert position == len(values)


class AccumulatorMachine(RuleBasedStateMachine):
    """Any sequence of calls: nothing lost, nothing doubled, order kept, bytes accounted for."""

    def __init__(self) -> None:
        super().__init__()
        self.accumulator = make(batch_bytes_max=90, buffer_bytes_max=400)
        self.now = 0.0
        self.written: dict[TopicPartition, list[bytes | None]] = {}
        self.submitted: dict[TopicPartition, list[bytes | None]] = {}
        self.failed: dict[TopicPartition, list[bytes | None]] = {}
        self.under_way: dict[TopicPartition, PendingBatch] = {}
        self.counter = 0

    @rule(partition=st.integers(0, 2), count=st.integers(1, 4), many=st.booleans())
    def submit(self, partition: int, count: int, many: bool) -> None:
        where = TopicPartition("t", partition)
        values: list[bytes | None] = []
        for _ in range(count):
            self.counter += 1
            values.append(b"%d" % self.counter)
        if not self.accumulator.has_room(30 * count):
            return
        if many:
            self.accumulator.extend(where, None, values, 5, 30 * count, self.now)
        else:
            for value in values:
                self.accumulator.append(where, None, value, None, 5, 30, self.now)
        self.submitted.setdefault(where, []).extend(values)

    @rule(seconds=st.floats(0.0, 2.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take_all(self) -> None:
        for where in self.accumulator.sendable(self.now):
            assert where not in self.under_way
            self.under_way[where] = self.accumulator.take(where)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), verdict=st.sampled_from(["ok", "retry", "fail"]))
    def answer(self, data: st.DataObject, verdict: str) -> None:
        where = data.draw(st.sampled_from(sorted(self.under_way)))
        batch = self.under_way.pop(where)
        if verdict == "ok":
            self.accumulator.acknowledge(batch, 0)
            self.written.setdefault(where, []).extend(batch.values)
        elif verdict == "retry":
            self.accumulator.put_back(batch, self.now + 0.5, RequestTimedOutError("x"))
        else:
            self.accumulator.fail(batch, ClientClosedError("x"))
            self.failed.setdefault(where, []).extend(batch.values)

    @rule()
    def expire(self) -> None:
        for batch in self.accumulator.expired(self.now):
            where = TopicPartition(batch.topic, batch.partition)
            batch.outcome.fail(DeliveryTimedOutError("t", batch.partition, 1, None))
            self.failed.setdefault(where, []).extend(batch.values)

    @invariant()
    def nothing_is_lost_doubled_or_reordered(self) -> None:
        waiting: dict[TopicPartition, list[bytes | None]] = {}
        held = 0
        for batch in self.accumulator.pending():
            held += batch.size_bytes
            where = TopicPartition(batch.topic, batch.partition)
            waiting.setdefault(where, []).extend(batch.values)
        assert held == self.accumulator.buffered_bytes
        for where, values in self.submitted.items():
            gone = set(self.failed.get(where, []))
            kept = [value for value in values if value not in gone]
            assert kept == self.written.get(where, []) + waiting.get(where, [])


TestAccumulatorMachine = AccumulatorMachine.TestCase
TestAccumulatorMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
