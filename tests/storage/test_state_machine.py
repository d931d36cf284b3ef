"""Any operations in any order, under any options, equal a sorted dictionary."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from streambus_storage import LSMTree
from streambus_storage.testing import SimulatedWorld
from tests.storage.model import Batch, Delete, DeleteRange, Model, Operation, Put, apply_to_tree
from tests.storage.option_sets import random_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_storage import Snapshot

PATH = "/data/tree"

Pair = tuple[bytes, bytes]

KEYS = st.one_of(
    st.sampled_from(
        [b"a", b"a/1", b"a/2", b"b", b"b/1", b"b\x00", b"\xff", b"\xff\xff", b"c" * 300]
    ),
    st.binary(min_size=1, max_size=3),
)
VALUES = st.one_of(
    st.binary(max_size=8),
    st.builds(
        lambda letter, size: letter * size,
        st.binary(min_size=1, max_size=1),
        st.sampled_from([63, 64, 200, 5000]),
    ),
)
BOUNDS = st.one_of(st.none(), KEYS)
PUTS = st.builds(Put, KEYS, VALUES)
DELETES = st.builds(Delete, KEYS)
RANGES = st.tuples(KEYS, KEYS).map(lambda p: DeleteRange(min(p), max(p) + b"\x00" * (p[0] == p[1])))
BATCHES = st.lists(st.one_of(PUTS, DELETES, RANGES), max_size=6).map(
    lambda parts: Batch(tuple(parts))
)


class HeldScan(NamedTuple):
    """A scan in the middle, and what it must still give; void when the tree was reopened."""

    generation: int
    scan: Iterator[Pair]
    expected: list[Pair]


class TreeEqualsModel(RuleBasedStateMachine):
    """A tree on a simulated disk beside a `Model`; snapshots and scans beside copies of it."""

    snapshots: Bundle[tuple[Snapshot, Model]] = Bundle("snapshots")
    scans: Bundle[HeldScan] = Bundle("scans")

    @initialize(options=st.integers(0, 999), eagerness=st.sampled_from([0.0, 0.5, 1.0]))
    def open(self, options: int, eagerness: float) -> None:
        self.world = SimulatedWorld(options, eagerness=eagerness)
        self.options: dict[str, Any] = random_options(random.Random(options))
        self.model = Model()
        self.opened: list[Snapshot] = []
        self.generation = 0
        self.tree = self.open_tree()

    def open_tree(self) -> LSMTree:
        return LSMTree.open(PATH, self.world.options(**self.options))

    @rule(operation=st.one_of(PUTS, DELETES, RANGES, BATCHES), sync=st.booleans())
    def write(self, operation: Operation, sync: bool) -> None:
        apply_to_tree(self.tree, operation, sync=sync)
        self.model.apply(operation)

    @rule(prefix=KEYS, count=st.integers(1, 60), size=st.sampled_from([1, 50, 200]))
    def write_many(self, prefix: bytes, count: int, size: int) -> None:
        for number in range(count):
            operation = Put(prefix + number.to_bytes(2, "big"), b"%d" % number * size)
            apply_to_tree(self.tree, operation)
            self.model.apply(operation)

    @rule(keys=st.lists(KEYS, max_size=8))
    def get(self, keys: list[bytes]) -> None:
        expected = [self.model.entries.get(key) for key in keys]
        assert [self.tree.get(key) for key in keys] == expected
        assert list(self.tree.multi_get(keys)) == expected
        assert [key in self.tree for key in keys] == [value is not None for value in expected]
        for key, value in zip(keys, expected, strict=True):
            view = self.tree.get_view(key)
            assert (None if view is None else bytes(view)) == value
            assert self.tree.get(key, b"default") == (b"default" if value is None else value)
            place = self.tree.locate(key)
            if place is not None:
                content = self.world.disk.content(place.path)
                assert content[place.offset : place.offset + place.length] == value

    @rule(start=BOUNDS, stop=BOUNDS, reverse=st.booleans())
    def scan(self, start: bytes | None, stop: bytes | None, reverse: bool) -> None:
        if start is not None and stop is not None and start > stop:
            start, stop = stop, start
        found = list(self.tree.scan(start=start, stop=stop, reverse=reverse))
        assert found == list(self.model.scan(start, stop, reverse=reverse))

    @rule(prefix=st.one_of(KEYS, st.just(b"")), reverse=st.booleans())
    def scan_prefix(self, prefix: bytes, reverse: bool) -> None:
        found = list(self.tree.scan(prefix=prefix, reverse=reverse))
        assert found == list(self.model.scan(prefix=prefix, reverse=reverse))
        assert self.tree.first(prefix) == self.model.first(prefix)
        assert self.tree.last(prefix) == self.model.last(prefix)

    @rule(target=snapshots)
    def take_snapshot(self) -> tuple[Snapshot, Model]:
        snapshot = self.tree.snapshot()
        self.opened.append(snapshot)
        return snapshot, self.model.copy()

    @rule(pair=snapshots, key=KEYS, start=BOUNDS, reverse=st.booleans())
    def read_snapshot(
        self, pair: tuple[Snapshot, Model], key: bytes, start: bytes | None, reverse: bool
    ) -> None:
        snapshot, model = pair
        if snapshot not in self.opened:
            return  # closed by a reopening
        assert snapshot.get(key) == model.entries.get(key)
        found = list(snapshot.scan(start=start, reverse=reverse))
        assert found == list(model.scan(start, reverse=reverse))

    @rule(pair=consumes(snapshots))
    def close_snapshot(self, pair: tuple[Snapshot, Model]) -> None:
        pair[0].close()
        if pair[0] in self.opened:
            self.opened.remove(pair[0])

    @rule(target=scans, reverse=st.booleans(), first=st.integers(0, 3))
    def begin_scan(self, reverse: bool, first: int) -> HeldScan:
        expected = list(self.model.scan(reverse=reverse))
        scan = iter(self.tree.scan(reverse=reverse))
        for _ in range(first):
            assert next(scan, None) == (expected.pop(0) if expected else None)
        return HeldScan(self.generation, scan, expected)

    @rule(held=consumes(scans))
    def end_scan(self, held: HeldScan) -> None:
        if held.generation == self.generation:
            assert list(held.scan) == held.expected

    @rule()
    def flush(self) -> None:
        self.tree.flush()

    @rule(start=BOUNDS, stop=BOUNDS)
    def compact(self, start: bytes | None, stop: bytes | None) -> None:
        if start is not None and stop is not None and start > stop:
            start, stop = stop, start
        self.tree.compact(start, stop)

    @rule()
    def run_background(self) -> None:
        self.world.scheduler.run_until_idle()

    @rule(options=st.integers(0, 999), kill=st.booleans())
    def reopen(self, options: int, kill: bool) -> None:
        """Close, or be killed (nothing that was written is lost), and open under other options."""
        for snapshot in self.opened:
            snapshot.close()
        self.opened.clear()
        self.generation += 1
        if kill:
            killed = self.world
            self.world = killed.power_cut("keep")
            killed.scheduler.eagerness = 0
        else:
            self.tree.close()
        self.options = random_options(random.Random(options))
        self.tree = self.open_tree()

    @rule()
    def verify(self) -> None:
        self.tree.verify()

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "tree") and len(self.model.entries) < 30:
            assert dict(self.tree.scan()) == dict(self.model.entries)

    def teardown(self) -> None:
        if hasattr(self, "tree"):
            for snapshot in self.opened:
                snapshot.close()
            self.tree.close()


TestTreeEqualsModel = TreeEqualsModel.TestCase
TestTreeEqualsModel.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
