from __future__ import annotations

import io
import json
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streambus_broker.embedded import EmbeddedBroker
from tests.broker.conftest import config_for
from tests.broker.raw import RawClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    config = config_for(tmp_path, http="127.0.0.1:0")
    with EmbeddedBroker(config) as broker, RawClient(broker.address) as client:
        client.create_topic("orders", 2)
        for _ in range(3):
            client.produce("orders", b"v", b"w")
        client.produce("absent", b"v")
        client.fetch("orders", 0)
        yield broker


def get(broker: EmbeddedBroker, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{broker.http_address}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metrics(broker: EmbeddedBroker, path: str) -> dict[str, float]:
    status, text = get(broker, path)
    assert status == 200
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_health_is_told_in_three_ways(serving: EmbeddedBroker) -> None:
    assert get(serving, "/health/live")[0] == 200
    assert get(serving, "/health/ready")[0] == 200
    status, text = get(serving, "/health")
    assert status == 200
    health = json.loads(text)
    assert health["ready"] is True
    assert {part["name"] for part in health["components"]} >= {"network", "storage", "event_loop"}
    assert get(serving, "/nothing")[0] == 404


def test_a_broker_that_cannot_write_is_not_ready(serving: EmbeddedBroker) -> None:
    running = serving.broker
    assert running is not None
    running.node.closing = True
    assert get(serving, "/health/live")[0] == 200
    status, text = get(serving, "/health")
    assert (get(serving, "/health/ready")[0], status) == (503, 503)
    assert "shutting down" in text


def test_metrics_have_the_prefix_base_units_and_the_right_values(serving: EmbeddedBroker) -> None:
    found = metrics(serving, "/metrics")
    assert all(name.startswith("streambus_") for name in found)
    assert found['streambus_requests_total{"api": "produce"}'] == 4
    assert found["streambus_produced_records_total{}"] == 6
    assert found['streambus_rejected_batches_total{"error": "unknown_topic"}'] == 1
    assert found['streambus_request_handling_seconds_count{"api": "produce"}'] == 4
    assert found["streambus_connections{}"] == 1
    assert found["streambus_partitions{}"] == 2
    assert found["streambus_ready{}"] == 1
    assert found["streambus_process_resident_memory_bytes{}"] > 1e7
    assert found['streambus_storage_user_bytes_total{"tree": "data"}'] > 0
    assert not any("orders" in name for name in found), "the small page has no topics"


def test_details_and_kafka_names_are_pages_of_their_own(serving: EmbeddedBroker) -> None:
    detail = metrics(serving, "/metrics/detail")
    key = '{"partition": "0", "topic": "orders"}'
    assert detail["streambus_partition_high_watermark" + key] == 6
    kafka = metrics(serving, "/metrics/kafka")
    assert kafka["kafka_brokers{}"] == 1
    assert kafka['kafka_topic_partitions{"topic": "orders"}'] == 2
    assert kafka["kafka_topic_partition_current_offset" + key] == 6
    assert kafka["kafka_topic_partition_under_replicated_partition" + key] == 0


def test_what_is_no_http_is_told_in_the_log_as_json(tmp_path: Path) -> None:
    log = io.StringIO()
    config = config_for(tmp_path, http="127.0.0.1:0")
    with EmbeddedBroker(config, log_stream=log) as broker:
        assert get(broker, "/health/live")[0] == 200
        assert broker.http_address is not None
        host, _, port = broker.http_address.rpartition(":")
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
            assert stranger.recv(100).startswith(b"HTTP/1.1 400")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["level"] for line in lines if line["component"] == "http"] == ["warning"]
    assert all(line["timestamp"].endswith("Z") and "timestamp_ms" not in line for line in lines)
