"""OpenTelemetry spans around requests, sent by OTLP as the ``OTEL_*`` environment says.

Switched on by ``tracing = "otlp"``. A span is opened for each request whose frame carries a trace
context, as its child; requests without one cost nothing. Context travels further in the record
header ``traceparent``, which producers write and consumers read; a broker never opens a batch.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from streambus_broker.errors import SettingError
from streambus_protocol import APIS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_protocol import TraceContext


class OtlpTracer:
    """Opens the spans. Making one imports OpenTelemetry, which takes a fraction of a second.

    Args:
        service_instance: How this broker calls itself among the cluster's, its node id.
        version: Of this distribution.

    Raises:
        SettingError: The packages of the extra are missing.
    """

    def __init__(self, service_instance: str, version: str) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import OTELResourceDetector, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as exc:
            remedy = 'run: pip install "streambus-broker[tracing]", or set it to off'
            raise SettingError("tracing", "otlp", "needs further packages", remedy) from exc
        ours = {
            "service.name": "streambus-broker",
            "service.instance.id": service_instance,
            "service.version": version,
        }
        # The environment's service.name, where there is one, is the operator's wish.
        resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("streambus_broker", version)
        self._trace = trace

    @contextlib.contextmanager
    def request(self, context: TraceContext, api: int) -> Iterator[Any]:
        """Open a span around one request.

        Args:
            context: What the frame carried.
            api: The request's API number, known or not.
        """
        trace = self._trace
        parent = trace.SpanContext(
            trace_id=int.from_bytes(context.trace_id, "big"),
            span_id=int.from_bytes(context.span_id, "big"),
            is_remote=True,
            trace_flags=trace.TraceFlags(context.flags),
        )
        known = APIS.get(api)
        name = known.key.name.lower() if known is not None else str(api)
        with self._tracer.start_as_current_span(
            name,
            context=trace.set_span_in_context(trace.NonRecordingSpan(parent)),
            kind=trace.SpanKind.SERVER,
            attributes={"messaging.system": "streambus", "messaging.operation.name": name},
        ) as span:
            yield span

    def close(self) -> None:
        """Send what has gathered, and stop; blocks for as long as the exporter's timeout."""
        self._provider.shutdown()
