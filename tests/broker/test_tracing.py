"""A trace goes from the producer through frame and record to the broker's exporter and a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from streambus_broker import EmbeddedBroker
from streambus_client import Admin, AsyncProducer, Consumer, Producer
from tests.broker.collector import running_collector
from tests.broker.conftest import config_for, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.broker.collector import Collector


@pytest.fixture(scope="module", autouse=True)
def provider() -> None:
    """The program's own tracing, as its user sets it up."""
    trace.set_tracer_provider(TracerProvider())


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with running_collector() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
        yield running


def test_trace_reaches_the_collector_and_the_reader(tmp_path: Path, collector: Collector) -> None:
    with EmbeddedBroker(config_for(tmp_path / "data", tracing="otlp")) as broker:
        running = broker.broker
        assert running is not None
        wait_until(lambda: running.node.server.tracer is not None)  # loaded beside serving
        with Admin(broker.address) as admin:
            admin.create_topic("orders")
        with (
            trace.get_tracer("test").start_as_current_span("order") as span,
            Producer(broker.address, tracing=True) as producer,
        ):
            producer.send("orders", b"blocking", headers=[("mine", b"1")])
            producer.submit("orders", b"batched").result()

            async def send() -> None:
                async with AsyncProducer(broker.address, tracing=True) as awaited:
                    await awaited.send("orders", b"awaited")
                    await (await awaited.submit("orders", b"awaited, batched"))

            anyio.run(send)
        with Consumer(broker.address, "orders", start="earliest") as consumer:
            records = consumer.poll(max_records=4, timeout=10)
            while len(records) < 4:
                records += consumer.poll(max_records=4, timeout=10)
    trace_id = f"{span.get_span_context().trace_id:032x}"
    parents = set()
    assert records[0].headers[0] == ("mine", b"1")
    for record in records:
        [parent] = [value for name, value in record.headers if name == "traceparent"]
        assert parent is not None
        version, found_trace, span_id, _ = parent.decode().split("-")
        assert (version, found_trace) == ("00", trace_id)
        parents.add(span_id)
    produced = [one for one in collector.spans if one.name == "streambus produce"]
    produced = [one for one in produced if one.parent_id]
    assert {one.trace_id for one in produced} == {trace_id}
    assert len(produced) == 2, "one for each send; a batch has no one trace"
    assert {one.parent_id for one in produced} <= parents


def test_trace_of_a_producer_without_tracing_leaves_records_alone(broker: EmbeddedBroker) -> None:
    with Admin(broker.address) as admin:
        admin.create_topic("plain")
    span = trace.get_tracer("test").start_as_current_span("order")
    with span, Producer(broker.address) as producer:
        producer.send("plain", b"v")
    with Consumer(broker.address, "plain", start="earliest") as consumer:
        [record] = consumer.poll(timeout=10)
    assert record.headers == ()


def test_traced_frames_are_served_by_a_broker_that_does_not_trace(broker: EmbeddedBroker) -> None:
    with Admin(broker.address) as admin:
        admin.create_topic("traced")
    with Producer(broker.address, tracing=True) as producer:
        assert producer.send("traced", b"v").offset == 0
        assert producer.send("traced", b"v", key=b"k").offset == 1
