"""OpenTelemetry: a span around each send, its context in the frame and in the record's headers.

Only where ``tracing=True`` asks for it. The frame tells the broker, the record header
``traceparent`` (W3C Trace Context) tells whoever reads the record, at whatever time.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from streambus_client._version import __version__
from streambus_client.errors import InvalidArgumentError
from streambus_protocol import TRACEPARENT_HEADER, TraceContext

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streambus_client._types import Headers

frame_context: ContextVar[bytes] = ContextVar("streambus_frame_context", default=b"")
"""What precedes the body of the requests that are sent now: a trace context, or nothing."""


class Tracing:
    """What a producer with ``tracing=True`` does beside its work.

    Raises:
        InvalidArgumentError: opentelemetry-api is not installed.
    """

    def __init__(self) -> None:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise InvalidArgumentError(
                "tracing", 'needs opentelemetry-api; run: pip install "streambus-client[tracing]"'
            ) from error
        self._trace = trace
        self._tracer = trace.get_tracer("streambus_client", __version__)

    @contextlib.contextmanager
    def sending(self, topic: str, headers: Headers | None) -> Iterator[Headers | None]:
        """Open a span around a send; gives the headers with the span's context."""
        with self._tracer.start_as_current_span(
            f"send {topic}",
            kind=self._trace.SpanKind.PRODUCER,
            attributes={
                "messaging.system": "streambus",
                "messaging.operation.name": "send",
                "messaging.destination.name": topic,
            },
        ) as span:
            context = _context(span)
            token = frame_context.set(context.to_bytes() if context is not None else b"")
            try:
                yield _with_context(headers, context)
            finally:
                frame_context.reset(token)

    def carrying(self, headers: Headers | None) -> Headers | None:
        """Give the headers with the context of the caller's span, if it has one."""
        return _with_context(headers, _context(self._trace.get_current_span()))


def _context(span: Any) -> TraceContext | None:
    context = span.get_span_context()
    if not context.is_valid:
        return None
    return TraceContext(
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
        int(context.trace_flags),
    )


def _with_context(headers: Headers | None, context: TraceContext | None) -> Headers | None:
    if context is None or any(name == TRACEPARENT_HEADER for name, _ in headers or ()):
        return headers  # nothing to carry, or the caller passes another context on
    return [*(headers or ()), (TRACEPARENT_HEADER, context.to_traceparent().encode())]
