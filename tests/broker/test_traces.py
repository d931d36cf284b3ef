"""Traces: spans of requests, alone and as part of a client's trace, up to a collector."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
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


class Collector(BaseHTTPRequestHandler):
    bodies: list[tuple[str, bytes]]
    arrived: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append((self.path, body))
        self.send_response(200)
        self.end_headers()
        self.arrived.set()

    def log_message(self, *_: object) -> None:  # what it would write to stderr
        pass


@contextlib.contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]], threading.Event]]:
    received: list[tuple[str, bytes]] = []
    arrived = threading.Event()
    handler = type("Handler", (Collector,), {"bodies": received, "arrived": arrived})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", received, arrived
        finally:
            server.shutdown()
            thread.join()


def test_a_broker_exports_to_a_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = BrokerConfig(
        data_dir=str(tmp_path / "data"), listen="127.0.0.1:0", http="off", tracing="otlp"
    )
    with collector() as (endpoint, received, arrived):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        with EmbeddedBroker(config) as broker, Admin(broker.address) as admin:
            while not arrived.wait(timeout=0.05):  # tracing begins after the data port is open
                admin.list_topics()
    assert {path for path, _ in received} == {"/v1/traces"}
    assert any(b"streambus metadata" in body for _, body in received)


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
