"""Traces: spans of requests, alone and as part of a client's trace, up to a collector."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from streambus_broker import BrokerConfig, ConfigError, EmbeddedBroker
from streambus_broker.broker import Broker
from streambus_broker.observe.traces import Traces
from streambus_client import Admin
from streambus_protocol import ApiKey, TraceContext
from tests.broker.collector import running_collector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTEXT = TraceContext(bytes(range(1, 17)), bytes(range(1, 9)), 1)


@pytest.fixture
def collected() -> Iterator[tuple[Traces, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    traces = Traces(7, SimpleSpanProcessor(exporter))
    yield traces, exporter
    traces.close()


def test_a_request_continues_the_trace_of_its_frame(
    collected: tuple[Traces, InMemorySpanExporter],
) -> None:
    traces, exporter = collected
    handler = traces.around(ApiKey.FETCH, lambda *_: b"answer")
    with traces.request(CONTEXT, ApiKey.FETCH):
        assert handler(1, 2) == b"answer"
    (span,) = exporter.get_finished_spans()
    assert span.name == "streambus fetch"
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None
    assert span.parent.trace_id == int.from_bytes(CONTEXT.trace_id)
    assert span.parent.span_id == int.from_bytes(CONTEXT.span_id)
    assert span.resource.attributes["service.name"] == "streambus-broker"
    assert span.resource.attributes["service.instance.id"] == "7"


def test_a_request_that_is_not_sampled_is_not_exported(
    collected: tuple[Traces, InMemorySpanExporter],
) -> None:
    traces, exporter = collected
    with traces.request(CONTEXT._replace(flags=0), ApiKey.FETCH):
        pass
    assert exporter.get_finished_spans() == ()


def test_a_request_without_a_context_and_one_that_fails_have_spans(
    collected: tuple[Traces, InMemorySpanExporter],
) -> None:
    traces, exporter = collected

    def failing(*_: object) -> bytes:
        raise ValueError("wrong")

    traces.around(ApiKey.METADATA, lambda *_: None)()
    with pytest.raises(ValueError, match="wrong"):
        traces.around(9999, failing)()
    metadata, failed = exporter.get_finished_spans()
    assert (metadata.name, metadata.parent) == ("streambus metadata", None)
    assert failed.name == "streambus api 9999"
    assert not failed.status.is_ok


def test_a_broker_exports_to_a_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = BrokerConfig(
        data_dir=str(tmp_path / "data"), listen="127.0.0.1:0", http="off", tracing="otlp"
    )
    with running_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        with EmbeddedBroker(config) as broker, Admin(broker.address) as admin:
            while not collector.arrived.wait(
                timeout=0.05
            ):  # tracing begins after the data port is open
                admin.list_topics()
    assert collector.paths == {"/v1/traces"}
    assert "streambus metadata" in {span.name for span in collector.spans}


def test_tracing_without_its_packages_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    config = BrokerConfig(
        data_dir=str(tmp_path / "data"), listen="127.0.0.1:0", http="off", tracing="otlp"
    )

    async def start() -> None:
        async with Broker(config):
            pass

    with pytest.raises(ConfigError, match="tracing"):
        asyncio.run(start())
    assert not (tmp_path / "data").exists()
