"""An OTLP endpoint that keeps the spans it is sent."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Span(NamedTuple):
    """What tests look at; ids in hexadecimal, empty for none."""

    name: str
    trace_id: str
    parent_id: str


class Collector(ThreadingHTTPServer):
    """See the module.

    Attributes:
        spans: All that came.
        paths: Where they were sent to.
        arrived: Set with the first.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.spans: list[Span] = []
        self.paths: set[str] = set()
        self.arrived = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
        collector = self.server
        assert isinstance(collector, Collector)
        collector.paths.add(self.path)
        collector.spans += [
            Span(span.name, span.trace_id.hex(), span.parent_span_id.hex())
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        self.send_response(200)
        self.end_headers()
        collector.arrived.set()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector that serves while the context is open."""
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()
