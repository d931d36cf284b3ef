"""OpenTelemetry spans of requests, exported by OTLP over HTTP as the ``OTEL_*`` variables say.

A request whose frame carries a trace context continues that trace; any other begins one of its own,
if the sampler wants it (``OTEL_TRACES_SAMPLER``). A span covers the handler: waiting for records or
for durability is not in it. Spans are exported in batches by a thread of the SDK, and dropped where
the collector does not keep up: tracing never holds up a request.

Needs the extra ``streambus-broker[tracing]``; imported only where tracing is on.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from streambus_protocol import ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.sdk.trace import SpanProcessor

    from streambus_protocol import TraceContext

_NAMES = {int(api): f"streambus {api.name.lower()}" for api in ApiKey}


class Traces:
    """Opens a span around each request.

    Args:
        node_id: Number of this broker; part of the resource.
        processor: Where spans go; None for OTLP over HTTP in batches.
    """

    def __init__(self, node_id: int, processor: SpanProcessor | None = None) -> None:
        if processor is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            processor = BatchSpanProcessor(OTLPSpanExporter())
        named = Resource.create({"service.instance.id": str(node_id)})
        if str(named.attributes[SERVICE_NAME]).startswith("unknown_service"):
            named = named.merge(Resource({SERVICE_NAME: "streambus-broker"}))
        self._provider = TracerProvider(resource=named)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("streambus_broker")

    @contextlib.contextmanager
    def request(self, context: TraceContext | None, api: int) -> Iterator[None]:
        """Open the span of one request; an error that leaves the block is recorded in it."""
        parent = None
        if context is not None:
            remote = SpanContext(
                int.from_bytes(context.trace_id),
                int.from_bytes(context.span_id),
                is_remote=True,
                trace_flags=TraceFlags(context.flags),
            )
            parent = set_span_in_context(NonRecordingSpan(remote))
        with self._tracer.start_as_current_span(
            _NAMES.get(api, f"streambus api {api}"), context=parent, kind=SpanKind.SERVER
        ) as span:
            span.set_attribute("messaging.system", "streambus")
            yield

    def around(self, api: int, handler: Callable[..., bytes | None]) -> Callable[..., bytes | None]:
        """Wrap a handler, so that requests without a context have a span too."""

        def traced(*arguments: object) -> bytes | None:
            if get_current_span().get_span_context().is_valid:  # opened for the frame's context
                return handler(*arguments)
            with self.request(None, api):
                return handler(*arguments)

        return traced

    def close(self) -> None:
        """Export what is left, and stop. Blocks for as long as the exporter's timeout allows."""
        self._provider.shutdown()
