"""The trace context that a frame may carry before its body (W3C Trace Context, level 1).

Fixed layout of 25 bytes: trace id (16), parent span id (8), trace flags (1). The version field of
the text form is always 00 here and is not sent.
"""

from __future__ import annotations

from typing import NamedTuple

from streambus_protocol.errors import MalformedFrameError

TRACE_CONTEXT_BYTES = 25
TRACEPARENT_HEADER = "traceparent"
"""The record header that carries a context through the log, in its W3C text form."""


class TraceContext(NamedTuple):
    """Who is asking, for distributed tracing.

    Attributes:
        trace_id: 16 bytes, not all zero.
        span_id: 8 bytes, not all zero.
        flags: 0 to 255; bit 0 says that the trace is sampled.
    """

    trace_id: bytes
    span_id: bytes
    flags: int

    def to_bytes(self) -> bytes:
        """Give the 25 bytes that precede a body in a frame with the TRACED flag."""
        return self.trace_id + self.span_id + bytes((self.flags,))

    def to_traceparent(self) -> str:
        """Give the W3C text form, ``00-<trace id>-<span id>-<flags>``."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{self.flags:02x}"

    @classmethod
    def from_traceparent(cls, text: str) -> TraceContext | None:
        """Read the W3C text form; None when it is not one, as the specification asks."""
        parts = text.split("-")
        if (
            len(parts) < 4
            or [len(part) for part in parts[:4]] != [2, 32, 16, 2]
            or parts[0] == "ff"
        ):
            return None
        try:
            trace_id, span_id, flags = (bytes.fromhex(part) for part in parts[1:4])
        except ValueError:
            return None
        if not any(trace_id) or not any(span_id):
            return None
        return cls(trace_id, span_id, flags[0])


def split_trace(body: bytes) -> tuple[TraceContext, bytes]:
    """Take the trace context off the body of a frame with the TRACED flag.

    Raises:
        MalformedFrameError: the body is shorter than a trace context.
    """
    if len(body) < TRACE_CONTEXT_BYTES:
        raise MalformedFrameError("a traced frame is shorter than its trace context")
    return TraceContext(body[:16], body[16:24], body[24]), body[TRACE_CONTEXT_BYTES:]
