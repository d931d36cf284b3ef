from __future__ import annotations

from streambus_broker.config.topics import TopicSettings
from streambus_broker.log.keys import (
    TOTALS,
    TOTALS_BYTES,
    StartMark,
    batch_key,
    decode_start_mark,
    encode_start_mark,
)
from streambus_broker.log.partition import PartitionLog
from streambus_broker.log.rewrite import rewrite_for
from streambus_protocol import Codec, check_produced_batch, decode_columns, encode_batch


def make_log(**settings: object) -> PartitionLog:
    log = PartitionLog("orders", 0, 7, TopicSettings().overridden(settings))
    log.leader_epoch = 3
    return log


def append(log: PartitionLog, count: int, timestamp_ms: int) -> tuple[bytes, bytes]:
    batch = encode_batch([b"v"] * count, base_timestamp_ms=timestamp_ms)
    header = check_produced_batch(batch, 1_000_000)
    placed = log.place(header, batch)
    log.appended(header)
    log.advance_high_watermark(log.next_offset)
    return placed


def test_a_batch_is_placed_with_offset_epoch_and_running_totals() -> None:
    log = make_log()
    append(log, 5, 100)
    end = log.end_position
    key, value = append(log, 2, 50)
    assert key == batch_key(7, 5)
    assert TOTALS.unpack_from(value) == (end, 100)  # the maximum does not fall
    columns = decode_columns(value[TOTALS_BYTES:])
    assert list(columns.offsets) == [5, 6]
    assert columns.header.leader_epoch == 3
    assert log.next_offset == log.high_watermark == 7
    assert log.size_bytes == log.end_position == end + columns.header.length


def test_nothing_changes_before_the_write_is_done() -> None:
    log = make_log()
    batch = encode_batch([b"v"], base_timestamp_ms=1)
    header = check_produced_batch(batch, 1_000_000)
    assert log.place(header, batch) == log.place(header, batch)
    assert (log.next_offset, log.end_position, log.max_timestamp_ms) == (0, 0, -1)


def test_the_high_watermark_never_falls_and_never_passes_the_end() -> None:
    log = make_log()
    append(log, 3, 1)
    assert not log.advance_high_watermark(2)
    assert not log.advance_high_watermark(3)
    assert log.advance_high_watermark(9)
    assert log.high_watermark == 3


def test_deletion_stops_at_the_high_watermark() -> None:
    log = make_log()
    append(log, 3, 1)
    log.delete_before(9, 10**9)
    assert log.log_start_offset == 3
    assert log.size_bytes == 0
    log.delete_before(1, 0)
    assert log.log_start_offset == 3


def test_a_start_mark_survives_encoding() -> None:
    mark = StartMark(3, 17, 4096, 1_700_000_000_000)
    assert decode_start_mark(encode_start_mark(mark)) == mark


def test_settings_decide_on_rewriting() -> None:
    assert rewrite_for(TopicSettings()) is None
    values = [b"v" * 100] * 50
    batch = encode_batch(values, [b"k"] * 50, base_timestamp_ms=5, timestamp_deltas=list(range(50)))
    header = check_produced_batch(batch, 1_000_000)
    settings = TopicSettings(compression="zstd", message_timestamp_type="append_time")
    rewrite = rewrite_for(settings)
    assert rewrite is not None
    rewritten = rewrite(batch, header, 999)
    columns = decode_columns(rewritten)
    assert columns.header.codec == Codec.ZSTD
    assert columns.values == values
    assert columns.keys == [b"k"] * 50
    assert list(columns.timestamps_ms) == [999] * 50
    assert len(rewritten) < len(batch)


def test_a_batch_with_the_right_codec_is_left_as_it_is() -> None:
    batch = encode_batch([b"v" * 100] * 50, base_timestamp_ms=5, codec=Codec.LZ4)
    header = check_produced_batch(batch, 1_000_000)
    rewrite = rewrite_for(TopicSettings(compression="lz4"))
    assert rewrite is not None
    assert rewrite(batch, header, 1) is batch
    none = rewrite_for(TopicSettings(compression="none"))
    assert none is not None
    assert decode_columns(none(batch, header, 1)).header.codec == Codec.NONE
