from __future__ import annotations

from random import Random

from streambus_broker.log.tail import TailCache


def test_reads_begin_with_the_batch_that_holds_the_offset() -> None:
    tail = TailCache(100_000)
    for base in (0, 10, 20):
        tail.add(1, base, base + 10, b"%d" % base * 50)
    cut = tail.read(1, 15, 30, 10_000)
    assert cut is not None
    assert cut.values == [b"10" * 50, b"20" * 50]
    assert cut.size_bytes == 200
    assert tail.read(1, 30, 30, 10_000) is None
    assert tail.read(2, 0, 30, 10_000) is None


def test_a_read_stops_at_the_watermark_and_at_the_limit_but_gives_one() -> None:
    tail = TailCache(100_000)
    for base in (0, 10, 20):
        tail.add(1, base, base + 10, b"x" * 100)
    stopped = tail.read(1, 0, 20, 10_000)
    assert stopped is not None
    assert len(stopped.values) == 2
    limited = tail.read(1, 0, 30, 150)
    assert limited is not None
    assert len(limited.values) == 1
    tiny = tail.read(1, 0, 30, 1)
    assert tiny is not None
    assert len(tiny.values) == 1


def test_a_gap_makes_what_lies_before_it_unreadable() -> None:
    tail = TailCache(100_000)
    tail.add(1, 0, 10, b"x")
    tail.add(1, 20, 30, b"y")
    assert tail.read(1, 5, 30, 100) is None
    assert tail.read(1, 20, 30, 100) is not None


def test_any_order_of_operations_keeps_the_limit_and_serves_only_what_was_added() -> None:
    seed = 20_240_601
    random = Random(seed)
    tail = TailCache(20_000)
    logs: dict[int, list[tuple[int, int, bytes]]] = {number: [] for number in range(4)}
    for _ in range(20_000):
        number = random.randrange(4)
        log = logs[number]
        start = log[-1][1] if log else 0
        action = random.random()
        if action < 0.002:
            tail.forget(number)
        elif action < 0.7:
            stop = start + random.randint(1, 5)
            value = random.randbytes(random.randint(1, 300))
            log.append((start, stop, value))
            tail.add(number, start, stop, value)
        elif log:
            offset = random.randint(max(0, start - 200), start)
            cut = tail.read(number, offset, start, random.randint(1, 2000))
            if cut is not None:
                index = next(i for i, (_, stop, _) in enumerate(log) if offset < stop)
                expected = [value for _, _, value in log[index : index + len(cut.values)]]
                assert cut.values == expected, seed
        assert tail.held_bytes <= 20_000, seed


def test_a_cache_of_nothing_holds_nothing() -> None:
    tail = TailCache(0)
    tail.add(1, 0, 10, b"x")
    assert tail.read(1, 0, 10, 100) is None
    assert tail.held_bytes == 0
